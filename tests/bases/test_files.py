"""A base on the hub: fetched at one commit, then found without the hub; against a hub of our own on the loopback."""

from __future__ import annotations

import functools
import threading
from collections.abc import Iterator
from dataclasses import replace
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
import torch
from huggingface_hub import constants

from controlmill.annotators.runtime import hub
from controlmill.bases.configuration import pinned_base, pinned_controlnet, weights_digests
from controlmill.bases.controlnet import make_controlnet
from controlmill.bases.files import file_of
from controlmill.bases.registry import load_base, read_facts
from controlmill.evaluation.sampling.used import UsedControlNet
from controlmill.schemas.errors import MillError
from controlmill.training import start
from controlmill.training.run.controlnets import base_of, find_controlnet
from controlmill.training.run.record import read_run
from controlmill.training.trainer import Trainer
from tests.small_base import small_unet
from tests.training_runs import MakeConfig

OLD, NEW = "0" * 39 + "1", "0" * 39 + "2"


class Hub(SimpleHTTPRequestHandler):
    """A base in a repository ``someone/base``, which lost its UNet at its newest commit."""

    moved: Path

    def do_HEAD(self) -> None:
        self.answer(whole=False)

    def do_GET(self) -> None:
        self.answer(whole=True)

    def answer(self, whole: bool) -> None:
        parts = self.path.removeprefix("/someone/base/resolve/").split("/")
        commit = {"main": NEW if self.moved.exists() else OLD, "newest": NEW}.get(parts[0], parts[0])
        path = Path(self.directory, *parts[1:])
        known = path.is_file() and not (commit == NEW and parts[1] == "unet")
        self.send_response(200 if known or self.path == "/" else 404)
        if known:
            self.send_header("ETag", f'"{commit[-1]}{abs(hash(path))}"')
            self.send_header("Content-Length", str(path.stat().st_size))
        elif self.path != "/":
            self.send_header("X-Error-Code", "EntryNotFound")
        self.send_header("X-Repo-Commit", commit)
        self.end_headers()
        if whole and known:
            self.wfile.write(path.read_bytes())

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def moved(small_base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The hub is one of our own, its cache empty; the file that makes its main branch another commit."""
    handler = type("OneHub", (Hub,), {"moved": tmp_path / "moved"})
    server = ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(handler, directory=str(small_base)))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    address = f"http://127.0.0.1:{server.server_port}"
    settings = {"ENDPOINT": address, "HF_HUB_CACHE": str(tmp_path / "cache"), "HF_HUB_OFFLINE": False}
    settings["HUGGINGFACE_CO_URL_TEMPLATE"] = address + "/{repo_id}/resolve/{revision}/{filename}"
    for name, value in settings.items():
        monkeypatch.setattr(constants, name, value)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setattr(hub, "answers", lambda: True)
    yield tmp_path / "moved"
    server.shutdown()


def test_a_base_of_the_hub_is_of_one_commit_and_then_found_without_the_hub(
    moved: Path, small_base: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    want = load_base(str(small_base), torch.device("cpu")).fingerprint()
    facts = read_facts("someone/base")
    moved.touch()
    assert facts.load(torch.device("cpu"), trainable=True).fingerprint() == want
    with pytest.raises(MillError, match="someone/base@newest: not found here"):
        read_facts("someone/base@newest")
    monkeypatch.setattr(hub, "answers", lambda: False)
    assert load_base(f"someone/base@{OLD}", torch.device("cpu")).fingerprint() == want


def test_what_is_on_the_hub_is_named_with_the_commit_that_is_read(moved: Path, small_base: Path) -> None:
    assert pinned_base("tiny") == "tiny"
    assert pinned_base(str(small_base)) == pinned_controlnet(str(small_base)) == str(small_base)
    unet = UsedControlNet("someone/base", "someone/base", strength=0.5)
    assert pinned_base("someone/base") == f"someone/base@{OLD}"
    moved.touch()
    assert pinned_base("someone/base") == f"someone/base@{OLD}", "the process goes on reading what it began with"
    assert pinned_base("someone/base@newest") == f"someone/base@{NEW}"
    assert pinned_base(f"someone/base@{OLD}") == f"someone/base@{OLD}"
    with pytest.raises(MillError, match=r"someone/base: no ControlNet that can be had"):
        unet.pinned()
    (small_base / "config.json").write_text("{}")
    try:
        used = unet.pinned()
    finally:
        (small_base / "config.json").unlink()
    assert used == replace(unet, address=f"someone/base@{OLD}", name=f"someone/base@{OLD}")


def test_a_run_names_its_base_with_the_commit_that_it_read(
    moved: Path, scenes_folder: Path, short_config: MakeConfig, tmp_path: Path
) -> None:
    run, config = tmp_path / "run", short_config(base="someone/base", steps=1, unlock="decoder")
    Trainer(run, config, start.begin(str(scenes_folder), run, config), resume=False).train()
    record = read_run(run)
    assert record is not None
    assert record.config.base == f"someone/base@{OLD}"
    assert 'from_pretrained(\n    "someone/base", ' in (card := (run / "README.md").read_text())
    assert f'revision="{OLD}"' in card
    moved.touch()
    assert start.resume(run, {"base": "someone/base"})[0] == start.resume(run, {})[0]
    used, _ = find_controlnet(str(run))
    assert base_of("someone/base", str(run), [used], [record]) == base_of("", str(run), [used], [record])
    with pytest.raises(MillError, match="nor moved to another --base"):
        base_of(f"someone/base@{NEW}", str(run), [used], [record])
    with pytest.raises(MillError, match=f"base: .*{OLD}.*now .*{NEW}"):
        start.resume(run, {"base": f"someone/base@{NEW}"})


def test_a_run_names_what_it_starts_from_with_the_commit_that_it_read(
    moved: Path, small_base: Path, scenes_folder: Path, short_config: MakeConfig, tmp_path: Path
) -> None:
    run, config = tmp_path / "run", short_config(start_from="someone/base")
    make_controlnet(small_unet(), "zero", 4, 3, 0).save_config(small_base)
    try:
        assert start.begin(str(scenes_folder), run, config).start_folder == "someone/base"
        moved.touch()
        start.begin(str(scenes_folder), run, config)  # the process goes on reading what it began with
        record = read_run(run)
        with pytest.raises(MillError, match=f"start_from: .*{OLD}, now .*{NEW}"):
            start.begin(str(scenes_folder), run, short_config(start_from=f"someone/base@{NEW}"))
    finally:
        (small_base / "config.json").unlink()
    assert record is not None
    assert record.config.start_from == f"someone/base@{OLD}"


def test_a_file_that_a_folder_lacks_is_not_asked_of_the_hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("controlmill.annotators.runtime.hub.file_of", None)
    with pytest.raises(FileNotFoundError, match="config"):
        file_of(str(tmp_path), "config.json")


def test_a_folder_that_is_gone_is_no_name_on_the_hub(tmp_path: Path) -> None:
    with pytest.raises(MillError, match=r"its weights cannot be had .*there is no such folder"):
        weights_digests(str(tmp_path / "checkpoints" / "00000750" / "controlnet"))
