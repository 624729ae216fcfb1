"""What each option of the loss, the noise, the optimiser and the networks does, and which numbers they take."""

from __future__ import annotations

import functools
import importlib.machinery
import math
import sys
import types
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from controlmill.bases.controlnet import make_controlnet
from controlmill.bases.stable_diffusion import Base
from controlmill.schemas.errors import MillError
from controlmill.training import start
from controlmill.training.config import TYPES, TrainConfig, make_config
from controlmill.training.step import make_inputs
from controlmill.training.trainer import Trainer, averaging
from tests.small_base import save_small_base
from tests.training_runs import MakeConfig, TrainRun, losses

QUANTISED = "__bnb_optimizer_quant_state__"


NUMBERS = [name for name, kind in TYPES.items() if kind in (int, float)]
FLOATS = [name for name, kind in TYPES.items() if kind is float]


def flag(name: str) -> str:
    return f"--{name.replace('_', '-')}"


@pytest.mark.parametrize("name", NUMBERS)
def test_no_number_is_below_zero(name: str) -> None:
    with pytest.raises(MillError, match=rf"^{flag(name)} is .*, not -1$"):
        TrainConfig(condition="canny", **{name: -1}).check()


@pytest.mark.parametrize("value", [math.nan, math.inf])
@pytest.mark.parametrize("name", FLOATS)
def test_every_float_is_finite(name: str, value: float) -> None:
    with pytest.raises(MillError, match=f"^{flag(name)} is a finite number, not {value}$"):
        TrainConfig(condition="canny", **{name: value}).check()


@pytest.mark.parametrize(
    ("name", "good", "bad", "said"),
    [
        ("learning_rate", 1e-9, 0.0, "above 0"),
        ("unlock_learning_rate", 1e-9, 0.0, "above 0"),
        ("max_grad_norm", 0.0, -0.1, "0 or more"),
        ("steps", 1, 0, r"from 1 to below 10\*\*8"),
        ("steps", 10**8 - 1, 10**8, r"from 1 to below 10\*\*8"),
        ("batch_size", 1, 0, r"from 1 to 2\*\*16"),
        ("batch_size", 2**16, 2**16 + 1, r"from 1 to 2\*\*16"),
        ("keep_checkpoints", 1, 0, "1 or more"),
        ("sampling_steps", 1, 0, "1 or more"),
        ("threads", 1, 0, "1 or more"),
        ("evaluation_rows", 2, 1, "2 or more"),
        ("prompt_dropout", 1.0, 1.1, "from 0 to 1"),
        ("held_out", 0.99, 1.0, "from 0 to below 1"),
        ("ema_decay", 0.99, 1.0, "from 0 to below 1"),
        ("seed", 2**63 - 1, 2**63, r"from 0 to below 2\*\*63"),
    ],
)
def test_where_the_range_of_a_number_ends(name: str, good: float, bad: float, said: str) -> None:
    TrainConfig(condition="canny", **{name: good}).check()
    with pytest.raises(MillError, match=f"^{flag(name)} is {said}, not {bad}$"):
        TrainConfig(condition="canny", **{name: bad}).check()


def test_all_faults_are_named_at_once() -> None:
    with pytest.raises(MillError) as found:
        TrainConfig(precision="fp8", max_grad_norm=-1.0, min_snr_gamma=-5.0, learning_rate=math.nan).check()
    assert str(found.value).split("\n  ") == [
        "--precision fp8: one of fp32, bf16, fp16",
        "--learning-rate is a finite number, not nan",
        "--max-grad-norm is 0 or more, not -1.0",
        "--min-snr-gamma is 0 or more, not -5.0",
        "--condition: say which table to train on",
    ]


def test_a_setting_that_may_be_left_open_is_checked_when_it_is_given() -> None:
    assert make_config(None, {"condition": "canny", "evaluation_prompt": ""}).evaluation_prompt == ""
    assert make_config(None, {"condition": "canny"}).evaluation_prompt is None
    with pytest.raises(MillError, match="evaluation_prompt = 3: should be str"):
        make_config(None, {"condition": "canny", "evaluation_prompt": 3})


@pytest.mark.parametrize("prediction", ["epsilon", "v_prediction"])
def test_min_snr_weights_are_those_of_the_paper(prediction: str, tmp_path: Path) -> None:
    base = Base(str(save_small_base(tmp_path / "base", prediction)), torch.device("cpu"))
    t = torch.tensor([0, 100, 500, 999])
    alphas = base.noise.alphas_cumprod[t].double()
    snr = alphas / (1 - alphas)
    expected = torch.minimum(snr, torch.tensor(5.0)) / (snr if prediction == "epsilon" else snr + 1)
    torch.testing.assert_close(base.snr_weight(t, 5.0).double(), expected, rtol=1e-4, atol=1e-6)
    assert base.snr_weight(t, 5.0)[0] < 0.1  # little noise: little weight
    base.alphas[999] = 0.0  # a schedule that ends in noise alone
    assert base.snr_weight(t, 5.0)[-1] == (1 if prediction == "epsilon" else 0)


def test_noise_offset_is_constant_over_a_picture_and_differs_by_channel(
    short_config: MakeConfig, scenes_folder: Path, small_base: Path
) -> None:
    base = Base(str(small_base), torch.device("cpu"))
    config = short_config()
    prepared = start.prepare(str(scenes_folder), config)
    samples = next(prepared.loader(config).batches())
    plain = make_inputs(base, samples, prepared.condition, config).noise
    offset = make_inputs(base, samples, prepared.condition, short_config(noise_offset=0.5)).noise - plain
    torch.testing.assert_close(offset, offset[:, :, :1, :1].expand_as(offset), atol=1e-5, rtol=0)
    assert len(offset[:, :, 0, 0].unique()) == offset.shape[0] * offset.shape[1]
    assert 0.1 < offset[:, :, 0, 0].std() < 1.5


def test_the_average_is_the_exponential_one_and_forgets_its_start(
    train_run: TrainRun, short_config: MakeConfig, tmp_path: Path
) -> None:
    run = tmp_path / "run"
    trainer = train_run(run, short_config(steps=4, ema_decay=0.3, checkpoint_every=1, keep_checkpoints=4))
    expected = make_controlnet(trainer.base.unet, "zero", 4, 3, 0).state_dict()
    for step, decay in ((1, 2 / 11), (2, 3 / 12), (3, 0.3), (4, 0.3)):  # (1 + step) / (10 + step), until that is more
        average, now = (
            load_file(run / "checkpoints" / f"{step:08d}" / part / "diffusion_pytorch_model.safetensors")
            for part in ("ema", "controlnet")
        )
        expected = {name: decay * value + (1 - decay) * now[name] for name, value in expected.items()}
        for name, value in average.items():
            torch.testing.assert_close(value, expected[name], atol=1e-7, rtol=1e-5)
    assert any(not torch.equal(average[name], now[name]) for name in now)


def test_a_slow_average_is_of_the_run_and_not_of_its_start() -> None:
    """After 5,000 steps at 0.9999, 0.61 of a plain average would still be what the run began with."""
    assert math.prod(averaging(0.9999, step) for step in range(1, 5_001)) < 1e-6
    assert averaging(0.9999, 200_000) == 0.9999


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
