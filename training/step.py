"""What a step takes its loss of: latents, noise, prompts and control images, drawn by (seed, epoch, row).

samples ── draw (NumPy alone, in any thread) ── upload ── encode (VAE, text encoder) ── sample_losses
"""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from typing import Any

import numpy as np
import torch

from controlmill.bases.pixels import signed
from controlmill.bases.stable_diffusion import Base
from controlmill.evaluation.rows import Sample, draws
from controlmill.schemas.conditions import Condition
from controlmill.schemas.maps.transforms import painted, scale_of

from .config import TrainConfig


@dataclass(frozen=True)
class Drawn:
    """A micro-batch as it travels to the device: what was read, as it was read, and what was drawn for it.

    ``pictures`` are uint8 (N, H, W, 3), or None where ``moments``, float32 (2, N, C, h, w), come from a cache;
    ``maps`` are uint8 or uint16 (N, H, W) or (N, H, W, 3), of which ``scale`` is white; ``t`` is int64 (N,); ``noise``
    and ``vae_noise`` are float32 (N, C, h, w). ``text`` has embeddings from a cache, None for the empty prompt's.
    """

    rows: list[dict[str, int]]
    pictures: torch.Tensor | None
    moments: torch.Tensor | None
    maps: torch.Tensor
    scale: int
    t: torch.Tensor
    noise: torch.Tensor
    vae_noise: torch.Tensor
    prompts: list[str]
    text: list[np.ndarray | None]


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
    """A micro-batch from its samples, all at once; arguments as those of :func:`draw` and :func:`encode`."""
    return encode(base, upload(draw(base, samples, condition, config), base.device), empty)


def draw(base: Base, samples: list[Sample], condition: Condition, config: TrainConfig) -> Drawn:
    """Everything random is drawn here, on the CPU, for each sample from (seed, epoch, row).

    Safe in a thread beside a step: it asks the base for sizes alone, and PyTorch for no arithmetic.
    """
    maps = np.stack([painted(condition, sample.maps[condition.table]) for sample in samples])
    shape = base.latent_shape(*maps.shape[1:3])
    t, prompts, text, vae_noise, noise = [], [], [], [], []
    for sample in samples:
        rng = draws(config.seed, sample.epoch, sample.row, "step")
        t.append(int(rng.integers(base.noise.config.num_train_timesteps)))
        dropped = bool(rng.random() < config.prompt_dropout)
        prompts.append("" if dropped else sample.caption)
        text.append(None if dropped else sample.text)
        vae_noise.append(rng.standard_normal(shape, np.float32))
        drawn = rng.standard_normal(shape, np.float32)
        offset = rng.standard_normal((shape[0], 1, 1), np.float32)
        noise.append(drawn + np.float32(config.noise_offset) * offset)
    moments = [sample.moments for sample in samples if sample.moments is not None]
    return Drawn(
        rows=[{"shard": sample.row[0], "row": sample.row[1], "epoch": sample.epoch} for sample in samples],
        pictures=None if moments else torch.from_numpy(np.stack([sample.image for sample in samples])),
        moments=torch.from_numpy(np.stack(moments, axis=1)) if moments else None,
        maps=torch.from_numpy(maps),
        scale=scale_of(condition),
        t=torch.tensor(t),
        noise=torch.from_numpy(np.stack(noise)),
        vae_noise=torch.from_numpy(np.stack(vae_noise)),
        prompts=prompts,
        text=text,
    )


def upload(drawn: Drawn, device: torch.device) -> Drawn:
    """The same with its tensors on the device; to a GPU through pinned memory, so that nobody waits for the copy."""
    moved: dict[str, Any] = {}
    for field in fields(drawn):
        value = getattr(drawn, field.name)
        if isinstance(value, torch.Tensor):
            pinned = value.pin_memory() if device.type == "cuda" else value
            moved[field.name] = pinned.to(device, non_blocking=True)
    return replace(drawn, **moved)


def encode(base: Base, drawn: Drawn, empty: torch.Tensor | None = None) -> Inputs:
    """What the networks are given, from what is on the device.

    ``empty`` is the embedding of the empty prompt where the samples bring those of their captions from a cache.
    """
    text = base.encode_prompts(drawn.prompts) if empty is None else _embeddings(drawn.text, empty)
    return Inputs(_latents(base, drawn), drawn.noise, drawn.t, text, _control(drawn))


def _control(drawn: Drawn) -> torch.Tensor:
    """Control images, float32 (N, 3, H, W) in 0 to 1: on a CPU the very numbers of :func:`control_image`."""
    scaled = drawn.maps.float() / drawn.scale
    if scaled.ndim == 3:
        return scaled[:, None].expand(-1, 3, -1, -1).contiguous()
    return scaled.permute(0, 3, 1, 2).contiguous()


def _latents(base: Base, drawn: Drawn) -> torch.Tensor:
    """Drawn with ``vae_noise`` from cached moments, or from the VAE's of the pictures; scaled, float32."""
    if drawn.moments is not None:
        mean, std = drawn.moments
        latents: torch.Tensor = (mean + std * drawn.vae_noise) * base.vae.config.scaling_factor
        return latents
    assert drawn.pictures is not None
    return base.encode_images(signed(drawn.pictures.permute(0, 3, 1, 2).float()), drawn.vae_noise)


def _embeddings(texts: list[np.ndarray | None], empty: torch.Tensor) -> torch.Tensor:
    """Cached embeddings, the empty prompt's where a prompt is dropped or there is none; in the dtype of ``empty``."""
    found = [None if text is None else torch.from_numpy(text) for text in texts]
    return torch.stack([empty if text is None else text.to(empty.device, empty.dtype) for text in found])


def sample_losses(base: Base, denoiser: Any, inputs: Inputs, config: TrainConfig) -> torch.Tensor:
    """The loss of each sample, float32 (N,)."""
    noisy = base.add_noise(inputs.latents, inputs.noise, inputs.t)
    predicted = denoiser(noisy.to(base.unet.dtype), inputs.t, inputs.text, inputs.control)
    target = base.target(inputs.latents, inputs.noise, inputs.t)
    losses = (predicted.float() - target).square().mean(dim=(1, 2, 3))
    return losses * base.snr_weight(inputs.t, config.min_snr_gamma) if config.min_snr_gamma else losses
