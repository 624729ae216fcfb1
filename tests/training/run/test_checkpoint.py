"""A checkpoint is written whole or not at all, and one that was damaged is named."""

from __future__ import annotations

import os
import resource
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import SafetensorError

from controlmill.schemas.errors import MillError
from controlmill.training import start
from controlmill.training.run import checkpoint
from controlmill.training.trainer import Trainer
from tests.training_runs import (
    MakeConfig,
    TrainRun,
    equal,
    two_processes,
    weights,
)


@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), SafetensorError("I/O error: no space")])
def test_a_checkpoint_that_does_not_fit_leaves_nothing_and_the_one_before(
    error: Exception, train_run: TrainRun, short_config: MakeConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = tmp_path / "run"
    trainer = train_run(run, short_config(steps=2, checkpoint_every=2, keep_checkpoints=2))

    def full(tensors: dict[str, torch.Tensor], path: Path) -> None:
        path.write_bytes(b"half")
        raise error

    monkeypatch.setattr(checkpoint, "save_file", full)
    trainer.step = 3
    with pytest.raises(MillError, match=r"00000003: .*space.*last whole one is of step 2: make room, .*--resume"):
        trainer.save_checkpoint()
    assert [path.name for path in (run / "checkpoints").iterdir()] == ["00000002"]
    monkeypatch.undo()
    (run / "checkpoints" / "00000001.partial").mkdir()  # of a process that was killed
    trainer.save_checkpoint()
    assert sorted(path.name for path in (run / "checkpoints").iterdir()) == ["00000002", "00000003"]


def test_a_checkpoint_is_on_the_disk_before_an_older_one_goes(
    train_run: TrainRun, short_config: MakeConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run, replace, sync, done = tmp_path / "run", os.replace, checkpoint.sync, list[tuple[str, str]]()
    trainer = train_run(run, short_config(steps=1, keep_checkpoints=1))
    monkeypatch.setattr(os, "replace", lambda a, b: (done.append(("replace", Path(b).name)), replace(a, b)))
    monkeypatch.setattr(checkpoint, "sync", lambda path: (done.append(("sync", path.name)), sync(path)))
    trainer.step = 2
    trainer.save_checkpoint()
    named, gone = done.index(("replace", "00000002")), done.index(("replace", "00000001.partial"))
    assert ("sync", "checkpoints") in done[named:gone]
    assert {("sync", name) for name in ("state.json", "optimizer.safetensors", "controlnet")} <= set(done[:named])


def test_an_old_checkpoint_that_cannot_be_removed_costs_no_run(
    train_run: TrainRun, short_config: MakeConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run, unlink, held = tmp_path / "run", os.unlink, []
    trainer = train_run(run, short_config(steps=2, checkpoint_every=2, keep_checkpoints=1))

    def busy(path: str, **where: Any) -> None:
        if str(path).endswith("state.json") and not held:  # as a file that another process reads, on a network's disk
            held.append(path)
            raise OSError(16, "Device or resource busy")
        unlink(path, **where)

    monkeypatch.setattr(os, "unlink", busy)
    trainer.step = 3
    trainer.save_checkpoint()
    assert held
    assert checkpoint.steps_saved(run) == [3]
    trainer.step = 4
    trainer.save_checkpoint()
    assert [path.name for path in (run / "checkpoints").iterdir()] == ["00000004"]


def test_processes_end_when_the_first_cannot_write(
    short_config: MakeConfig, scenes_folder: Path, tmp_path: Path
) -> None:
    def small_files() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))  # a checkpoint is larger, all else is not

    words = two_processes(scenes_folder, tmp_path / "run", short_config(steps=1, batch_size=2))
    ended = subprocess.run(words, capture_output=True, text=True, check=False, timeout=300, preexec_fn=small_files)
    assert ended.returncode != 0
    assert "make room" in ended.stderr
    assert "the first process could not write a checkpoint" in ended.stderr
    assert checkpoint.steps_saved(tmp_path / "run") == []


def test_a_damaged_checkpoint_is_named_and_the_one_before_goes_on(
    train_run: TrainRun, short_config: MakeConfig, tmp_path: Path
) -> None:
    whole, run, last = tmp_path / "whole", tmp_path / "run", Path("checkpoints", "00000002")
    train_run(whole, short_config(steps=2, checkpoint_every=1, keep_checkpoints=2))
    names = ("optimizer.safetensors", "state.json", "controlnet/config.json")
    for name in (*names, "controlnet/diffusion_pytorch_model.safetensors"):
        shutil.rmtree(run, ignore_errors=True)
        shutil.copytree(whole, run, symlinks=True)
        said = (run / last / name).read_bytes()
        (run / last / name).write_bytes(said[: len(said) // 2])
        with pytest.raises(MillError, match=rf"{last / name} is damaged.*Remove .*{last} to go on from step 1,"):
            Trainer(run, *start.resume(run, {}), resume=True)
    (run / last / name).unlink()
    with pytest.raises(MillError, match=rf"{last / name} is damaged or missing .*No such file"):
        Trainer(run, *start.resume(run, {}), resume=True)
    shutil.rmtree(run / last)
    Trainer(run, *start.resume(run, {}), resume=True).train()
    assert equal(weights(run), weights(whole))
    (run / last / "state.json").write_text("{}")
    shutil.rmtree(run / "checkpoints" / "00000001")
    with pytest.raises(MillError, match=r"state\.json is damaged .*begin anew: there is none before"):
        start.resume(run, {})
