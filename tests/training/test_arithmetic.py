"""Settings of PyTorch hold while a run trains, and no longer."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.backends import cuda, cudnn

from controlmill.training.arithmetic import arithmetic
from controlmill.training.trainer import StepResult, Trainer
from tests.training_runs import MakeConfig, TrainRun


def settings() -> dict[str, Any]:
    return {
        "tf32": (cuda.matmul.allow_tf32, cudnn.allow_tf32),
        "deterministic": torch.are_deterministic_algorithms_enabled(),
        "benchmark": cudnn.benchmark,
        "cublas": os.environ.get("CUBLAS_WORKSPACE_CONFIG"),
    }


@pytest.mark.parametrize("tf32", [True, False])
def test_tf32_is_used_in_products_and_convolutions_or_in_neither(tf32: bool) -> None:
    before = settings()
    with arithmetic(tf32, deterministic=False):
        assert settings() == {**before, "tf32": (tf32, tf32)}
    assert settings() == before


def test_determinism_asks_all_libraries_and_ends_with_the_block(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CUBLAS_WORKSPACE_CONFIG", raising=False)
    monkeypatch.setattr(cudnn, "benchmark", True)
    before = settings()
    with pytest.raises(RuntimeError), arithmetic(tf32=False, deterministic=True):
        assert settings() == {
            "tf32": (False, False),
            "deterministic": True,
            "benchmark": False,
            "cublas": ":4096:8",
        }
        raise RuntimeError
    assert settings() == before


def test_a_users_own_setting_of_cublas_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUBLAS_WORKSPACE_CONFIG", ":16:8")
    with arithmetic(tf32=False, deterministic=True):
        assert os.environ["CUBLAS_WORKSPACE_CONFIG"] == ":16:8"
    assert os.environ["CUBLAS_WORKSPACE_CONFIG"] == ":16:8"


def test_the_steps_of_a_run_are_computed_as_it_says(
    train_run: TrainRun, short_config: MakeConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[dict[str, Any]] = []

    def note(trainer: Trainer, batch: Any, stop: bool) -> StepResult:
        seen.append(settings())
        return StepResult(0.0, 0.0)

    monkeypatch.setattr(Trainer, "train_step", note)
    before = settings()
    train_run(tmp_path / "run", short_config(steps=1, deterministic=True, tf32=True))
    assert [(found["tf32"], found["deterministic"]) for found in seen] == [((True, True), True)]
    assert settings() == before
