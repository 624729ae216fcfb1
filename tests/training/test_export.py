"""Exported weights: the names of the original repository or of diffusers, and no weight lost."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from diffusers import ControlNetModel, UNet2DConditionModel
from safetensors.torch import load_file
from typer.testing import CliRunner

from controlmill.__main__ import app
from controlmill.bases.controlnet import zero_convolutions
from controlmill.bases.controlnet_file import original_modules, to_original
from controlmill.training import export
from tests.small_base import small_unet


def test_export_round_trip_through_diffusers(tmp_path: Path) -> None:
    made = ControlNetModel.from_unet(small_unet())  # diffusers reads embeddings of four levels only: factor 8
    for convolution in zero_convolutions(made):
        torch.nn.init.normal_(convolution.weight)
    made.save_pretrained(tmp_path / "made")
    out = tmp_path / "original.safetensors"
    export.export_weights(tmp_path / "made", out, "original", "fp32")
    loaded = ControlNetModel.from_single_file(str(out), config=str(tmp_path / "made"), local_files_only=True)
    assert loaded.state_dict().keys() == made.state_dict().keys()
    assert all(torch.equal(value, made.state_dict()[name]) for name, value in loaded.state_dict().items())


def test_export_of_a_tiny_run_loses_no_weight(finished_run: Path, tmp_path: Path) -> None:
    out = tmp_path / "original.safetensors"
    export.export_weights(finished_run, out, "original", "fp32")
    saved = load_file(finished_run / "diffusion_pytorch_model.safetensors")
    exported = load_file(out)
    config = ControlNetModel.load_config(finished_run)
    back = {theirs: ours for ours, theirs in original_modules(config).items()}
    assert len(back) == len(original_modules(config))
    for key, value in exported.items():
        module, _, kind = key.removeprefix("control_model.").rpartition(".")
        module, _, rest = (module, "", "") if module in back else _split(module, back)
        assert torch.equal(value, saved[".".join(part for part in (back[module], rest, kind) if part)])
    assert len(exported) == len(saved)


def _split(module: str, known: Any) -> tuple[str, str, str]:
    parts = module.split(".")
    at = next(n for n in range(len(parts), 0, -1) if ".".join(parts[:n]) in known)
    return ".".join(parts[:at]), ".", ".".join(parts[at:])


def test_exported_keys_of_stable_diffusion_are_the_original_ones() -> None:
    with torch.device("meta"):
        model = ControlNetModel(cross_attention_dim=768)
    keys = to_original(model.state_dict(), model.config).keys()
    assert len(keys) == len(model.state_dict()) == 340
    for key in (
        "input_blocks.0.0.weight",
        "input_blocks.1.1.transformer_blocks.0.attn1.to_q.weight",
        "input_blocks.3.0.op.weight",
        "input_blocks.11.0.in_layers.2.weight",
        "input_hint_block.14.weight",
        "middle_block.1.proj_in.weight",
        "middle_block.2.out_layers.3.bias",
        "middle_block_out.0.weight",
        "time_embed.2.bias",
        "zero_convs.11.0.weight",
    ):
        assert f"control_model.{key}" in keys


def test_what_no_web_interface_can_load_is_said(finished_run: Path, tmp_path: Path) -> None:
    small = CliRunner().invoke(app, ["export-weights", str(finished_run), "--out", str(tmp_path / "small.safetensors")])
    assert "note: no web interface can load this" in small.output
    assert (tmp_path / "small.safetensors").stat().st_mode == (
        finished_run / "run.json"
    ).stat().st_mode  # as the umask says
    assert not list(tmp_path.glob("*~"))
    for width in (768, 1024):
        unet = UNet2DConditionModel.load_config(finished_run / "config.json") | {"cross_attention_dim": width}
        large = {"block_out_channels": (320, 640, 1280, 1280), "conditioning_embedding_out_channels": (16, 32, 96, 256)}
        assert export.unreadable({**unet, **large}) == ""


def test_export_in_half_precision_keeps_diffusers_names(finished_run: Path, tmp_path: Path) -> None:
    export.export_weights(finished_run, tmp_path / "half.safetensors", "diffusers", "fp16")
    assert {value.dtype for value in load_file(tmp_path / "half.safetensors").values()} == {torch.float16}
