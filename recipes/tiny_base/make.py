"""The tiny base: a complete Stable-Diffusion-shaped pipeline for 64×64 pixels, trained on the synthetic corpus.

    python -m recipes.tiny_base FOLDER [--seed 0] [--vae-steps N] [--steps N N ...] [--decoder-steps N]
    python -m recipes.tiny_base FOLDER --save     # what the last checkpoint holds, without training on
    torchrun --nproc-per-node 2 -m recipes.tiny_base FOLDER   # two processes share each batch

Three phases: the autoencoder, then text encoder and denoiser together, then the autoencoder's decoder alone. Every draw
is a function of (seed, step), so that a run which was cut off goes on from its last checkpoint, in
``FOLDER.training``, as if it had not been.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from diffusers import AutoencoderKL, StableDiffusionPipeline
from torch import distributed
from transformers import CLIPTokenizer

from controlmill.bases.pixels import signed
from controlmill.evaluation import plots

from .architecture import make_parts, save_pipeline
from .phase import Phase, rank_and_world, share_of
from .scenes import draw_scene

SCENES = 30_000
HELD_OUT = 1_000_000  # scenes from here on are never trained on
PROMPT_DROPOUT = 0.1  # unconditional samples for classifier-free guidance
KL_WEIGHTS = (2e-4, 2e-5)  # of the two halves of the autoencoder's training: smooth latents first, then sharp edges
DENOISER_RATES = (1.5e-3, 8e-4, 8e-4)  # of the denoiser's rounds; at 1.2e-3 one without warm-up blew up
# After its first round most of the noise is that in which outlines are decided: beyond it shapes could be anywhere,
# which no training tells, and a uniform draw spends half of its steps there.
OUTLINES = (350.0, 150.0, 0.75)  # mean and deviation of those timesteps, their share
TILT = 0.3  # radians; what sees tilted shapes first draws upright ones all the cleaner
TILTED_ROUNDS = 2  # of the denoiser's; the autoencoder always sees tilted shapes
GUIDANCE = 3.0  # 9.0 oversaturates flat colours
PHASES = ("vae", "denoiser", "decoder")


CARD = """---
library_name: diffusers
license: apache-2.0
---

# The tiny base

A Stable-Diffusion-shaped pipeline for 64×64 pictures of coloured shapes, for trying ControlNet training on a CPU.
Made by `python -m recipes.tiny_base` with seed {seed} from pictures that the same program draws:
{steps}.
Shapes are upright; the autoencoder and the denoiser's first two rounds saw shapes turned by up to {tilt:g} radians.
Sample with guidance {guidance:g} and 20 DDIM steps.
Its autoencoder halves sides twice, not three times: other trainers' new ControlNets do not fit it, since they embed
maps for three. Those that ControlMill begins do, also as a start for diffusers' `train_controlnet.py`.

![loss](loss.png)

True pictures, then samples from their captions:

![samples](samples.png)
"""


def batch_indices(seed: int, step: int, size: int) -> np.ndarray:
    """Which scenes step ``step`` trains on: int (size,)."""
    return np.random.default_rng((seed, step, 1)).integers(0, SCENES, size)


def pixels_of(indices: np.ndarray, seed: int) -> torch.Tensor:
    """Scenes as float32 (N, 3, 64, 64) in −1 to 1."""
    images = np.stack([draw_scene(seed, int(index), TILT).image for index in indices])
    return signed(torch.from_numpy(images).permute(0, 3, 1, 2).float())


def train_vae(
    vae: AutoencoderKL, folder: Path, seed: int, steps: int, batch: int = 8, go_on: bool = True
) -> AutoencoderKL:
    """L1 + MSE reconstruction with a little KL; sets ``scaling_factor`` so that latents have unit variance."""
    phase = Phase("vae", {"vae": vae}, folder, [(steps // 2, 2e-3), (steps - steps // 2, 2e-3)])
    share = share_of(batch)
    while go_on and phase.step < steps:
        pixels = pixels_of(batch_indices(seed, phase.step, batch)[share], seed)
        # bf16: half the time of a step; its rounding is below what the loss ends at
        with torch.autocast("cpu", torch.bfloat16):
            posterior = vae.encode(pixels).latent_dist
            shape = (batch, *posterior.mean.shape[1:])
            noise = torch.randn(shape, generator=torch.Generator().manual_seed(phase.step))[share]
            decoded = vae.decode(posterior.mean + posterior.std * noise).sample.float()
        mean, logvar = posterior.mean.float(), posterior.logvar.float()
        kl = 0.5 * (mean.square() + logvar.exp() - 1 - logvar).mean()
        error = decoded - pixels
        phase.update(error.abs().mean() + error.square().mean() + KL_WEIGHTS[phase.round()[0]] * kl)
    trained: Any = phase.average["vae"].eval()
    with torch.no_grad():
        latents = trained.encode(pixels_of(np.arange(256), seed)).latent_dist.mean
    trained.register_to_config(scaling_factor=round(1 / float(latents.std()), 4))
    return trained


def train_decoder(
    vae: AutoencoderKL, folder: Path, seed: int, steps: int, batch: int = 8, go_on: bool = True
) -> AutoencoderKL:
    """Sharpen the decoder alone: latents, and so the denoiser, stay what they are."""
    modules = {"out": vae.decoder.requires_grad_(True), "into": vae.post_quant_conv.requires_grad_(True)}
    phase = Phase("decoder", modules, folder, [(steps, 1e-3)])
    share = share_of(batch)
    while go_on and phase.step < steps:
        pixels = pixels_of(batch_indices(seed + 1, phase.step, batch)[share], seed)
        with torch.no_grad():
            latents = vae.encode(pixels).latent_dist.mean
        with torch.autocast("cpu", torch.bfloat16):
            error = vae.decode(latents).sample.float() - pixels
        phase.update(error.abs().mean() + error.square().mean())
    vae.decoder, vae.post_quant_conv = phase.average["out"].eval(), phase.average["into"].eval()
    return vae


def train_denoiser(
    parts: dict[str, Any], folder: Path, seed: int, rounds: Sequence[int], batch: int = 32, go_on: bool = True
) -> dict[str, Any]:
    """Text encoder and UNet from scratch, on the plain loss of the velocity, in rounds of steps."""
    vae, tokenizer, scheduler = parts["vae"], parts["tokenizer"], parts["scheduler"]
    modules = {"unet": parts["unet"], "text_encoder": parts["text_encoder"]}
    phase = Phase("denoiser", modules, folder, list(zip(rounds, DENOISER_RATES, strict=False)))
    unet: Any = phase.modules["unet"]
    text_encoder: Any = phase.modules["text_encoder"]
    seen = None  # the tilt of the encoded scenes
    empty = tokenize(tokenizer, [""])[0]
    share = share_of(batch)
    while go_on and phase.step < phase.steps:
        number, _ = phase.round()
        tilt = TILT if number < TILTED_ROUNDS else 0.0
        if tilt != seen:
            latents, prompts = encoded_scenes(vae, tokenizer, seed, tilt)
            seen = tilt
        chosen = torch.from_numpy(batch_indices(seed, phase.step, batch))
        generator = torch.Generator().manual_seed(seed * 1_000_003 + phase.step)
        tokens = prompts[chosen].clone()
        tokens[torch.rand(batch, generator=generator) < PROMPT_DROPOUT] = empty
        t = draw_timesteps(batch, scheduler.config.num_train_timesteps, number > 0, generator)
        noise = torch.randn((batch, *latents.shape[1:]), generator=generator)
        chosen, tokens, t, noise = chosen[share], tokens[share], t[share], noise[share]
        predicted = unet(scheduler.add_noise(latents[chosen], noise, t), t, text_encoder(tokens)[0]).sample
        velocity = scheduler.get_velocity(latents[chosen], noise, t)
        phase.update((predicted - velocity).square().mean())
    return {**parts, "unet": phase.average["unet"].eval(), "text_encoder": phase.average["text_encoder"].eval()}


def draw_timesteps(batch: int, count: int, outlines: bool, generator: torch.Generator) -> torch.Tensor:
    """int64 (batch,), 0 to ``count`` - 1: uniform, or most of them where outlines are decided."""
    uniform = torch.randint(0, count, (batch,), generator=generator)
    if not outlines:
        return uniform
    mean, deviation, share = OUTLINES
    near = (mean + deviation * torch.randn(batch, generator=generator)).round().long()
    chosen = (torch.rand(batch, generator=generator) < share) & (near >= 0) & (near < count)
    return torch.where(chosen, near, uniform)


@torch.no_grad()
def encoded_scenes(
    vae: AutoencoderKL, tokenizer: CLIPTokenizer, seed: int, tilt: float
) -> tuple[torch.Tensor, torch.Tensor]:
    """(scaled latents float32 (SCENES, 4, 16, 16), prompt tokens int64 (SCENES, 32)) of the training scenes."""
    rank, world = rank_and_world()
    mine, captions = [], []
    for first in range(0, SCENES, 100):
        scenes = [draw_scene(seed, index, tilt) for index in range(first, first + 100)]
        captions += [scene.caption for scene in scenes]
        if first * world // SCENES == rank:
            pixels = torch.from_numpy(np.stack([scene.image for scene in scenes])).permute(0, 3, 1, 2).float()
            mine.append(vae.encode(signed(pixels)).latent_dist.mean * vae.config.scaling_factor)
    latents = [torch.cat(mine)]
    if world > 1:
        latents = [torch.empty_like(latents[0]) for _ in range(world)]
        distributed.all_gather(latents, torch.cat(mine))
    return torch.cat(latents), tokenize(tokenizer, captions)


def tokenize(tokenizer: CLIPTokenizer, captions: list[str]) -> torch.Tensor:
    """int64 (N, 32)."""
    return tokenizer(captions, padding="max_length", truncation=True, return_tensors="pt").input_ids


def train(
    folder: Path, seed: int, vae_steps: int, rounds: Sequence[int], decoder_steps: int, go_on: bool = True
) -> None:
    """All phases, then the finished pipeline in ``folder``, with loss curves, samples and a card."""
    scratch = folder.with_name(folder.name + ".training")
    scratch.mkdir(parents=True, exist_ok=True)
    parts = make_parts(seed)
    parts["vae"] = train_vae(parts["vae"], scratch, seed, vae_steps, go_on=go_on)
    parts = train_denoiser(parts, scratch, seed, rounds, go_on=go_on)
    parts["vae"] = train_decoder(parts["vae"], scratch, seed, decoder_steps, go_on=go_on)
    if rank_and_world()[0]:
        return
    save_pipeline(parts, folder)
    (folder / "guidance.json").write_text(json.dumps({"guidance": GUIDANCE}) + "\n", encoding="utf-8")
    logs = {name: scratch / f"{name}.csv" for name in PHASES if (scratch / f"{name}.csv").exists()}
    curves = {name: np.loadtxt(path, delimiter=",", ndmin=2) for name, path in logs.items()}
    figure, axes = plots.axes(list(curves))
    for axis, (name, curve) in zip(axes, curves.items(), strict=True):
        axis.semilogy(curve[:, 0], curve[:, 1], lw=0.8)
        shutil.copyfile(logs[name], folder / f"loss_{name}.csv")
    plots.save_figure(figure, folder / "loss.png")
    plots.save_picture(sample_grid(folder), folder / "samples.png")
    done = ", ".join(f"{int(curve[-1, 0]):,} steps for the {name}" for name, curve in curves.items())
    card = CARD.format(seed=seed, guidance=GUIDANCE, steps=done, tilt=TILT)
    (folder / "README.md").write_text(card, encoding="utf-8")


def sample_grid(folder: Path) -> np.ndarray:
    """True held-out pictures, then 20 DDIM steps from their captions for each guidance scale; uint8 (H, W, 3)."""
    pipeline = StableDiffusionPipeline.from_pretrained(folder, dtype=torch.float32, safety_checker=None)
    pipeline.set_progress_bar_config(disable=True)
    scenes = [draw_scene(0, HELD_OUT + index) for index in range(12)]
    rows = {"true": [scene.image for scene in scenes]}
    for guidance in (1.0, 2.0, GUIDANCE, 9.0):
        made = pipeline(
            [scene.caption for scene in scenes],
            num_inference_steps=20,
            guidance_scale=guidance,
            generator=[torch.Generator().manual_seed(index) for index in range(len(scenes))],
            output_type="np",
        ).images
        rows[f"CFG {guidance:g}"] = [np.rint(image * 255).astype(np.uint8) for image in made]
    return plots.picture_grid(rows)


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(
        prog="python -m recipes.tiny_base",
        description="Train the tiny base on the synthetic corpus. A run that was stopped goes on from its checkpoint.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    parser.add_argument(
        "folder", type=Path, help="where the finished base goes; its training state is in FOLDER.training"
    )
    parser.add_argument("--seed", type=int, default=0, help="seed of all random draws")
    parser.add_argument("--vae-steps", type=int, default=3_000, help="steps of the autoencoder")
    parser.add_argument(
        "--steps", type=int, nargs="+", default=[5_000, 7_500, 8_000], help="steps of each round of the denoiser"
    )
    parser.add_argument("--decoder-steps", type=int, default=1_500, help="steps of the autoencoder's decoder alone")
    parser.add_argument("--threads", type=int, default=1, help="threads of PyTorch")
    parser.add_argument("--save", action="store_true", help="write the base from the last checkpoint, without training")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    if "WORLD_SIZE" in os.environ:  # torchrun: processes share each batch
        distributed.init_process_group("gloo")
    train(options.folder, options.seed, options.vae_steps, options.steps, options.decoder_steps, go_on=not options.save)
