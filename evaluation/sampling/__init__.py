"""Pictures from a base with and without a ControlNet, through the stock pipelines."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from diffusers import ControlNetModel

from controlmill.bases.base import Base
from controlmill.bases.pixels import signed, unsigned

from ..rows import draws

BATCH = 8


def start_noise(base: Base, rows: Sequence[tuple[int, int]], seed: int, height: int, width: int) -> torch.Tensor:
    """Latents that sampling starts from, float32 (N, C, h, w): of the seed and the row alone."""
    shape = base.latent_shape(height, width)
    return torch.from_numpy(
        np.stack([draws(seed, 0, row, "sampling").standard_normal(shape, np.float32) for row in rows])
    )


def parts(count: int, size: int) -> list[slice]:
    """``count`` rows in parts of at most ``size``."""
    return [slice(first, first + size) for first in range(0, count, size)]


@torch.no_grad()
def sample_pictures(
    base: Base,
    controlnet: ControlNetModel | None,
    prompts: Sequence[str],
    control: np.ndarray | None,
    latents: torch.Tensor,
    steps: int,
    guidance: float,
    batch: int = BATCH,
) -> list[np.ndarray]:
    """Samples of the base's stock pipeline as uint8 (H, W, 3), ``batch`` at a time.

    The base may be of another precision than its ControlNet and its VAE: see :meth:`Base.sample`.

    Args:
        control: float32 (N, 3, H, W) in 0 to 1; None without a ControlNet.
    """
    pictures: list[np.ndarray] = []
    for rows in parts(len(latents), batch):
        maps = None if control is None else torch.from_numpy(control[rows])
        sampled = base.sample(controlnet, prompts[rows], maps, latents[rows], steps, guidance)
        images = (base.decode(sampled) * 0.5 + 0.5).clamp(0, 1).cpu().permute(0, 2, 3, 1).numpy()
        pictures += [np.rint(image * 255).clip(0, 255).astype(np.uint8) for image in images]
    return pictures


@torch.no_grad()
def round_trip(base: Base, images: Sequence[np.ndarray], batch: int = BATCH) -> list[np.ndarray]:
    """Pictures through the VAE and back: the best that sampling could give; uint8 (H, W, 3)."""
    pictures: list[np.ndarray] = []
    for rows in parts(len(images), batch):
        pixels = signed(torch.from_numpy(np.stack(images[rows])).permute(0, 3, 1, 2).float())
        decoded = base.decode(base.encode_images(pixels, None)).cpu().permute(0, 2, 3, 1).numpy()
        pictures += list(unsigned(decoded))
    return pictures
