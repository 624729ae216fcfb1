"""A network that is down stops a job; one host, or the names of one, does not."""

from __future__ import annotations

import socket
from collections.abc import Sequence
from typing import Any

import pytest

from controlmill.pipelines.corpora import network
from controlmill.pipelines.corpora.download import Downloader
from controlmill.pipelines.corpora.download_options import DownloadOptions
from controlmill.pipelines.engine.faults import JobFault
from controlmill.schemas.errors import Refused
from tests.pipelines.corpora.downloading import QUICK, begin
from tests.pipelines.corpora.hostile_server import plain, serving


def not_found_out(monkeypatch: pytest.MonkeyPatch, *, has_route: bool) -> None:
    """Names of hosts cannot be looked up for the time being; ``localhost`` can."""
    real = socket.getaddrinfo

    def getaddrinfo(host: str, *arguments: Any, **settings: Any) -> Any:
        if host == "localhost":
            return real("127.0.0.1", *arguments, **settings)
        raise socket.gaierror(socket.EAI_AGAIN, "Temporary failure in name resolution")

    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)
    monkeypatch.setattr(network, "has_route", lambda: has_route)


def outcomes(urls: Sequence[str]) -> list[str]:
    """The reason that each is refused for, "down" where the job is to stop, "" for a picture; one after another."""
    found = []
    downloader = Downloader(DownloadOptions(**QUICK))
    for url in urls:
        try:
            begin(downloader, url).result(timeout=60)
            found.append("")
        except Refused as refused:
            found.append(refused.reason)
        except JobFault as fault:
            assert "the network is down" in str(fault)
            found.append("down")
    downloader.close()
    return found


def test_a_network_that_is_down_stops_the_job(monkeypatch: pytest.MonkeyPatch) -> None:
    """At once where no host has answered yet; then after some in a row; an answer says that it is there again."""
    lost = [f"http://h/{number}.jpg" for number in range(network.IN_A_ROW)]
    not_found_out(monkeypatch, has_route=False)
    assert outcomes(lost[:1]) == ["down"]
    with serving({"/a": plain(404)}) as server:
        seen = server.url.replace("127.0.0.1", "localhost") + "/a"
        refused = ["http_error"] * (len(lost) - 1)
        assert outcomes([seen, *lost[1:], seen, *lost]) == ["http_error", *refused, "http_error", *refused, "down"]


def test_a_name_server_that_is_down_stops_the_job_and_one_broken_zone_does_not(monkeypatch: pytest.MonkeyPatch) -> None:
    not_found_out(monkeypatch, has_route=True)
    assert set(outcomes([f"http://h/{number}.jpg" for number in range(2 * network.HOSTS)])) == {"http_error"}
    found = outcomes([f"http://h{number}/a.jpg" for number in range(network.HOSTS)])
    assert found == ["http_error"] * (network.HOSTS - 1) + ["down"]
