"""Runs of a few steps on the small base, and what they leave."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from accelerate.state import AcceleratorState
from safetensors.torch import load_file

from controlmill.bases.base import Base, Prompt
from controlmill.evaluation.rows import Sample
from controlmill.schemas.conditions import Condition
from controlmill.training import start
from controlmill.training.config import TrainConfig
from controlmill.training.run.metrics import StepRecord, of_kind, read_metrics
from controlmill.training.step import Inputs, draw, encode, upload
from controlmill.training.trainer import Trainer

MakeConfig = Callable[..., TrainConfig]  # changes of single settings → a run's settings
Begin = Callable[..., Trainer]  # a new run's folder, its settings, dataset=scenes → its trainer, before its first step
TrainRun = Callable[[Path, TrainConfig], Trainer]  # a new run's folder, its settings → its trainer, at its end

EVALUATED: dict[str, Any] = {  # settings of a short run that is evaluated
    "steps": 2,
    "held_out": 0.2,
    "evaluation_rows": 4,
    "sampling_steps": 1,
    "evaluation_budget": 0.0,
    "evaluate_every": 2,
}


def short_config(folder: Path, /, **changes: Any) -> TrainConfig:
    """Of a run of four steps on the base in a folder, without evaluation."""
    defaults = {
        "condition": "canny",
        "base": str(folder),
        "steps": 4,
        "batch_size": 4,
        "learning_rate": 1e-3,
        "held_out": 0.0,
        "evaluation_samples": 0,
        "device": "cpu",
    }
    return TrainConfig(**{**defaults, **changes})


def make_inputs(
    base: Base, samples: list[Sample], condition: Condition, config: TrainConfig, empty: Prompt | None = None
) -> Inputs:
    """A micro-batch from its samples, all at once; arguments as those of ``draw`` and ``encode``."""
    return encode(base, upload(draw(base, samples, condition, config), base.device), empty)


def begin(dataset: Path, folder: Path, config: TrainConfig) -> Trainer:
    """The trainer of a new run, before its first step."""
    forget_precision()
    return Trainer(folder, config, start.begin(str(dataset), folder, config), resume=False)


def resumed(folder: Path, **changes: Any) -> Trainer:
    """The trainer of a run that goes on."""
    forget_precision()
    return Trainer(folder, *start.resume(folder, changes), resume=True)


def forget_precision() -> None:
    """Let runs of several precisions follow each other in one process, which accelerate does not foresee."""
    AcceleratorState._reset_state(reset_partial_state=True)


def losses(run: Path) -> list[float]:
    """Of each step."""
    return [record.loss for record in of_kind(read_metrics(run), StepRecord)]


def weights(run: Path) -> dict[str, torch.Tensor]:
    """Of the ControlNet that a run offers."""
    return load_file(run / "diffusion_pytorch_model.safetensors")


def equal(a: Mapping[str, torch.Tensor], b: Mapping[str, torch.Tensor]) -> bool:
    """Whether tensors are the same, bit for bit, by the same names."""
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


FLAGS = ("condition", "base", "steps", "batch_size", "learning_rate", "held_out", "evaluation_samples", "device")


def flags_of(config: TrainConfig) -> list[str]:
    """The flags that ask for a short run's settings."""
    values = asdict(config)
    return [f"--{name.replace('_', '-')}={values[name]}" for name in FLAGS]


def two_processes(dataset: Path, run: Path, config: TrainConfig) -> list[str]:
    """The command that trains a new run by two processes."""
    launch = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2", "-m", "controlmill"]
    return [*launch, "train", str(dataset), str(run), *flags_of(config)]
