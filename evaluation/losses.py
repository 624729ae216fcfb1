"""Losses of held-out rows at fixed times, with noise that is each row's own."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from diffusers import ControlNetModel

from controlmill.bases.base import Base, Prompt
from controlmill.bases.pixels import signed

from .convergence import TIMES
from .rows import Sample, draws
from .sampling.batches import parts


@dataclass(frozen=True)
class LossInputs:
    """What losses are taken of, on the base's device.

    ``latents`` are float32 (rows, C, h, w), ``noise`` is float32 (rows, times, C, h, w).
    """

    latents: torch.Tensor
    prompt: Prompt
    noise: torch.Tensor


@torch.no_grad()
def loss_inputs(base: Base, samples: Sequence[Sample], seed: int, batch_size: int) -> LossInputs:
    """Encoded samples, and the noise that belongs to each at a seed."""
    shape = base.latent_shape(*samples[0].picture.shape[:2])
    latents, noise, prompts = [], [], []
    for part in parts(len(samples), batch_size):
        pixels = torch.from_numpy(np.stack([sample.picture for sample in samples[part]])).permute(0, 3, 1, 2)
        rngs = [draws(seed, 0, sample.row, "evaluation") for sample in samples[part]]
        vae_noise = torch.from_numpy(np.stack([rng.standard_normal(shape, np.float32) for rng in rngs]))
        latents.append(base.encode_images(signed(pixels.float()), vae_noise))
        noise += [rng.standard_normal((len(TIMES), *shape), np.float32) for rng in rngs]
        prompts.append(base.encode_prompts([sample.caption for sample in samples[part]]))
    return LossInputs(torch.cat(latents), Prompt.joined(prompts), torch.from_numpy(np.stack(noise)).to(base.device))


@torch.no_grad()
def losses_at_times(
    base: Base,
    controlnet: ControlNetModel | None,
    inputs: LossInputs,
    control: np.ndarray | None,
    batch_size: int,
) -> np.ndarray:
    """Plain losses at ``TIMES``, float64 (rows, times); ``control`` is float32 (rows, 3, H, W) in 0 to 1."""
    denoiser = base.controlled(controlnet).eval()
    losses = np.zeros((len(inputs.latents), len(TIMES)))
    for i, share in enumerate(TIMES):
        for rows in parts(len(losses), batch_size):
            latents, noise = inputs.latents[rows], inputs.noise[rows, i]
            t = torch.full((len(latents),), int(share * base.schedule.times), device=base.device)
            noisy = base.schedule.add_noise(latents, noise, t)
            maps = None if control is None else torch.from_numpy(control[rows]).to(base.device)
            with torch.autocast(base.device.type, base.dtype, base.dtype != torch.float32):
                predicted = denoiser(noisy, t, dict(inputs.prompt.rows(rows)), maps)
            error = predicted.float() - base.schedule.target(latents, noise, t)
            losses[rows, i] = error.square().mean(dim=(1, 2, 3)).cpu().numpy()
    return losses
