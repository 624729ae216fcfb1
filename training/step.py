"""What a step takes its loss of: latents, noise, prompts and control images, drawn by (seed, epoch, row).

samples ── draw (NumPy alone, in any thread) ── upload ── encode (VAE, text encoder) ── sample_losses
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from typing import Any

import numpy as np
import torch

from controlmill.bases.base import Base, Prompt
from controlmill.bases.pixels import signed
from controlmill.evaluation.rows import Sample, draws
from controlmill.schemas.conditions import Condition
from controlmill.schemas.maps.transforms import painted, scale_of

from .config import TrainConfig


@dataclass(frozen=True)
class Drawn:
    """A micro-batch as it travels to the device: what was read, as it was read, and what was drawn for it.

    ``pictures`` are uint8 (N, H, W, 3), or None where ``arrays`` of them, by name, come from a cache, with N rows each;
    ``maps`` are uint8 or uint16 (N, H, W) or (N, H, W, 3), of which ``scale`` is white; ``t`` is int64 (N,); ``noise``
    and ``vae_noise`` are float32 (N, C, h, w). ``encoded`` are prompts from a cache, None for the empty one.
    """

    rows: list[dict[str, int]]
    pictures: torch.Tensor | None
    arrays: dict[str, torch.Tensor]
    maps: torch.Tensor
    scale: int
    t: torch.Tensor
    noise: torch.Tensor
    vae_noise: torch.Tensor
    prompts: list[str]
    encoded: list[Mapping[str, np.ndarray] | None]


@dataclass
class Inputs:
    """A micro-batch on the device: latents, what was drawn, encoded prompts, control images."""

    latents: torch.Tensor
    noise: torch.Tensor
    t: torch.Tensor
    prompt: Prompt
    control: torch.Tensor


def draw(base: Base, samples: list[Sample], condition: Condition, config: TrainConfig) -> Drawn:
    """Everything random is drawn here, on the CPU, for each sample from (seed, epoch, row).

    Safe in a thread beside a step: it asks the base for sizes alone, and PyTorch for no arithmetic.
    """
    maps = np.stack([painted(condition, sample.maps[condition.table]) for sample in samples])
    shape = base.latent_shape(*maps.shape[1:3])
    t, prompts, encoded, vae_noise, noise = [], [], [], [], []
    for sample in samples:
        rng = draws(config.seed, sample.epoch, sample.row, "step")
        t.append(int(rng.integers(base.schedule.times)))
        dropped = bool(rng.random() < config.prompt_dropout)
        prompts.append("" if dropped else sample.caption)
        encoded.append(None if dropped else sample.prompt)
        vae_noise.append(rng.standard_normal(shape, np.float32))
        drawn = rng.standard_normal(shape, np.float32)
        offset = rng.standard_normal((shape[0], 1, 1), np.float32)
        noise.append(drawn + np.float32(config.noise_offset) * offset)
    cached = [sample.latents for sample in samples if sample.latents is not None]
    arrays = {name: torch.from_numpy(np.stack([row[name] for row in cached])) for name in (cached[0] if cached else ())}
    return Drawn(
        rows=[{"shard": sample.row[0], "row": sample.row[1], "epoch": sample.epoch} for sample in samples],
        pictures=None if cached else torch.from_numpy(np.stack([sample.picture for sample in samples])),
        arrays=arrays,
        maps=torch.from_numpy(maps),
        scale=scale_of(condition),
        t=torch.tensor(t),
        noise=torch.from_numpy(np.stack(noise)),
        vae_noise=torch.from_numpy(np.stack(vae_noise)),
        prompts=prompts,
        encoded=encoded,
    )


def upload(drawn: Drawn, device: torch.device) -> Drawn:
    """The same with its tensors on the device; to a GPU through pinned memory, so that nobody waits for the copy."""

    def moved(tensor: torch.Tensor) -> torch.Tensor:
        return (tensor.pin_memory() if device.type == "cuda" else tensor).to(device, non_blocking=True)

    values = {field.name: getattr(drawn, field.name) for field in fields(drawn)}
    tensors: dict[str, Any] = {name: moved(value) for name, value in values.items() if isinstance(value, torch.Tensor)}
    return replace(drawn, arrays={name: moved(array) for name, array in drawn.arrays.items()}, **tensors)


def encode(base: Base, drawn: Drawn, empty: Prompt | None = None) -> Inputs:
    """What the networks are given, from what is on the device.

    ``empty`` is the empty prompt, encoded, where the samples bring those of their captions from a cache.
    """
    prompt = base.encode_prompts(drawn.prompts) if empty is None else Prompt.from_rows(drawn.encoded, empty)
    return Inputs(_latents(base, drawn), drawn.noise, drawn.t, prompt, _control(drawn))


def _control(drawn: Drawn) -> torch.Tensor:
    """Control images, float32 (N, 3, H, W) in 0 to 1: on a CPU the very numbers of :func:`control_image`."""
    scaled = drawn.maps.float() / drawn.scale
    if scaled.ndim == 3:
        return scaled[:, None].expand(-1, 3, -1, -1).contiguous()
    return scaled.permute(0, 3, 1, 2).contiguous()


def _latents(base: Base, drawn: Drawn) -> torch.Tensor:
    """Drawn with ``vae_noise`` from cached arrays, or from pictures; scaled, float32."""
    if drawn.pictures is None:
        return base.latents_from(drawn.arrays, drawn.vae_noise)
    return base.encode_images(signed(drawn.pictures.permute(0, 3, 1, 2).float()), drawn.vae_noise)


def sample_losses(base: Base, denoiser: Any, inputs: Inputs, config: TrainConfig) -> torch.Tensor:
    """The loss of each sample, float32 (N,)."""
    noisy = base.schedule.add_noise(inputs.latents, inputs.noise, inputs.t)
    predicted = denoiser(noisy, inputs.t, dict(inputs.prompt), inputs.control)
    target = base.schedule.target(inputs.latents, inputs.noise, inputs.t)
    losses = (predicted.float() - target).square().mean(dim=(1, 2, 3))
    return losses * base.schedule.snr_weight(inputs.t, config.min_snr_gamma) if config.min_snr_gamma else losses
