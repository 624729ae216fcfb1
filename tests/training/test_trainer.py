"""Exactness: resuming, processes, micro-batches; what a run's settings do, and what an error costs."""

from __future__ import annotations

import functools
import subprocess
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from controlmill.schemas.errors import MillError
from controlmill.training import start
from controlmill.training.data.loader import Loader
from controlmill.training.run import checkpoint
from controlmill.training.run.metrics import StepRecord, of_kind, read_metrics
from controlmill.training.schedules import learning_rate
from controlmill.training.trainer import Trainer
from tests.scenes import ALL_MAPS
from tests.small_base import save_small_base
from tests.training_runs import (
    MakeConfig,
    TrainRun,
    begin,
    equal,
    losses,
    two_processes,
    weights,
)


@pytest.mark.parametrize(
    ("stop", "workers", "changes"), [(3, 0, {}), (5, 2, {"ema_decay": 0.9, "warmup_steps": 4, "random_flip": True})]
)
def test_a_resumed_run_is_equal_bit_for_bit(
    stop: int,
    workers: int,
    changes: dict[str, Any],
    train_run: TrainRun,
    short_config: MakeConfig,
    scenes_folder: Path,
    tmp_path: Path,
) -> None:
    train_run(tmp_path / "whole", short_config(steps=7, **changes))
    train_run(tmp_path / "cut", short_config(steps=stop, **changes))
    config, prepared = start.resume(tmp_path / "cut", {"steps": 7, "loader_workers": workers})
    assert Trainer(tmp_path / "cut", config, prepared, resume=True).train() == 7
    assert equal(weights(tmp_path / "whole"), weights(tmp_path / "cut"))
    last = [tmp_path / name / "checkpoints" / "00000007" for name in ("whole", "cut")]
    for name in ("optimizer.safetensors", *(["ema/diffusion_pytorch_model.safetensors"] if changes else [])):
        assert equal(load_file(last[0] / name), load_file(last[1] / name))
    assert losses(tmp_path / "whole") == losses(tmp_path / "cut")


def test_there_are_no_more_reader_processes_than_samples_and_uneven_ones_are_said(
    short_config: MakeConfig,
    scenes_folder: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    asked = []

    def noted(loader: Loader, first: int, reader: int, readers: int, workers: int) -> Iterator[Any]:
        asked.append(workers)
        yield from loader.batches(first, reader, readers)

    monkeypatch.setattr("controlmill.training.trainer.batches", noted)
    for batch_size, workers in ((2, 8), (6, 3)):
        run, config = tmp_path / str(workers), short_config(steps=1, batch_size=batch_size, loader_workers=workers)
        Trainer(run, config, start.begin(str(scenes_folder), run, config), resume=False).train()
    assert asked == [2, 3]
    assert "3 readers do not share the 64 lanes of the order evenly: each row group is read 3.0 times" in (
        capsys.readouterr().err
    )


def test_two_processes_equal_one(
    train_run: TrainRun, short_config: MakeConfig, scenes_folder: Path, tmp_path: Path
) -> None:
    config = short_config(steps=3, batch_size=6, unlock="decoder", unlock_learning_rate=1e-4)
    train_run(tmp_path / "one", config)
    words = two_processes(scenes_folder, tmp_path / "two", config)
    subprocess.run([*words, "--unlock=decoder", "--unlock-learning-rate=1e-4"], check=True)
    np.testing.assert_allclose(losses(tmp_path / "two"), losses(tmp_path / "one"), rtol=0, atol=1e-5)
    one, two = weights(tmp_path / "one"), weights(tmp_path / "two")
    assert max(float((one[name] - two[name]).abs().max()) for name in one) < 1e-4


def test_micro_batches_give_the_gradient_of_the_batch(
    train_run: TrainRun, short_config: MakeConfig, tmp_path: Path
) -> None:
    train_run(tmp_path / "whole", short_config(steps=3, batch_size=6))
    train_run(tmp_path / "parts", short_config(steps=3, batch_size=6, micro_batch_size=4))
    np.testing.assert_allclose(losses(tmp_path / "parts"), losses(tmp_path / "whole"), atol=1e-5)


def test_accumulation_that_the_environment_asks_of_accelerate_changes_no_gradient(
    train_run: TrainRun, short_config: MakeConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    train_run(tmp_path / "plain", short_config(steps=2))
    monkeypatch.setenv("ACCELERATE_GRADIENT_ACCUMULATION_STEPS", "4")
    train_run(tmp_path / "asked", short_config(steps=2))
    plain, asked = (of_kind(read_metrics(tmp_path / name), StepRecord) for name in ("plain", "asked"))
    assert [record.norm for record in asked] == [record.norm for record in plain]
    assert equal(weights(tmp_path / "asked"), weights(tmp_path / "plain"))


@pytest.mark.parametrize("condition", ALL_MAPS)
def test_every_condition_trains(condition: str, train_run: TrainRun, short_config: MakeConfig, tmp_path: Path) -> None:
    mirror = condition not in ("normals", "pose")  # whose x, and whose left, are not known of imported ones
    train_run(
        tmp_path / "run",
        short_config(condition=condition, steps=3, random_flip=mirror, crop_size=32, micro_batch_size=2),
    )
    assert len(losses(tmp_path / "run")) == 3
    assert weights(tmp_path / "run")["controlnet_mid_block.weight"].any()


def test_options_of_the_loss_and_the_optimiser(train_run: TrainRun, short_config: MakeConfig, tmp_path: Path) -> None:
    config = short_config(
        min_snr_gamma=5.0,
        noise_offset=0.1,
        lr_schedule="cosine",
        warmup_steps=2,
        gradient_checkpointing=True,
        ema_decay=0.9,
    )
    train_run(tmp_path / "run", config)
    rates = [record.rate for record in of_kind(read_metrics(tmp_path / "run"), StepRecord)]
    assert rates == [pytest.approx(config.learning_rate * learning_rate(config, step)) for step in range(4)]
    assert not equal(
        weights(tmp_path / "run"), weights(tmp_path / "run/checkpoints/00000004/controlnet")
    )  # the average is offered


def test_bf16_and_velocity_bases(train_run: TrainRun, short_config: MakeConfig, tmp_path: Path) -> None:
    base = save_small_base(tmp_path / "velocity", "v_prediction")
    train_run(tmp_path / "run", short_config(base=str(base), precision="bf16", min_snr_gamma=5.0))
    assert np.isfinite(losses(tmp_path / "run")).all()
    assert {value.dtype for value in weights(tmp_path / "run").values()} == {torch.float32}


def test_gradient_checkpointing_changes_no_bit_of_the_first_losses(
    train_run: TrainRun, short_config: MakeConfig, tmp_path: Path
) -> None:
    train_run(tmp_path / "a", short_config(steps=3))
    train_run(tmp_path / "b", short_config(steps=3, gradient_checkpointing=True))
    np.testing.assert_allclose(losses(tmp_path / "a"), losses(tmp_path / "b"), atol=1e-6)


def test_a_compiled_run_has_the_losses_of_a_plain_one(
    train_run: TrainRun, short_config: MakeConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    train_run(tmp_path / "plain", short_config(steps=2))
    used = []
    compiled = functools.partial(torch.compile, backend="eager")  # traced as ever, without a C++ compiler
    monkeypatch.setattr("torch.compile", lambda module: used.append(1) or compiled(module))
    train_run(tmp_path / "compiled", short_config(steps=2, compile=True))
    assert used
    np.testing.assert_allclose(losses(tmp_path / "compiled"), losses(tmp_path / "plain"), atol=1e-6)
    names = [set(load_file(tmp_path / run / "diffusion_pytorch_model.safetensors")) for run in ("plain", "compiled")]
    assert names[0] == names[1]


def test_memory_that_runs_out_is_told_with_what_to_do(
    train_run: TrainRun, short_config: MakeConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(self: Any, *given: Any) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")

    monkeypatch.setattr(Trainer, "train_step", full)
    with pytest.raises(MillError, match=r"step 0: the memory of cpu is full .* smaller --micro-batch-size \(now 4\)"):
        train_run(tmp_path / "run", short_config(steps=2))


@pytest.mark.parametrize(("where", "saved"), [("reading", [3]), ("loss", [3]), ("optimiser", []), ("no number", [])])
def test_an_error_costs_no_whole_step(
    where: str,
    saved: list[int] | list[Any],
    short_config: MakeConfig,
    scenes_folder: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    run, config = tmp_path / "run", short_config(steps=5, checkpoint_every=100)
    trainer = begin(scenes_folder, run, config)

    def after_three_steps(do: Callable[..., Any]) -> Callable[..., Any]:
        def go(*given: Any) -> Any:
            if trainer.step == 3:
                raise RuntimeError("broken")
            return do(*given)

        return go

    if where == "reading":
        monkeypatch.setattr(trainer, "train_step", after_three_steps(trainer.train_step))
    if where == "loss":
        monkeypatch.setattr(trainer.accelerator, "backward", after_three_steps(trainer.accelerator.backward))
    if where == "optimiser":
        monkeypatch.setattr(trainer.optimizer, "step", after_three_steps(trainer.optimizer.step))
    if where == "no number":
        norm = trainer.accelerator.clip_grad_norm_
        monkeypatch.setattr(
            trainer.accelerator, "clip_grad_norm_", lambda *given: np.nan if trainer.step == 3 else norm(*given)
        )
    with pytest.raises((RuntimeError, MillError), match=r"broken|norm nan"):
        trainer.train()
    assert checkpoint.steps_saved(run) == saved


def test_steps_kept_from_an_error_are_those_of_a_whole_run(
    train_run: TrainRun, short_config: MakeConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    train_run(tmp_path / "whole", short_config(steps=5))

    def cut(loader: Loader, first: int, *readers: Any) -> Iterator[Any]:
        for _ in range(3):
            yield next(source := loader.batches(first, *readers[:2]))
            first += 1
            source.close()
        raise OSError("the disk is gone")

    with monkeypatch.context() as patch, pytest.raises(OSError, match="the disk is gone"):
        patch.setattr("controlmill.training.trainer.batches", cut)
        train_run(tmp_path / "cut", short_config(steps=5, checkpoint_every=100))
    Trainer(tmp_path / "cut", *start.resume(tmp_path / "cut", {}), resume=True).train()
    assert equal(weights(tmp_path / "whole"), weights(tmp_path / "cut"))


def test_other_processes_wait_for_a_long_evaluation(
    short_config: MakeConfig, scenes_folder: Path, tmp_path: Path
) -> None:
    trainer = begin(scenes_folder, tmp_path / "run", short_config())
    assert trainer.accelerator.init_handler.timeout == timedelta(hours=2)
