"""The noise schedule of diffusion models that predict the noise or the velocity, at whole times."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from .noise_schedule import NoiseSchedule

if TYPE_CHECKING:
    import torch


class DiffusionSchedule(NoiseSchedule):
    """That of DDPM (Ho et al. 2020); the velocity is v-prediction (Salimans and Ho 2022).

    ``prediction`` is ``epsilon`` or ``v_prediction``; ``alphas`` are float32 (times,), the share of signal, squared.
    """

    def __init__(self, config: Mapping[str, Any], device: torch.device):
        """``config`` is a scheduler's of diffusers, of any class."""
        from diffusers import DDPMScheduler

        self.scheduler = DDPMScheduler.from_config(config)
        self.times = int(self.scheduler.config.num_train_timesteps)
        self.prediction = str(self.scheduler.config.prediction_type)
        self.alphas = self.scheduler.alphas_cumprod.to(device)

    def add_noise(self, latents: torch.Tensor, noise: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
        """See :meth:`NoiseSchedule.add_noise`."""
        noisy: torch.Tensor = self.scheduler.add_noise(latents, noise, t)
        return noisy

    def target(self, latents: torch.Tensor, noise: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
        """The noise, or the velocity."""
        if self.prediction == "epsilon":
            return noise
        velocity: torch.Tensor = self.scheduler.get_velocity(latents, noise, t)
        return velocity

    def snr_weight(self, t: torch.Tensor, gamma: float) -> torch.Tensor:
        """min(SNR, gamma) / SNR, or / (SNR + 1) for velocities; float32 (N,).

        Where a schedule ends without signal (SNR 0) that is 1, or 0 for velocities.
        """
        snr = self.alphas[t] / (1 - self.alphas[t])
        return (gamma / snr).clamp(max=1) if self.prediction == "epsilon" else snr.clamp(max=gamma) / (snr + 1)
