"""Downloads: where a URL, a name or a redirect may lead, and nowhere else."""

from __future__ import annotations

import socket
from typing import Any
from unittest import mock

import pytest

from controlmill.pipelines.corpora import download
from controlmill.pipelines.corpora.download import Downloader
from controlmill.pipelines.corpora.download_options import DownloadOptions
from controlmill.schemas.errors import Refused
from tests.pipelines.corpora.downloading import PICTURE, QUICK, begin, fetch, refusal
from tests.pipelines.corpora.hostile_server import Answer, Server, plain, redirect, serving


@pytest.mark.parametrize(
    "host", ["127.0.0.1", "localhost", "0x7f.1", "127.1", "2130706433", "017700000001", "0.0.0.0", "[::ffff:127.0.0.1]"]
)
def test_this_machine_is_no_public_address_however_it_is_written(host: str) -> None:
    with serving({"/a": plain(200, PICTURE)}) as server:
        url = f"http://{host}:{server.server_address[1]}/a"
        assert refusal(url, allow_private_hosts=False).reason == "refused_address"
        assert not server.requests
        assert fetch(f"{server.url}/a") == PICTURE


@pytest.mark.parametrize("host", ["169.254.169.254", "[fe80::1]", "10.0.0.1", "100.64.0.1", "[64:ff9b::a9fe:a9fe]"])
def test_other_addresses_that_are_not_public_are_not_connected_to(host: str) -> None:
    assert refusal(f"http://{host}/latest/meta-data", allow_private_hosts=False).reason == "refused_address"


def public_twin(answers: dict[str, Answer]) -> Any:
    """A server whose address, 127.0.0.2, is taken for a public one."""
    return serving(answers, "127.0.0.2")


@pytest.fixture
def twin_is_public(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(download, "is_public", lambda address: address == "127.0.0.2")


@pytest.mark.usefixtures("twin_is_public")
def test_a_redirect_is_decided_anew() -> None:
    with serving({"/secret": plain(200, PICTURE)}) as inside:
        answers = {
            "/in": redirect(f"{inside.url}/secret"),
            "/meta": redirect("http://169.254.169.254/latest"),
            "/on": redirect("/ok"),
            "/ok": plain(200, PICTURE),
        }
        with public_twin(answers) as outside:
            for path in ("/in", "/meta"):
                assert refusal(outside.url + path, allow_private_hosts=False).reason == "refused_address"
            assert fetch(f"{outside.url}/on", allow_private_hosts=False) == PICTURE
            assert not inside.requests
            assert fetch(f"{outside.url}/in", allow_private_hosts=True) == PICTURE


def resolving(monkeypatch: pytest.MonkeyPatch, *addresses: str) -> list[str]:
    """Any name has these addresses, one after another; what was asked."""
    asked: list[str] = []
    left = list(addresses)

    def getaddrinfo(host: str, port: int, *_: Any, **__: Any) -> list[Any]:
        asked.append(host)
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (left.pop(0), port))]

    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)
    return asked


@pytest.mark.usefixtures("twin_is_public")
def test_a_name_that_resolves_differently_the_second_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """What was looked at is what is connected to; a new connection is looked at anew."""
    with public_twin({"/a": plain(200, PICTURE, Connection="close")}) as outside:
        port = outside.server_address[1]
        with mock.patch.object(Server, "server_bind", _bind_to(port)), serving({"/a": plain(200, PICTURE)}) as inside:
            asked = resolving(monkeypatch, "127.0.0.2", "127.0.0.1")
            monkeypatch.setattr(download, "NAMES_SECONDS", 0)
            downloader = Downloader(DownloadOptions(**{**QUICK, "allow_private_hosts": False}))
            url = f"http://two-faced.example:{port}/a"
            assert begin(downloader, url).result(30) == PICTURE
            assert (asked, inside.requests["/a"]) == (["two-faced.example"], 0)
            with pytest.raises(Refused, match="not at a public address"):
                begin(downloader, url).result(30)
            downloader.close()
        assert not inside.requests


def _bind_to(port: int) -> Any:
    really = Server.server_bind

    def bind(server: Server) -> None:
        server.server_address = (server.server_address[0], port)
        really(server)

    return bind


def test_a_name_without_an_address(monkeypatch: pytest.MonkeyPatch) -> None:
    def unknown(*_: Any, **__: Any) -> Any:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", unknown)
    refused = refusal("http://nobody.example/a.jpg", retries=1)
    assert (refused.reason, refused.error) == ("http_error", "its host has no address")


@pytest.mark.parametrize(
    "url", ["file:///etc/passwd", "ftp://h/a", "//h/a", "data:image/png;base64,AAAA", "", "http:///a"]
)
def test_only_http_is_fetched(url: str) -> None:
    assert refusal(url).reason == "refused_address"


@pytest.mark.parametrize("url", ["http://h:99999/a", f"http://{'a' * 70}.example/a", "http://xn--/a", "http://[::1/a"])
def test_what_only_looks_like_a_url(url: str) -> None:
    assert refusal(url).reason == "refused_address"


def test_no_proxy_of_the_environment_is_used(monkeypatch: pytest.MonkeyPatch) -> None:
    with serving({"/a": plain(200, PICTURE)}) as server, serving({}) as proxy:
        for name in ("http_proxy", "HTTP_PROXY", "ALL_PROXY"):
            monkeypatch.setenv(name, proxy.url)
        assert fetch(f"{server.url}/a") == PICTURE
        assert not proxy.requests
