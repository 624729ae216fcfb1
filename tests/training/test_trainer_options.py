"""Trainer settings: the average of weights, compilation, the 8-bit optimiser."""

from __future__ import annotations

import functools
import importlib.machinery
import sys
import types
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from controlmill.bases.controlnet import make_controlnet
from controlmill.training import start
from controlmill.training.trainer import Trainer
from tests.training_runs import MakeConfig, TrainRun, losses

QUANTISED = "__bnb_optimizer_quant_state__"


def flag(name: str) -> str:
    return f"--{name.replace('_', '-')}"


def test_the_average_is_the_exponential_one_and_forgets_its_start(
    train_run: TrainRun, short_config: MakeConfig, tmp_path: Path
) -> None:
    run = tmp_path / "run"
    trainer = train_run(run, short_config(steps=4, ema_decay=0.3, checkpoint_every=1, keep_checkpoints=4))
    expected = make_controlnet(trainer.base.denoiser, "zero", 4, 3, 0).state_dict()
    for step, decay in ((1, 2 / 11), (2, 3 / 12), (3, 0.3), (4, 0.3)):  # (1 + step) / (10 + step), until that is more
        average, now = (
            load_file(run / "checkpoints" / f"{step:08d}" / part / "diffusion_pytorch_model.safetensors")
            for part in ("ema", "controlnet")
        )
        expected = {name: decay * value + (1 - decay) * now[name] for name, value in expected.items()}
        for name, value in average.items():
            torch.testing.assert_close(value, expected[name], atol=1e-7, rtol=1e-5)
    assert any(not torch.equal(average[name], now[name]) for name in now)


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


def test_the_8_bit_optimiser_is_that_of_bitsandbytes(
    train_run: TrainRun, short_config: MakeConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class AdamW8bit(torch.optim.AdamW):
        """Its state nests, and has a tensor that all parameters share, as that of bitsandbytes."""

        def state_dict(self) -> dict[str, Any]:
            said, shared = super().state_dict(), torch.linspace(-1, 1, 256)
            for index, parts in said["state"].items():
                quantised = {"state2": parts["exp_avg_sq"], "qmap2": shared}
                rest = {name: value for name, value in parts.items() if name != "exp_avg_sq"}
                said["state"][index] = {**rest, "count": 1, QUANTISED: quantised}
            return said

        def load_state_dict(self, said: dict[str, Any]) -> None:
            for parts in said["state"].values():
                assert parts.pop("count") == 1
                quantised = parts.pop(QUANTISED)
                assert len(quantised["qmap2"]) == 256
                parts["exp_avg_sq"] = quantised["state2"]
            super().load_state_dict(said)

    package, optim = types.ModuleType("bitsandbytes"), types.ModuleType("bitsandbytes.optim")
    package.__spec__ = importlib.machinery.ModuleSpec("bitsandbytes", None)
    optim.AdamW8bit = AdamW8bit
    monkeypatch.setitem(sys.modules, "bitsandbytes", package)
    monkeypatch.setitem(sys.modules, "bitsandbytes.optim", optim)
    trainer = train_run(tmp_path / "run", short_config(steps=2, optimizer="adamw8bit", weight_decay=0.03))
    used = trainer.optimizer.optimizer
    assert isinstance(used, AdamW8bit)
    assert used.param_groups[0]["weight_decay"] == 0.03
    whole = train_run(tmp_path / "whole", short_config(steps=3, optimizer="adamw8bit", weight_decay=0.03))
    goes_on = Trainer(tmp_path / "run", *start.resume(tmp_path / "run", {"steps": 3}), resume=True)
    goes_on.train()
    assert all(torch.equal(a, b) for a, b in zip(whole.parameters, goes_on.parameters, strict=True))
