"""Noise schedules: how latents become noise over times, and what a denoiser was trained to predict on the way."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch


class NoiseSchedule(ABC):
    """Of any base. Times ``t`` are int64 (N,), from 0, of least noise, to ``times`` − 1; latents are (N, C, h, w)."""

    times: int

    @abstractmethod
    def add_noise(self, latents: torch.Tensor, noise: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
        """Latents at time ``t``."""

    @abstractmethod
    def target(self, latents: torch.Tensor, noise: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
        """What the base was trained to predict, of the shape of ``latents``."""

    @abstractmethod
    def snr_weight(self, t: torch.Tensor, gamma: float) -> torch.Tensor:
        """The loss's weight by min-SNR (Hang et al. 2023), float32 (N,)."""
