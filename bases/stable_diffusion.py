"""The base model: what differs between families of bases is in one class. This one is Stable Diffusion 1 and 2."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from diffusers import (
    ControlNetModel,
    DDIMScheduler,
    DDPMScheduler,
    StableDiffusionControlNetPipeline,
    StableDiffusionPipeline,
)

from controlmill.annotators.runtime.torch_device import torch_dtype
from controlmill.schemas.errors import MillError
from controlmill.schemas.files.documents import read_as

from . import single_file
from .configuration import configured_by, is_single_file, location, read_facts
from .digests import base_digest
from .loading import load_part


@dataclass(frozen=True)
class Guidance:
    """``guidance.json`` of a base: the scale to sample with where no other is given."""

    guidance: float


def _read_guidance(card: Path) -> float:
    try:
        return read_as(Guidance, card).guidance
    except ValueError as error:
        raise MillError(f"{card}: {error}") from error


class Base:
    """A frozen base: encodes pictures and prompts, knows its noise schedule, and runs in the stock pipelines."""

    default_guidance = 9.0  # paper

    def __init__(self, name: str, device: torch.device, precision: str = "fp32", whole_unet: bool = False):
        """``whole_unet`` leaves the UNet in float32, for what is copied from it and trained."""
        where = configured_by(name)
        dtype = torch_dtype(precision)
        self.name, self.device, self.facts, self.dtype = name, device, read_facts(name), dtype
        self.tokenizer = load_part(name, "tokenizer")
        unet_dtype = torch.float32 if whole_unet else dtype
        vae_dtype = torch.float32 if precision == "fp16" else dtype  # a VAE in fp16 overflows
        if is_single_file(name):
            file = Path(location(name))
            self.text_encoder, self.unet, self.vae = single_file.load_modules(file, where, unet_dtype, vae_dtype)
            self.text_encoder.to(dtype)
        else:
            self.text_encoder = load_part(name, "text_encoder", dtype)
            self.unet = load_part(name, "unet", unet_dtype)
            self.vae = load_part(name, "vae", vae_dtype)
        for module in (self.text_encoder, self.unet, self.vae):
            module.requires_grad_(False).eval().to(device)
        self.noise = DDPMScheduler.from_config(self.facts.scheduler)
        self.alphas = self.noise.alphas_cumprod.to(device)
        card = Path(where, "guidance.json")
        self.guidance = _read_guidance(card) if card.is_file() else self.default_guidance

    @property
    def prediction(self) -> str:
        """``epsilon`` or ``v_prediction``."""
        return str(self.noise.config.prediction_type)

    def latent_shape(self, height: int, width: int) -> tuple[int, int, int]:
        """(channels, h, w) of the latents of a picture."""
        factor = self.facts.vae_factor
        return self.facts.vae["latent_channels"], height // factor, width // factor

    @torch.no_grad()
    def encode_images(self, pixels: torch.Tensor, noise: torch.Tensor) -> torch.Tensor:
        """Scaled latents, float32, drawn from the VAE's posterior with ``noise``; pixels (N, 3, H, W) in −1 to 1."""
        posterior = self.vae.encode(pixels.to(self.device, self.vae.dtype)).latent_dist
        latents: torch.Tensor = posterior.mean.float() + posterior.std.float() * noise.to(self.device)
        return latents * self.vae.config.scaling_factor

    @torch.no_grad()
    def encode_prompts(self, prompts: list[str]) -> torch.Tensor:
        """(N, tokens, width), in the base's dtype."""
        tokens = self.tokenizer(prompts, padding="max_length", truncation=True, return_tensors="pt").input_ids
        encoded: torch.Tensor = self.text_encoder(tokens.to(self.device))[0]
        return encoded

    def add_noise(self, latents: torch.Tensor, noise: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
        """Latents at time ``t``, int64 (N,)."""
        noisy: torch.Tensor = self.noise.add_noise(latents, noise, t)
        return noisy

    def target(self, latents: torch.Tensor, noise: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
        """What the base was trained to predict."""
        if self.prediction == "epsilon":
            return noise
        velocity: torch.Tensor = self.noise.get_velocity(latents, noise, t)
        return velocity

    def snr_weight(self, t: torch.Tensor, gamma: float) -> torch.Tensor:
        """min(SNR, gamma) / SNR, or / (SNR + 1) for velocities (Hang et al. 2023); float32 (N,).

        Where a schedule ends without signal (SNR 0) that is 1, or 0 for velocities.
        """
        snr = self.alphas[t] / (1 - self.alphas[t])
        return (gamma / snr).clamp(max=1) if self.prediction == "epsilon" else snr.clamp(max=gamma) / (snr + 1)

    def pipeline(self, controlnet: ControlNetModel | None = None) -> Any:
        """The stock pipeline around these modules, with DDIM; without a ControlNet the plain one."""
        parts = {
            "vae": self.vae,
            "text_encoder": self.text_encoder,
            "tokenizer": self.tokenizer,
            "unet": self.unet,
            # as StableDiffusionPipeline mends a scheduler's configuration, the one with a ControlNet does not
            "scheduler": DDIMScheduler.from_config(self.facts.scheduler, clip_sample=False, steps_offset=1),
            "safety_checker": None,
            "feature_extractor": None,
            "requires_safety_checker": False,
        }
        made = (
            StableDiffusionPipeline(**parts)
            if controlnet is None
            else StableDiffusionControlNetPipeline(**parts, controlnet=controlnet)
        )
        made.set_progress_bar_config(disable=True)
        return made

    def fingerprint(self) -> str:
        """A digest of all weights, configurations and tokens as they are in its files: see :mod:`digests`."""
        return base_digest(self.name, self.facts, self.tokenizer)
