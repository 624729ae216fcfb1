"""Checkpoints, and what a run offers: diffusers loads it, the last ones are kept."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from diffusers import ControlNetModel, MultiControlNetModel, StableDiffusionControlNetPipeline, UNet2DConditionModel
from PIL import Image
from safetensors.torch import load_file

from controlmill.bases.ablations import LiteControlNet
from controlmill.bases.controlnet import zero_convolutions
from controlmill.training.run import checkpoint
from tests.training_runs import MakeConfig, TrainRun

WEIGHTS = "diffusion_pytorch_model.safetensors"


def test_the_stock_pipeline_runs_with_a_checkpoint(finished_run: Path, small_base: Path) -> None:
    controlnet = ControlNetModel.from_pretrained(finished_run)
    pipeline = StableDiffusionControlNetPipeline.from_pretrained(
        small_base, controlnet=controlnet, dtype=torch.float32, safety_checker=None
    )
    picture = Image.new("RGB", (64, 64))
    made = pipeline("a red circle", image=picture, num_inference_steps=2, guess_mode=True, output_type="np").images
    assert made.shape == (1, 64, 64, 3)


def test_two_controlnets_add_up_in_the_stock_pipeline(finished_run: Path, small_base: Path) -> None:
    one, two = (ControlNetModel.from_pretrained(finished_run) for _ in range(2))
    for controlnet in (one, two):
        for convolution in zero_convolutions(controlnet):
            torch.nn.init.normal_(convolution.weight, std=0.2)
    pipeline = StableDiffusionControlNetPipeline.from_pretrained(
        small_base, controlnet=MultiControlNetModel([one, two]), dtype=torch.float32, safety_checker=None
    )
    picture = Image.fromarray(np.random.default_rng(0).integers(0, 255, (64, 64, 3), np.uint8))
    options = {"num_inference_steps": 2, "output_type": "np"}

    def sample(scales: list[float]) -> np.ndarray:
        generator = torch.Generator().manual_seed(0)
        images = [picture, picture]
        return pipeline("a", image=images, controlnet_conditioning_scale=scales, generator=generator, **options).images

    assert not np.allclose(sample([1.0, 1.0]), sample([1.0, 0.0]))


def test_a_lite_checkpoint_loads_and_runs(
    train_run: TrainRun, short_config: MakeConfig, tmp_path: Path, small_base: Path
) -> None:
    train_run(tmp_path / "lite", short_config(steps=2, connection="lite"))
    loaded = LiteControlNet.from_pretrained(tmp_path / "lite")
    saved = load_file(tmp_path / "lite" / "diffusion_pytorch_model.safetensors")
    assert all(torch.equal(value, saved[name]) for name, value in loaded.state_dict().items())
    pipeline = StableDiffusionControlNetPipeline.from_pretrained(
        small_base, controlnet=loaded, dtype=torch.float32, safety_checker=None
    )
    assert pipeline("a", image=Image.new("RGB", (64, 64)), num_inference_steps=2).images[0].size == (64, 64)


def test_an_unlocked_base_is_saved_and_loads(train_run: TrainRun, short_config: MakeConfig, tmp_path: Path) -> None:
    trainer = train_run(tmp_path / "run", short_config(steps=2, unlock="decoder"))
    loaded = UNet2DConditionModel.from_pretrained(tmp_path / "run" / "unet")
    trained = trainer.base.denoiser.state_dict()
    assert all(torch.equal(value, trained[name]) for name, value in loaded.state_dict().items())


def test_the_last_checkpoints_are_kept_and_half_written_ones_ignored(
    train_run: TrainRun, short_config: MakeConfig, tmp_path: Path
) -> None:
    train_run(tmp_path / "run", short_config(steps=5, checkpoint_every=1, keep_checkpoints=2))
    (tmp_path / "run" / "checkpoints" / "00000009").mkdir()
    (tmp_path / "run" / "checkpoints" / "00000008.partial").mkdir()
    assert checkpoint.steps_saved(tmp_path / "run") == [4, 5]
    offered, last = tmp_path / "run", tmp_path / "run" / "checkpoints" / "00000005" / "controlnet"
    assert (offered / WEIGHTS).samefile(last / WEIGHTS)
