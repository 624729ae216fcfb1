"""The self-test against a hub on the loopback: a published ControlNet, its base, and the value that it should give."""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from controlmill.schemas.dataset import Dataset
from tests.helpers import command_in_new_process, rows

COMMIT = "0" * 39 + "7"
PROTOCOL = """
title = "published"
source = "a paper"
condition = "canny"
measures = ["f1"]
prompts = ["user"]
pictures_per_row = 2
[sampling]
steps = 1
[self_test]
controlnet = "someone/controlnet"
base = "someone/base"
measure = "f1"
method = "theirs"
[published]
f1 = [{ method = "theirs", value = VALUE }]
"""


class Hub(BaseHTTPRequestHandler):
    """Repositories of one commit; ``folders`` are theirs by their names."""

    folders: dict[str, Path]

    def do_GET(self) -> None:
        owner, name, _, _, *file = self.path.lstrip("/").split("/") + [""] * 4
        path = Path(self.folders.get(f"{owner}/{name}", "/nowhere"), *file).resolve()
        found = self.path != "/" and path.is_file()
        self.send_response(200 if found or self.path == "/" else 404)
        self.send_header("X-Repo-Commit", COMMIT)
        if found:
            self.send_header("ETag", f'"{path.stat().st_size}-{path.name}"')
            self.send_header("Content-Length", str(path.stat().st_size))
        elif self.path != "/":
            self.send_header("X-Error-Code", "EntryNotFound")
        self.end_headers()
        if found and self.command == "GET":
            self.wfile.write(path.read_bytes())

    do_HEAD = do_GET

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def hub(trained_once: Path, small_base: Path) -> Iterator[str]:
    """The address of a hub that has the run's ControlNet and its base."""
    controlnet = next(trained_once.glob("checkpoints/*/controlnet"))
    handler = type("OneHub", (Hub,), {"folders": {"someone/controlnet": controlnet, "someone/base": small_base}})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()


@pytest.mark.long
def test_what_is_published_on_a_hub_is_evaluated_and_compared(
    hub: str, trained_once: Path, small_base: Path, scenes_folder: Path, tmp_path: Path
) -> None:
    protocol, words = tmp_path / "published.toml", ["--rows", "5", "--device", "cpu", "--condition", "canny"]
    protocol.write_text(PROTOCOL.replace("VALUE", "0"))
    controlnet = next(trained_once.glob("checkpoints/*/controlnet"))
    words += ["--protocol", str(protocol)]
    here = command_in_new_process(
        *("evaluate", str(controlnet), str(scenes_folder), str(tmp_path / "here"), "--base", str(small_base), *words)
    )
    assert here.returncode == 0, here.stderr
    said = json.loads((tmp_path / "here/results.json").read_text())
    value = said["measures"][0]["values"][0]["value"]
    protocol.write_text(PROTOCOL.replace("VALUE", str(value)))
    environment = {name: text for name, text in os.environ.items() if name != "HF_HUB_OFFLINE"}
    environment |= {"HF_ENDPOINT": hub, "HF_HOME": str(tmp_path / "cache"), "NO_PROXY": "127.0.0.1"}
    published = ["evaluate", str(scenes_folder), str(tmp_path / "published"), "--self-test", *words]
    ended = command_in_new_process(*published, env=environment)
    assert ended.returncode == 0, ended.stderr
    assert "self-test: reproduced (published f1 of theirs" in ended.stderr
    index = Dataset.open(tmp_path / "published").index("images")
    assert index
    assert index.provenance.samples
    sampler = index.provenance.samples.sampler
    assert sampler
    assert (sampler.base, sampler.controlnets[0].name) == (f"someone/base@{COMMIT}", f"someone/controlnet@{COMMIT}")
    pictures = [[row["image"]["bytes"] for row in rows(tmp_path / name, "images")] for name in ("here", "published")]
    assert pictures[0] == pictures[1]
