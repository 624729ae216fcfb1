"""What is trained in each mode, from which weights, and by which optimiser."""

from __future__ import annotations

import importlib.machinery
import shutil
import sys
import types
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from controlmill.bases.controlnet import make_controlnet
from controlmill.bases.registry import load_base
from controlmill.schemas.errors import MillError
from controlmill.schemas.provenance import CaptionsRecord
from controlmill.training import start
from controlmill.training.run import checkpoint
from controlmill.training.trainer import Trainer
from tests.small_base import save_small_base, small_unet
from tests.training_runs import (
    MakeConfig,
    TrainRun,
    begin,
    equal,
    weights,
)

MODES = {
    "zero": ({}, set()),
    "only mid": ({"only_mid_control": True}, {"controlnet_down_blocks"}),
    "lite": ({"connection": "lite"}, {"time_embedding"}),
    "gaussian": ({"connection": "gaussian"}, set()),
    "random": ({"connection": "random"}, set()),
    "input": ({"connection": "input", "unlock": "decoder"}, {"frozen"}),
    "decoder": ({"unlock": "decoder"}, set()),
    "base": ({"unlock": "base"}, set()),
}


DECODER = ("up_blocks", "conv_norm_out", "conv_out")


TRAINED = {"decoder": DECODER, "input": DECODER, "base": ("",)}  # of the UNet, by the beginning of names


QUANTISED = "__bnb_optimizer_quant_state__"


@pytest.mark.parametrize("mode", MODES)
def test_only_what_should_be_trained_changes(
    mode: str, train_run: TrainRun, short_config: MakeConfig, tmp_path: Path
) -> None:
    changes, frozen = MODES[mode]
    config = short_config(steps=4, max_grad_norm=0.0, **changes)
    trainer = train_run(tmp_path / "run", config)
    untouched = load_base(config.base, torch.device("cpu"))
    for name, value in trainer.base.denoiser.state_dict().items():
        moved = not torch.equal(value, untouched.denoiser.state_dict()[name])
        assert moved == name.startswith(TRAINED.get(mode, ("-",))), name
    before = make_controlnet(untouched.denoiser, config.connection, 4, 3, config.seed).state_dict()
    unused = ".to_k.bias"  # a softmax does not feel it: none here, kept for the reader of diffs
    for name, value in weights(tmp_path / "run").items():
        moved = not torch.equal(value, before[name])
        assert moved == (not name.startswith(tuple(frozen) or ("-",))) or name.endswith(unused), name


def test_only_mid_runs_in_the_stock_pipeline_and_reconnects(
    train_run: TrainRun, short_config: MakeConfig, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    train_run(tmp_path / "mid", short_config(steps=2, only_mid_control=True))
    assert not any(value.any() for name, value in weights(tmp_path / "mid").items() if "controlnet_down_blocks" in name)
    train_run(tmp_path / "all", short_config(steps=3, start_from=str(tmp_path / "mid")))
    assert all(value.any() for name, value in weights(tmp_path / "all").items() if "controlnet_down_blocks" in name)
    assert "are dropped" not in capsys.readouterr().err
    train_run(tmp_path / "again", short_config(start_from=str(tmp_path / "all"), only_mid_control=True, steps=1))
    assert "to skips are dropped, and zero again" in capsys.readouterr().err
    again = weights(tmp_path / "again")
    assert not any(value.any() for name, value in again.items() if "controlnet_down_blocks" in name)
    assert again["controlnet_mid_block.weight"].any()


def test_what_is_trained_starts_unrounded_whatever_the_precision(
    short_config: MakeConfig, scenes_folder: Path, small_base: Path, tmp_path: Path
) -> None:
    config = short_config(precision="bf16", unlock="decoder")
    trainer = begin(scenes_folder, tmp_path / "run", config)
    exact = load_base(str(small_base), torch.device("cpu"))
    assert equal(trainer.trained.controlnet.state_dict(), make_controlnet(exact.denoiser, "zero", 4, 3, 0).state_dict())
    for name, value in exact.denoiser.state_dict().items():
        own = trainer.base.denoiser.state_dict()[name]
        trained = name.startswith(DECODER)
        assert torch.equal(own, value if trained else value.bfloat16())


def test_a_run_does_not_go_on_with_another_base_or_other_captions(
    train_run: TrainRun, short_config: MakeConfig, scenes_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    base = tmp_path / "base"
    save_small_base(base)
    config = short_config(base=str(base), steps=1, unlock="decoder")
    train_run(tmp_path / "run", config)
    going = start.resume(tmp_path / "run", {"steps": 2})
    Trainer(tmp_path / "run", *going, resume=True).train()  # the decoder is another, the base is not
    unet = small_unet()
    unet.save_pretrained(base / "unet")
    with pytest.raises(MillError, match="other weights than the base"):
        Trainer(tmp_path / "run", *start.resume(tmp_path / "run", {}), resume=True)
    another = CaptionsRecord("images", "0" * 64)
    monkeypatch.setattr("controlmill.schemas.dataset.Dataset.captions", lambda dataset: another)
    with pytest.raises(MillError, match=r"has other captions\."):
        start.resume(tmp_path / "run", {}, str(scenes_folder))


def test_a_run_goes_on_without_what_it_started_from(
    train_run: TrainRun, short_config: MakeConfig, tmp_path: Path
) -> None:
    train_run(tmp_path / "first", short_config(steps=1))
    config = short_config(steps=2, start_from=str(tmp_path / "first"))
    train_run(tmp_path / "run", config)
    shutil.rmtree(tmp_path / "first")
    Trainer(tmp_path / "run", *start.resume(tmp_path / "run", {"steps": 3}), resume=True).train()
    assert checkpoint.steps_saved(tmp_path / "run")[-1] == 3


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
