"""Weights come from a hub at a pinned revision, and are checked: against a hub of our own on the loopback."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import ClassVar

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
    asked: ClassVar[list[str]] = []
    seconds: ClassVar[float] = 0

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
        if "w.pth" in self.path:
            self.asked.append(self.path)
            time.sleep(self.seconds)
        self.wfile.write(WEIGHTS)

    def log_message(self, *_: object) -> None:
        pass


WORK = """
import sys
from controlmill.annotators.runtime.weights import Found, WeightsFile, on_this_machine
sha256, revision = sys.argv[1:]
file = WeightsFile("folder/w.pth", "someone/Some", revision, sha256, 0.01, "MIT", remote="w.pth")
print(on_this_machine(file, Found(file.name, "/a/path/of/the/console/w.pth", sha256, "", "")))
"""


@pytest.fixture
def hub() -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Hub)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()


def start(script: str, hub: str, home: Path, *words: str) -> subprocess.Popen[str]:
    env = {**os.environ, "HF_ENDPOINT": hub, "HF_HOME": str(home), "HF_HUB_DISABLE_XET": "1", "NO_PROXY": "127.0.0.1"}
    env.pop("HF_HUB_OFFLINE", None)
    return subprocess.Popen([sys.executable, "-c", script, *words], env=env, stdout=subprocess.PIPE, text=True)


def fetch(hub: str, home: Path, name: str, sha256: str) -> str:
    return start(FETCH, hub, home, name, sha256, REVISION).communicate()[0].strip()


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
    assert said.startswith("MillError: 0 files are here; the Hub did not give these:")
    assert "other.pth of someone/Some" in said
    assert "404" in said


def test_why_the_hub_gave_nothing_is_said(hub: str, tmp_path: Path) -> None:
    assert "403" in fetch(hub, tmp_path, "gated.pth", "0" * 64)
    assert "http://127.0.0.1:1 could not be reached" in fetch("http://127.0.0.1:1", tmp_path, "w.pth", "0" * 64)
    assert "HF_ENDPOINT is some.mirror, which is no URL" in fetch("some.mirror", tmp_path, "w.pth", "0" * 64)


def test_workers_of_a_machine_that_lack_a_file_fetch_it_once(
    hub: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Hub, "asked", [])
    monkeypatch.setattr(Hub, "seconds", 2)  # so that the second one comes meanwhile
    workers = [start(WORK, hub, tmp_path, hashlib.sha256(WEIGHTS).hexdigest(), REVISION) for _ in range(2)]
    places = [worker.communicate()[0].strip() for worker in workers]
    assert len(Hub.asked) == 1
    assert places[0] == places[1]
    assert Path(places[0]).read_bytes() == WEIGHTS
