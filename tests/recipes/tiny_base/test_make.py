"""The tiny base that comes with ControlMill, and the script that made it."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest
import torch
from diffusers import StableDiffusionControlNetPipeline
from PIL import Image

from controlmill.bases.base import Base
from controlmill.bases.configuration import TINY
from controlmill.bases.controlnet import make_controlnet
from controlmill.bases.registry import load_base
from recipes.tiny_base import make as tiny_base
from recipes.tiny_base import phase
from recipes.tiny_base.architecture import make_parts, save_pipeline
from recipes.tiny_base.scenes import COLOURS, Scene, draw_scene

MEGABYTES = 12


@pytest.fixture(scope="module")
def base() -> Base:
    return load_base("tiny", torch.device("cpu"))


def scenes(count: int) -> list[Scene]:
    """Scenes that the base was not trained on."""
    return [draw_scene(0, tiny_base.HELD_OUT + index) for index in range(count)]


def test_it_is_small() -> None:
    assert sum(file.stat().st_size for file in TINY.rglob("*") if file.is_file()) < MEGABYTES * 1e6


def test_its_autoencoder_gives_pictures_back(base: Base) -> None:
    pixels = torch.from_numpy(np.stack([scene.image for scene in scenes(16)])).permute(0, 3, 1, 2).float() / 127.5 - 1
    with torch.no_grad():
        latents = base.vae.encode(pixels).latent_dist.mean
        error = (base.vae.decode(latents).sample - pixels) / 2
    assert -10 * np.log10(float(error.square().mean())) > 25  # decibels
    assert 0.7 < float(latents.std()) * base.vae.config.scaling_factor < 1.4


def test_it_draws_what_the_caption_says(base: Base) -> None:
    """Twenty DDIM steps at the guidance of its card: grounds and shapes have the colours that were asked for."""
    chosen = [scene for scene in scenes(40) if len(scene.shapes) == 1][:12]
    made = base.pipeline()(
        [scene.caption for scene in chosen],
        num_inference_steps=20,
        guidance_scale=base.guidance,
        generator=[torch.Generator().manual_seed(index) for index in range(len(chosen))],
        output_type="np",
    ).images
    grounds, shapes = 0, 0
    for scene, image in zip(chosen, made, strict=True):
        names = np.array(list(COLOURS))
        far = np.abs(image[:, :, None] * 255 - np.array(list(COLOURS.values()))).sum(axis=3)
        share = {name: (names[far.argmin(axis=2)] == name).mean() for name in COLOURS}
        grounds += scene.caption.endswith(f"{max(share, key=share.get)} ground")
        shapes += share[scene.shapes[0].colour] > 0.02
    assert grounds >= 11
    assert shapes >= 10


def saved_again(folder: Path) -> Path:
    """As the script that made the base would save it now."""
    save_pipeline(make_parts(0), folder)
    return folder


@pytest.mark.parametrize("folder", [lambda _: TINY, saved_again])
def test_the_stock_pipeline_loads_it_in_one_dtype(folder: Path, base: Base, tmp_path: Path) -> None:
    controlnet = make_controlnet(base.denoiser, "zero", 4, 3, 0)
    made = StableDiffusionControlNetPipeline.from_pretrained(folder(tmp_path), controlnet=controlnet)
    assert {part.dtype for part in (made.unet, made.vae, made.text_encoder)} == {torch.float32}
    assert made("a red circle", image=Image.new("RGB", (64, 64)), num_inference_steps=1).images[0].size == (64, 64)


def test_training_goes_on_where_it_was_cut_off(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Four steps end in the weights of two steps, a cut, and the rest; its loss curve has no line twice."""
    monkeypatch.setattr(phase, "CHECKPOINT_SECONDS", 0.0)
    monkeypatch.setattr(phase, "LOG_EVERY", 1)

    def train(folder: Path) -> dict[str, torch.Tensor]:
        folder.mkdir(exist_ok=True)
        return tiny_base.train_vae(make_parts(0)["vae"], folder, 0, steps=4, batch=2).state_dict()

    once = train(tmp_path / "once")
    update = phase.Phase.update

    def cut(one: phase.Phase, loss: torch.Tensor) -> None:
        if one.step == 2:
            raise KeyboardInterrupt
        update(one, loss)

    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        patched.setattr(phase.Phase, "update", cut)
        train(tmp_path / "cut")
    again = train(tmp_path / "cut")
    assert all(torch.equal(value, again[name]) for name, value in once.items())
    assert [int(row[0]) for row in csv.reader((tmp_path / "cut/vae.csv").open())] == [1, 2, 3, 4]
