"""Downloads: each rule with a hostile server on loopback, and with one that keeps it."""

from __future__ import annotations

import gzip
import socket
import threading
import time
from concurrent.futures import wait
from typing import Any

import pytest

from controlmill.pipelines.corpora import download
from controlmill.pipelines.corpora.download import MAX_REDIRECTS, Downloader
from controlmill.pipelines.corpora.download_options import DownloadOptions
from tests.pipelines.corpora.downloading import PICTURE, QUICK, begin, fetch, refusal
from tests.pipelines.corpora.hostile_server import (
    Answer,
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


def test_an_opt_out_is_not_heeded_where_a_user_says_so() -> None:
    with serving({"/a": plain(200, PICTURE, X_Robots_Tag="noai")}) as server:
        assert fetch(f"{server.url}/a", ignore_opt_out=True) == PICTURE
