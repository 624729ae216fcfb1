"""Downloads: every rule with a hostile server on loopback, and with one that keeps it."""

from __future__ import annotations

import gzip
import socket
import threading
import time
from collections.abc import Sequence
from concurrent.futures import Future, wait
from email.utils import formatdate
from typing import Any
from unittest import mock

import pytest

from controlmill.pipelines.corpora import download, network
from controlmill.pipelines.corpora.download import MAX_REDIRECTS, Downloader
from controlmill.pipelines.corpora.download_options import DownloadOptions
from controlmill.pipelines.corpora.http_headers import opt_out, retry_after
from controlmill.pipelines.engine.faults import JobFault
from controlmill.schemas.errors import Refused
from tests.pipelines.corpora.hostile_server import (
    Answer,
    Server,
    chunked,
    cut,
    dripping,
    in_turn,
    plain,
    redirect,
    serving,
    silent,
    slow_body,
)

PICTURE = b"\xff\xd8\xff" + bytes(range(256)) * 8
CAP = 1_000_000
QUICK: dict[str, Any] = {"timeout": 0.3, "retries": 0, "retry_wait": 0.001, "allow_private_hosts": True}


def fetch(url: str, max_bytes: int = CAP, **options: Any) -> bytes:
    """A body."""
    downloader = Downloader(DownloadOptions(**{**QUICK, **options}))
    try:
        return begin(downloader, url, max_bytes).result(timeout=60)
    finally:
        downloader.close()


def begin(downloader: Downloader, url: str, max_bytes: int = CAP) -> Future[bytes]:
    """A body to come."""

    def finish(data: bytes, claim: Any) -> bytes:
        claim.release()
        return data

    return downloader.begin(url, max_bytes, finish)


def refusal(url: str, max_bytes: int = CAP, **options: Any) -> Refused:
    """Why there is none."""
    with pytest.raises(Refused) as refused:
        fetch(url, max_bytes, **options)
    return refused.value


def test_what_a_server_gives_is_taken_and_asked_for_by_name() -> None:
    with serving({"/a b/ü.jpg": plain(404), "/a%20b/%C3%BC.jpg": plain(200, PICTURE)}) as server:
        assert fetch(f"{server.url}/a b/ü.jpg#part") == PICTURE
        assert server.headers[0]["User-Agent"].startswith("ControlMill/")
        assert server.headers[0]["Accept-Encoding"] == "identity"
        assert "Cookie" not in server.headers[0]


def test_a_signed_url_is_sent_as_it_is_spelt() -> None:
    """A signature may be of the spelling: an escape that needs to be none is not undone."""
    asked: list[str] = []
    with serving(
        {"/a%2Fb.jpg": lambda handler: (asked.append(handler.path), plain(200, PICTURE)(handler))[1]}
    ) as server:
        assert fetch(f"{server.url}/a%2Fb.jpg?sign=%41%2B%3d") == PICTURE
    assert asked == ["/a%2Fb.jpg?sign=%41%2B%3d"]


@pytest.mark.parametrize(
    ("answer", "reason", "text"),
    [
        (plain(404), "http_error", "404 Not Found"),
        (plain(204), "http_error", "204 No Content"),
        (plain(302), "http_error", "302 Found"),
        (plain(777), "http_error", "777"),
        (plain(200, b"<html><body>gone</body></html>", Content_Type="text/html"), "not_an_image", "text/html"),
        (plain(200, b""), "not_an_image", "does not begin like a picture"),
        (plain(200, PICTURE[:2]), "not_an_image", "does not begin like a picture"),
        (plain(200, PICTURE, X_Robots_Tag="noai"), "opted_out", "noai"),
        (redirect("/ok", X_Robots_Tag="noimageai, nofollow"), "opted_out", "noimageai"),
        (cut(PICTURE, 5000), "http_error", "ended before it was whole"),
        (plain(200, PICTURE * 2000), "too_many_bytes", "the cap is 1000000"),
        (plain(200, PICTURE, Content_Encoding="gzip"), "http_error", "not coded as it says"),
        (lambda handler: handler.wfile.write(b"SSH-2.0-OpenSSH_9\r\n\r\n"), "http_error", "not HTTP"),
        (lambda handler: handler.connection.shutdown(socket.SHUT_RDWR), "http_error", "the connection failed"),
        (silent, "timeout", "nothing for 0.3 s"),
        (slow_body(PICTURE, 5000, 0.05), "timeout", "not all within"),
        (redirect("file:///etc/passwd"), "refused_address", "http://"),
        (redirect("ftp://127.0.0.1/a.jpg"), "refused_address", "http://"),
        (redirect("http://h:99999/"), "refused_address", "redirected to"),
        (redirect("/answer"), "too_many_redirects", f"more than {MAX_REDIRECTS}"),
    ],
)
def test_an_answer_that_is_not_taken(answer: Answer, reason: str, text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(download, "WHOLE", 2)
    with serving({"/answer": answer, "/ok": plain(200, PICTURE)}) as server:
        refused = refusal(f"{server.url}/answer")
        assert (refused.reason, text in refused.error) == (reason, True), refused.error
        assert fetch(f"{server.url}/ok") == PICTURE


def test_a_header_that_comes_byte_by_byte_does_not_hold_a_download() -> None:
    started = time.monotonic()
    with serving({"/slow": dripping(b"X-More: and more\r\n", 0.02)}) as server:
        assert refusal(f"{server.url}/slow").reason == "timeout"
    assert time.monotonic() - started < 30  # and not for ever


@pytest.mark.parametrize(
    ("first", "asked"),
    [
        (plain(500), 2),
        (plain(503), 2),
        (plain(429, Retry_After="0"), 2),
        (plain(408), 2),
        (cut(PICTURE, 5000), 2),
        (silent, 2),
        (lambda handler: handler.connection.shutdown(socket.SHUT_RDWR), 2),
        (plain(403), 1),
        (plain(410), 1),
        (plain(451), 1),
        (plain(200, b"<html>not today</html>"), 1),
        (plain(429, Retry_After="86400"), 1),
    ],
)
def test_what_may_pass_is_asked_for_again(first: Answer, asked: int) -> None:
    with serving({"/a": in_turn(first, plain(200, PICTURE))}) as server:
        if asked == 2:
            assert fetch(f"{server.url}/a", retries=1) == PICTURE
        else:
            refusal(f"{server.url}/a", retries=1)
        assert server.requests["/a"] == asked


def test_what_does_not_pass_is_refused_after_so_many_tries() -> None:
    with serving({"/a": plain(500)}) as server:
        assert refusal(f"{server.url}/a", retries=2).error == "500 Internal Server Error"
        assert server.requests["/a"] == 3


def test_a_host_that_asks_for_time_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    slept: list[float] = []
    really = download.asyncio.sleep

    async def sleep(seconds: float) -> None:
        slept.append(seconds)
        await really(0)

    with serving({"/a": in_turn(plain(429, Retry_After="7"), plain(200, PICTURE))}) as server:
        monkeypatch.setattr(download.asyncio, "sleep", sleep)
        assert fetch(f"{server.url}/a", retries=1) == PICTURE
    assert max(slept) == 7


def test_an_answer_without_an_end_is_cut_at_the_cap() -> None:
    """10 GB in chunks, and the same compressed: what is taken is little more than the cap."""
    sent: list[int] = []
    packed: list[int] = []
    zeros = gzip.compress(PICTURE + bytes(200_000_000), 1)
    answers = {
        "/chunks": chunked(PICTURE, 10_000, bytes(1_000_000), sent),
        "/bomb": plain(200, zeros, Content_Encoding="gzip"),
        "/ok": chunked(PICTURE, 1, b"x", packed),
    }
    with serving(answers) as server:
        assert refusal(f"{server.url}/chunks").reason == "too_many_bytes"
        assert sum(sent) < 40_000_000
        assert refusal(f"{server.url}/bomb").reason == "too_many_bytes"
        assert fetch(f"{server.url}/ok") == PICTURE + b"x"


def test_what_is_compressed_unasked_is_taken() -> None:
    with serving({"/a": plain(200, gzip.compress(PICTURE), Content_Encoding="gzip")}) as server:
        assert fetch(f"{server.url}/a") == PICTURE


# addresses


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


# bounds that downloads share


def test_downloads_at_a_time_are_bounded_in_all_and_for_a_host() -> None:
    gate = threading.Barrier(3)

    def meet(handler: Any) -> None:
        gate.wait(30)
        plain(200, PICTURE)(handler)

    for options, most in (({"connections": 3, "connections_per_host": 9}, 3), ({"connections_per_host": 3}, 3)):
        with serving({"/a": meet}) as server:
            downloader = Downloader(DownloadOptions(**{**QUICK, "timeout": 30, **options}))
            bodies = [begin(downloader, f"{server.url}/a?{number}") for number in range(9)]
            assert not wait(bodies, 60).not_done
            assert server.most == most
            downloader.close()


def test_bodies_share_a_memory_that_the_oldest_may_pass(monkeypatch: pytest.MonkeyPatch) -> None:
    """Three bodies of 3 MB in a memory of 4: the first goes on, the others wait until it is released."""
    monkeypatch.setattr(download, "BODY_BYTES", 4 * 1024 * 1024)
    body = PICTURE + bytes(3_000_000)
    with serving({"/a": plain(200, body)}) as server:
        downloader = Downloader(DownloadOptions(**QUICK))
        claims: list[Any] = []
        bodies = [
            downloader.begin(f"{server.url}/a", 10_000_000, lambda data, claim: (claims.append(claim), data)[1])
            for _ in range(3)
        ]
        for number in range(3):
            assert bodies[number].result(30) == body
            assert sum(claim.size for claim in claims) <= 3 * 1024 * 1024
            claims.pop().release()
        downloader.close()


def test_a_download_that_nobody_wants_any_more_ends() -> None:
    with serving({"/a": silent}) as server:
        downloader = Downloader(DownloadOptions(**{**QUICK, "timeout": 600, "connections": 1}))
        body = begin(downloader, f"{server.url}/a")
        body.cancel()
        server.answers["/b"] = plain(200, PICTURE)
        assert begin(downloader, f"{server.url}/b").result(30) == PICTURE
        downloader.close()


# headers


@pytest.mark.parametrize(
    ("values", "found"),
    [
        (["noai"], "noai"),
        (["index, NoImageAI"], "noimageai"),
        (["noindex"], None),
        (["googlebot: noai"], None),
        (["googlebot: noindex, noai"], None),
        (["ControlMill: noai"], "noai"),
        (["*: noai"], "noai"),
        (["unavailable_after: 25 Jun 2030 15:00:00 PST, noai"], "noai"),
        (["nofollow", "noimageai"], "noimageai"),
        ([], None),
    ],
)
def test_opting_out(values: list[str], found: str | None) -> None:
    assert opt_out(values) == found


def test_an_opt_out_is_not_heeded_where_a_user_says_so() -> None:
    with serving({"/a": plain(200, PICTURE, X_Robots_Tag="noai")}) as server:
        assert fetch(f"{server.url}/a", ignore_opt_out=True) == PICTURE


def test_when_to_come_again() -> None:
    assert retry_after("7") == 7
    assert 50 < (retry_after(formatdate(time.time() + 60, usegmt=True)) or 0) <= 60
    assert retry_after(formatdate(0, usegmt=True)) == 0
    assert [retry_after(value) for value in (None, "soon", "-1", "²")] == [None] * 4
