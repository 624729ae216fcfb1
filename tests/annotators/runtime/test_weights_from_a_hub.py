"""Weights come from a hub at a pinned revision, and are checked: against a hub of our own on the loopback."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

REVISION = "0123456789abcdef0123456789abcdef01234567"
WEIGHTS = b"some weights" * 1000

FETCH = """
import sys
from controlmill.annotators.runtime.weights import WeightsFile, fetch
from controlmill.schemas.errors import MillError
name, sha256, revision = sys.argv[1:]
file = WeightsFile("folder/w.pth", "someone/Some", revision, sha256, 0.01, "MIT", remote=name)
try:
    print([(found.name, found.origin, found.sha256) for found in fetch([file])])
except MillError as error:
    print("MillError:", error)
"""


class Hub(BaseHTTPRequestHandler):
    def do_HEAD(self) -> None:
        known = self.path == f"/someone/Some/resolve/{REVISION}/w.pth"
        self.send_response(200 if known or self.path == "/" else 403 if "gated" in self.path else 404)
        if known:
            self.send_header("ETag", '"abc"')
            self.send_header("X-Repo-Commit", REVISION)
            self.send_header("Content-Length", str(len(WEIGHTS)))
        self.end_headers()

    def do_GET(self) -> None:
        self.do_HEAD()
        self.wfile.write(WEIGHTS)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def hub() -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Hub)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()


def fetch(hub: str, home: Path, name: str, sha256: str) -> str:
    env = {**os.environ, "HF_ENDPOINT": hub, "HF_HOME": str(home), "HF_HUB_DISABLE_XET": "1", "NO_PROXY": "127.0.0.1"}
    env.pop("HF_HUB_OFFLINE", None)
    done = subprocess.run(
        [sys.executable, "-c", FETCH, name, sha256, REVISION], env=env, capture_output=True, text=True, check=True
    )
    return done.stdout.strip()


def test_a_file_is_fetched_at_its_revision_checked_and_then_found_without_the_hub(hub: str, tmp_path: Path) -> None:
    right = hashlib.sha256(WEIGHTS).hexdigest()
    said = f"[('folder/w.pth', 'someone/Some@{REVISION}', '{right}')]"
    assert fetch(hub, tmp_path, "w.pth", right) == said
    assert fetch("http://127.0.0.1:1", tmp_path, "w.pth", right) == said


def test_another_content_than_the_pinned_one_is_refused(hub: str, tmp_path: Path) -> None:
    """Wherever the hub's cache is, and again once it is in there."""
    assert "is damaged: its sha256 is" in fetch(hub, tmp_path, "w.pth", "0" * 64)
    assert "is damaged: its sha256 is" in fetch("http://127.0.0.1:1", tmp_path, "w.pth", "0" * 64)


def test_what_the_hub_does_not_have_is_listed(hub: str, tmp_path: Path) -> None:
    said = fetch(hub, tmp_path, "other.pth", "0" * 64)
    assert said.startswith("MillError: 0 files are here; the hub did not give these:")
    assert "other.pth of someone/Some" in said
    assert "404" in said


def test_why_the_hub_gave_nothing_is_said(hub: str, tmp_path: Path) -> None:
    assert "403" in fetch(hub, tmp_path, "gated.pth", "0" * 64)
    assert "http://127.0.0.1:1 could not be reached" in fetch("http://127.0.0.1:1", tmp_path, "w.pth", "0" * 64)
