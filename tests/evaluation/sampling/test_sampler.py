"""Sampled pictures are those of the stock pipelines, in every precision."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import ControlNetModel

from controlmill.annotators.runtime.torch_device import torch_dtype
from controlmill.bases.base import Base
from controlmill.bases.controlnet import choose_trainable, make_controlnet, zero_convolutions
from controlmill.bases.registry import load_base
from controlmill.evaluation.sampling.sampler import sample_pictures, start_noise

ROWS = [(0, i) for i in range(5)]


def connected(base: Base) -> ControlNetModel:
    """A ControlNet whose control shows."""
    controlnet = make_controlnet(base.denoiser, "zero", 4, 3, 0).float()
    for convolution in zero_convolutions(controlnet):
        torch.nn.init.normal_(convolution.weight, std=0.05, generator=torch.Generator().manual_seed(0))
    return controlnet


def test_a_middle_block_alone_samples_what_its_file_samples(small_base: Path, tmp_path: Path) -> None:
    base = load_base(str(small_base), torch.device("cpu"))
    trained = connected(base)
    choose_trainable(trained, base.denoiser, only_mid=True, unlock="none")
    trained.save_pretrained(tmp_path / "file")
    control, noise = np.full((1, 3, 64, 64), 0.5, np.float32), start_noise(base, ROWS[:1], 0, 64, 64)
    loaded = type(trained).from_pretrained(tmp_path / "file")
    drawn = [sample_pictures(base, which, ["a"], control, noise, 2, 2.0) for which in (trained, loaded, None)]
    np.testing.assert_array_equal(drawn[0], drawn[1])
    assert not np.array_equal(drawn[0], drawn[2])


@pytest.mark.parametrize("precision", ["bf16", "fp16"])
@pytest.mark.parametrize("unlocked", [False, True])
def test_half_precision_samples_are_near_those_of_fp32(precision: str, unlocked: bool, small_base: Path) -> None:
    pictures = {}
    for dtype in ("fp32", precision):
        base = load_base(str(small_base), torch.device("cpu"), dtype)
        controlnet = connected(base)
        choose_trainable(controlnet, base.denoiser, only_mid=False, unlock="decoder" if unlocked else "none")
        control, noise = np.full((2, 3, 64, 64), 0.5, np.float32), start_noise(base, ROWS[:2], 0, 64, 64)
        pictures[dtype] = np.stack(sample_pictures(base, controlnet, ["a", "b"], control, noise, 3, 2.0))
        assert base.denoiser.conv_in.weight.dtype == torch_dtype(dtype)
    off = np.abs(pictures["fp32"].astype(int) - pictures[precision])
    assert pictures["fp32"].std() > 5
    assert off.mean() < 2


def test_fp32_samples_are_those_of_the_stock_pipeline_bit_for_bit(small_base: Path) -> None:
    base = load_base(str(small_base), torch.device("cpu"))
    controlnet, noise = connected(base), start_noise(base, ROWS, 0, 64, 64)
    control = np.random.default_rng(0).random((5, 3, 64, 64), np.float32)
    prompts = ["a red circle"] * 5
    settings: dict[str, Any] = {"num_inference_steps": 3, "guidance_scale": 2.0, "output_type": "np"}
    size = {"height": 64, "width": 64}
    with torch.no_grad():
        free = base.pipeline()(prompt=prompts, latents=noise, **size, **settings).images
        picture = torch.from_numpy(control)
        led = base.pipeline(controlnet)(prompt=prompts, image=picture, latents=noise, **size, **settings).images
    for stock, arguments in ((free, (None, prompts, None)), (led, (controlnet, prompts, control))):
        ours = sample_pictures(base, *arguments, noise, 3, 2.0)
        np.testing.assert_array_equal(np.stack(ours), np.rint(stock * 255).astype(np.uint8))
