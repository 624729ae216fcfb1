"""Pictures from a base with and without a ControlNet, through the stock pipelines."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from diffusers import ControlNetModel

from .base import Base
from .loader import draws


def start_noise(base: Base, rows: Sequence[tuple[int, int]], seed: int, height: int, width: int) -> torch.Tensor:
    """Latents that sampling starts from, float32 (N, C, h, w): of the seed and the row alone."""
    shape = base.latent_shape(height, width)
    return torch.from_numpy(np.stack([draws(seed, 0, row, "probe").standard_normal(shape, np.float32) for row in rows]))


@torch.no_grad()
def sample_pictures(
    base: Base,
    controlnet: ControlNetModel | None,
    prompts: Sequence[str],
    control: np.ndarray | None,
    latents: torch.Tensor,
    steps: int,
    guidance: float,
) -> list[np.ndarray]:
    """DDIM samples as uint8 (H, W, 3).

    Args:
        control: float32 (N, 3, H, W) in 0 to 1; None without a ControlNet.
    """
    pipeline = base.pipeline(controlnet)
    latents = latents.to(base.device, base.unet.dtype)
    size = {"height": latents.shape[2] * base.facts.vae_factor, "width": latents.shape[3] * base.facts.vae_factor}
    settings = {"num_inference_steps": steps, "guidance_scale": guidance, "latents": latents, "output_type": "np"}
    if controlnet is None:
        images = pipeline(prompt=list(prompts), **size, **settings).images
    else:
        picture = torch.from_numpy(control).to(base.device, base.unet.dtype)
        images = pipeline(prompt=list(prompts), image=picture, **settings).images
    return [np.rint(image * 255).clip(0, 255).astype(np.uint8) for image in images]


@torch.no_grad()
def round_trip(base: Base, images: Sequence[np.ndarray]) -> list[np.ndarray]:
    """Pictures through the VAE and back: the best that sampling could give; uint8 (H, W, 3)."""
    pixels = torch.from_numpy(np.stack(images)).permute(0, 3, 1, 2).float() / 127.5 - 1
    posterior = base.vae.encode(pixels.to(base.device, base.vae.dtype)).latent_dist
    decoded = base.vae.decode(posterior.mean).sample.float().cpu().permute(0, 2, 3, 1).numpy()
    return [np.rint((image + 1) * 127.5).clip(0, 255).astype(np.uint8) for image in decoded]
