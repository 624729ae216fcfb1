"""A Hub on loopback with one data set: what huggingface_hub's file system asks of it, and no more."""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import unquote, urlsplit

REPO = "owner/name"


class Hub(ThreadingHTTPServer):
    """``files`` of each commit by path; ``main`` is the commit that the branch has, and ``history`` all of its own."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.files: dict[str, dict[str, bytes]] = {}
        self.main = ""
        self.history: list[str] = []

    def commit(self, files: dict[str, bytes]) -> str:
        """A new commit on the branch."""
        self.main = hashlib.sha1(repr(sorted(files.items())).encode()).hexdigest()
        self.files[self.main] = files
        self.history.insert(0, self.main)
        return self.main


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Hub

    def do_GET(self) -> None:
        path = unquote(urlsplit(self.path).path)
        api, resolve = f"/api/datasets/{REPO}", f"/datasets/{REPO}/resolve/"
        if path.startswith(resolve):
            commit, _, name = path.removeprefix(resolve).partition("/")
            self._bytes(self.server.files.get(commit, {}).get(name))
        elif path.startswith(f"{api}/tree/"):
            commit, _, folder = path.removeprefix(f"{api}/tree/").partition("/")
            self._json(_tree(self.server.files[commit], folder, "recursive=true" in self.path.lower()))
        elif path == f"{api}/commits/main":
            about = {"authors": [], "date": "2026-01-01T00:00:00.000Z", "title": "", "message": ""}
            self._json([{"id": commit, **about} for commit in self.server.history])
        elif path == api or path.startswith(f"{api}/revision/"):
            asked = path.removeprefix(f"{api}/revision/")
            commit = asked if asked in self.server.files else self.server.main
            self._json({"id": REPO, "sha": commit, "siblings": []})
        else:
            self._json({"error": "Repository not found"}, 404, {"X-Error-Code": "RepoNotFound"})

    do_HEAD = do_GET

    def _bytes(self, data: bytes | None) -> None:
        if data is None:
            return self._json({"error": "Entry not found"}, 404, {"X-Error-Code": "EntryNotFound"})
        start, _, end = self.headers.get("Range", "bytes=0-").removeprefix("bytes=").partition("-")
        part = data[int(start) : int(end) + 1 if end else len(data)]
        return self._send(206 if "Range" in self.headers else 200, part, {})

    def _json(self, value: Any, status: int = 200, headers: dict[str, str] | None = None) -> None:
        self._send(status, json.dumps(value).encode(), {"Content-Type": "application/json", **(headers or {})})

    def _send(self, status: int, body: bytes, headers: dict[str, str]) -> None:
        self.send_response(status)
        for name, value in {**headers, "Content-Length": str(len(body))}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def log_message(self, *_: Any) -> None:
        """Nothing is said."""


def _tree(files: dict[str, bytes], folder: str, recursive: bool) -> list[dict[str, Any]]:
    prefix = f"{folder}/" if folder else ""
    found: dict[str, dict[str, Any]] = {}
    for name, data in files.items():
        if not name.startswith(prefix):
            continue
        parts = name.removeprefix(prefix).split("/")
        for depth in range(1, len(parts) if recursive else min(2, len(parts))):
            path = prefix + "/".join(parts[:depth])
            found[path] = {"type": "directory", "path": path, "oid": "0" * 40, "size": 0}
        if recursive or len(parts) == 1:
            digest = hashlib.sha1(data).hexdigest()
            found[name] = {"type": "file", "path": name, "oid": digest, "size": len(data)}
    return list(found.values())


@contextmanager
def running_hub() -> Iterator[Hub]:
    """A hub that answers as long as the block lasts."""
    with Hub() as hub:
        threading.Thread(target=hub.serve_forever, daemon=True).start()
        yield hub
        hub.shutdown()
