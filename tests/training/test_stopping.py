"""Ctrl-C ends a run with a checkpoint, from which it goes on exactly."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import torch

from controlmill.evaluation.rows import Sample
from controlmill.training import start
from controlmill.training.run import checkpoint
from controlmill.training.run.metrics import evaluations
from controlmill.training.step import Drawn
from controlmill.training.stopping import stop_on_signals
from controlmill.training.trainer import StepResult, Trainer
from tests.training_runs import (
    EVALUATED,
    MakeConfig,
    TrainRun,
    begin,
    equal,
    flags_of,
    losses,
    weights,
)


def test_ctrl_c_writes_a_checkpoint_and_the_run_goes_on_exactly(
    train_run: TrainRun, short_config: MakeConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    train_run(tmp_path / "whole", short_config(steps=12))
    prepare, prepared_batches = Trainer.prepare, []

    def interrupt(trainer: Trainer, samples: list[Sample]) -> list[Drawn]:
        prepared_batches.append(1)
        if len(prepared_batches) == 6:  # in the thread that is a batch ahead of the steps
            os.kill(os.getpid(), signal.SIGINT)
        return prepare(trainer, samples)

    with monkeypatch.context() as patch:
        patch.setattr(Trainer, "prepare", interrupt)
        done = train_run(tmp_path / "cut", short_config(steps=12)).step
    assert 4 <= done < 12
    assert checkpoint.steps_saved(tmp_path / "cut")[-1] == done
    config, prepared = start.resume(tmp_path / "cut", {})
    Trainer(tmp_path / "cut", config, prepared, resume=True).train()
    assert equal(weights(tmp_path / "whole"), weights(tmp_path / "cut"))


def test_no_evaluation_begins_once_a_run_is_told_to_stop(
    train_run: TrainRun, short_config: MakeConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    step, run = Trainer.train_step, tmp_path / "run"

    def told(trainer: Trainer, batch: list[Drawn], stop: bool = False) -> StepResult:
        return step(trainer, batch, trainer.step == 1)

    monkeypatch.setattr(Trainer, "train_step", told)
    train_run(run, short_config(**{**EVALUATED, "steps": 6}))
    assert checkpoint.steps_saved(run) == [2]
    assert [record.step for record in evaluations(run)] == [0]
    monkeypatch.undo()
    Trainer(run, *start.resume(run, {}), resume=True).train()
    assert [record.step for record in evaluations(run)] == [0, 2, 4, 6]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_a_signal_in_an_evaluation_does_not_wait_for_its_end(
    number: signal.Signals,
    short_config: MakeConfig,
    scenes_folder: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    run = tmp_path / "run"
    trainer = begin(scenes_folder, run, short_config(**{**EVALUATED, "steps": 6}))
    add_noise = trainer.base.schedule.add_noise

    def told(*given: Any) -> Any:  # in the first of the losses that are evaluated after step 2
        if trainer.step == 2 and not torch.is_grad_enabled():
            os.kill(os.getpid(), number)
        return add_noise(*given)

    monkeypatch.setattr(trainer.base.schedule, "add_noise", told)
    assert trainer.train() == 3
    assert checkpoint.steps_saved(run) == [3]
    assert [record.step for record in evaluations(run)] == [0]
    assert not trainer.base.denoiser._forward_pre_hooks


def test_a_closed_terminal_is_nothing_to_a_run_that_ignores_it() -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)  # as nohup does
    try:
        with stop_on_signals() as request:
            os.kill(os.getpid(), signal.SIGHUP)
        assert not request.requested
        assert signal.getsignal(signal.SIGHUP) == signal.SIG_IGN
    finally:
        signal.signal(signal.SIGHUP, before)


def test_ctrl_c_that_reaches_reader_processes_too_writes_a_checkpoint(
    short_config: MakeConfig, scenes_folder: Path, tmp_path: Path
) -> None:
    flags = [*flags_of(short_config(steps=100_000)), "--loader-workers=2"]
    command = [sys.executable, "-m", "controlmill", "train", str(scenes_folder), str(tmp_path / "run"), *flags]
    process = subprocess.Popen(command, start_new_session=True, stderr=subprocess.PIPE, text=True)
    while len(losses(tmp_path / "run")) < 3:
        assert process.poll() is None
        time.sleep(0.05)
    os.killpg(process.pid, signal.SIGINT)
    os.killpg(process.pid, signal.SIGTERM)
    _, said = process.communicate(timeout=120)
    assert process.returncode == 130
    (done,) = checkpoint.steps_saved(tmp_path / "run")
    assert done == len(losses(tmp_path / "run"))
    assert said.endswith(f"stopped after {done} of 100000 steps; --resume goes on\n")
    with pytest.raises(ProcessLookupError):  # nobody of the group is left
        for _ in range(300):
            os.killpg(process.pid, 0)
            time.sleep(0.1)
