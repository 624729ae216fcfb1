"""What a step takes its loss of: latents, noise, prompts and control images, drawn by (seed, epoch, row)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from controlmill.bases.stable_diffusion import Base
from controlmill.schemas.conditions import Condition
from controlmill.schemas.maps.transforms import control_image

from .config import TrainConfig
from .data.reader import Sample, draws


@dataclass
class Inputs:
    """A micro-batch on the device: latents, what was drawn, encoded prompts, control images."""

    latents: torch.Tensor
    noise: torch.Tensor
    t: torch.Tensor
    text: torch.Tensor
    control: torch.Tensor


def make_inputs(
    base: Base, samples: list[Sample], condition: Condition, config: TrainConfig, empty: torch.Tensor | None = None
) -> Inputs:
    """Everything random is drawn here, on the CPU, for each sample from (seed, epoch, row).

    ``empty`` is the embedding of the empty prompt where the samples bring those of their captions from a cache.
    """
    control = np.stack([control_image(condition, sample.maps[condition.name]) for sample in samples])
    shape = base.latent_shape(*control.shape[2:])
    t, drop, vae_noise, noise = [], [], [], []
    for sample in samples:
        rng = draws(config.seed, sample.epoch, sample.row, "step")
        t.append(int(rng.integers(base.noise.config.num_train_timesteps)))
        drop.append(bool(rng.random() < config.prompt_dropout))
        vae_noise.append(rng.standard_normal(shape, np.float32))
        drawn = rng.standard_normal(shape, np.float32)
        offset = rng.standard_normal((shape[0], 1, 1), np.float32)
        noise.append(drawn + np.float32(config.noise_offset) * offset)
    prompts = ["" if dropped else sample.caption for sample, dropped in zip(samples, drop, strict=True)]
    return Inputs(
        _latents(base, samples, torch.from_numpy(np.stack(vae_noise))),
        torch.from_numpy(np.stack(noise)).to(base.device),
        torch.tensor(t, device=base.device),
        base.encode_prompts(prompts) if empty is None else _embeddings(samples, drop, empty),
        torch.from_numpy(control).to(base.device),
    )


def _latents(base: Base, samples: list[Sample], noise: torch.Tensor) -> torch.Tensor:
    """Drawn with ``noise`` from cached moments, or from the VAE's of the pictures; scaled, float32."""
    moments = [sample.moments for sample in samples if sample.moments is not None]
    if moments:
        mean, std = torch.from_numpy(np.stack(moments, axis=1)).to(base.device)
        latents: torch.Tensor = (mean + std * noise.to(base.device)) * base.vae.config.scaling_factor
        return latents
    pixels = torch.from_numpy(np.stack([sample.image for sample in samples])).permute(0, 3, 1, 2).float() / 127.5 - 1
    return base.encode_images(pixels, noise)


def _embeddings(samples: list[Sample], drop: list[bool], empty: torch.Tensor) -> torch.Tensor:
    """Cached embeddings, the empty prompt's where a prompt is dropped or there is none; in the dtype of ``empty``."""
    pairs = zip(samples, drop, strict=True)
    found = [None if dropped or sample.text is None else torch.from_numpy(sample.text) for sample, dropped in pairs]
    return torch.stack([empty if text is None else text.to(empty.device, empty.dtype) for text in found])


def sample_losses(base: Base, denoiser: Any, inputs: Inputs, config: TrainConfig) -> torch.Tensor:
    """The loss of each sample, float32 (N,)."""
    noisy = base.add_noise(inputs.latents, inputs.noise, inputs.t)
    predicted = denoiser(noisy.to(base.unet.dtype), inputs.t, inputs.text, inputs.control)
    target = base.target(inputs.latents, inputs.noise, inputs.t)
    losses = (predicted.float() - target).square().mean(dim=(1, 2, 3))
    return losses * base.snr_weight(inputs.t, config.min_snr_gamma) if config.min_snr_gamma else losses
