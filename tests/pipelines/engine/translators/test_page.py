"""What a cluster's page may answer, and not."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from controlmill.pipelines.engine.translators.page import read_json
from controlmill.schemas.errors import MillError


class Pages(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(404 if self.path == "/nothing" else 200)
        self.end_headers()
        self.wfile.write(b'{"slots": 2}' if self.path == "/json" else b"<html>")

    def log_message(self, format: str, *words: object) -> None:
        pass


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    with ThreadingHTTPServer(("127.0.0.1", 0), Pages) as pages:
        threading.Thread(target=pages.serve_forever, args=(0.05,), daemon=True).start()
        yield f"http://127.0.0.1:{pages.server_port}"
        pages.shutdown()


def test_a_page_is_read_whatever_proxy_the_environment_names(server: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:1")
    monkeypatch.delenv("no_proxy", raising=False)
    assert read_json(f"{server}/json", "the cluster", 5) == {"slots": 2}


def test_what_is_no_such_page_is_named(server: str) -> None:
    with pytest.raises(MillError, match=r"the cluster answers http://.* with 404 Not Found"):
        read_json(f"{server}/nothing", "the cluster", 5)
    with pytest.raises(MillError, match="is not the cluster: it sends no JSON"):
        read_json(server, "the cluster", 5)
    with pytest.raises(MillError, match=r"the cluster does not answer at http://127.0.0.1:1 \(ConnectionRefused"):
        read_json("http://127.0.0.1:1", "the cluster", 5)
