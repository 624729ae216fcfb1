"""Masked sampling: a region of a picture is sampled anew, the rest stays (paper v1, pen-based editing).

After each step the latents outside the region are those of the picture, noised to the time of the next step. The VAE
mixes neighbours, so outside the pixels of the picture's own round trip through it are put back. Inside, within one
latent's width of the edge, the two are mixed linearly.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
import torch

from controlmill.bases.noise_schedule import NoiseSchedule


@dataclass(frozen=True)
class Kept:
    """What stays of a batch of pictures.

    Args:
        schedule: of the base that samples.
        latents: of the pictures, float32 (N, C, h, w).
        noise: that sampling starts from, of the same shape.
        free: float32 (N, 1, h, w), 1 where latents are sampled.
        regions: bool (N, H, W), true where pictures may change.
        round_trip: the pictures through the VAE and back, float32 (N, H, W, 3) in 0 to 1.
    """

    schedule: NoiseSchedule
    latents: torch.Tensor
    noise: torch.Tensor
    free: torch.Tensor
    regions: np.ndarray
    round_trip: np.ndarray

    def after_step(self, sampled: torch.Tensor, time: int | None) -> torch.Tensor:
        """Latents with what stays put back, at the time of the next step; None: without noise."""
        kept = self.latents
        if time is not None:
            times = torch.full((len(kept),), time, device=kept.device)
            kept = self.schedule.add_noise(kept, self.noise, times)
        return kept + self.free * (sampled - kept)

    def put_back(self, decoded: np.ndarray) -> np.ndarray:
        """Decoded pictures with what stays put back, float32 (N, H, W, 3)."""
        width = self.regions.shape[1] / self.latents.shape[2]
        share = np.stack([_share(np.asarray(region), width) for region in self.regions])
        share = share.reshape(*share.shape, 1)
        return np.where(share > 0, self.round_trip + share * (decoded - self.round_trip), self.round_trip)


def free_latents(regions: np.ndarray, size: Sequence[int]) -> np.ndarray:
    """Latents in which a pixel may change: float32 (N, 1, h, w) of bool (N, H, W), whose sides are multiples."""
    count, height, width = regions.shape
    tiles = regions.reshape(count, size[0], height // size[0], size[1], width // size[1])
    free: np.ndarray = np.any(tiles, axis=(2, 4), keepdims=True).reshape(count, 1, *size).astype(np.float32)
    return free


def _share(region: np.ndarray, width: float) -> np.ndarray:
    """How much of a pixel is sampled: 0 outside, rising over ``width`` pixels inside; float32 (H, W)."""
    if region.all():
        return np.ones(region.shape, np.float32)
    inside = cv2.distanceTransform(region.astype(np.uint8), cv2.DIST_L2, cv2.DIST_MASK_PRECISE)
    share: np.ndarray = (inside / width).clip(0, 1).astype(np.float32)
    return share
