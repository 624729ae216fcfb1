"""The base model: what differs between families of bases is in one class. This one is Stable Diffusion 1 and 2."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from diffusers import (
    AutoencoderKL,
    ControlNetModel,
    DDIMScheduler,
    DDPMScheduler,
    StableDiffusionControlNetPipeline,
    StableDiffusionPipeline,
    UNet2DConditionModel,
)
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

from ..annotators import weights
from ..annotators.encoders import location
from ..schemas.errors import MillError
from . import single_file

DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


@dataclass(frozen=True)
class Facts:
    """What is known of a base from its configuration files alone."""

    unet: dict[str, Any]
    vae: dict[str, Any]
    text_encoder: dict[str, Any]
    scheduler: dict[str, Any]

    @property
    def vae_factor(self) -> int:
        """Pixels per latent."""
        return int(2 ** (len(self.vae["block_out_channels"]) - 1))

    @property
    def multiple(self) -> int:
        """Sides of pictures are multiples of this."""
        return int(self.vae_factor * 2 ** (len(self.unet["block_out_channels"]) - 1))

    def check_sizes(self, shapes: list[tuple[int, int]]) -> None:
        """Raise MillError where pictures do not fit the base."""
        for height, width in shapes:
            if height % self.multiple or width % self.multiple:
                raise MillError(
                    f"the base takes sides in multiples of {self.multiple}, the dataset has {width}x{height}: "
                    f"use --crop, or ingest again with another --resolution or --fit"
                )

    def check_controlnet(self, config: dict[str, Any], name: str) -> None:
        """Raise MillError where a ControlNet belongs to another base."""
        for key in ("cross_attention_dim", "block_out_channels", "layers_per_block", "in_channels"):
            if _plain(config.get(key)) != _plain(self.unet[key]):
                raise MillError(f"--start-from {name}: its {key} is {config.get(key)}, the base's {self.unet[key]}")
        halvings = len(config["conditioning_embedding_out_channels"])
        if halvings != self.vae_factor.bit_length():
            raise MillError(
                f"--start-from {name}: made for a VAE of factor {2 ** (halvings - 1)}, not {self.vae_factor}"
            )


def _plain(value: Any) -> Any:
    return list(value) if isinstance(value, (list, tuple)) else value


def is_single_file(name: str) -> bool:
    """Whether a base is one ``.safetensors`` file."""
    return name.endswith(".safetensors")


def configured_by(name: str) -> str:
    """The folder, or name on the hub, that has the configuration files and the tokenizer of a base.

    Raises:
        MillError: there is no such base, or a single file's configuration cannot be had.
    """
    where = location(name)
    return single_file.configuration(Path(where)) if is_single_file(name) else where


def read_facts(name: str) -> Facts:
    """Configuration files of a base; no weights are loaded.

    Raises:
        MillError: they cannot be had, or the base is of a family that is not supported.
    """
    where = configured_by(name)
    try:
        facts = _facts(where, local=True)
    except (OSError, ValueError):
        facts = None
    try:
        facts = facts or _facts(where, local=Path(where).exists() or not weights.hub_answers())
    except (OSError, ValueError) as error:
        raise MillError(
            f"--base {name}: not found here, and the hub could not give it ({str(error).splitlines()[0]}); "
            "give a folder with a diffusers pipeline, or --base tiny"
        ) from error
    if is_single_file(name):
        single_file.check_fits(Path(location(name)), facts.unet, facts.vae)
    if facts.unet["in_channels"] != facts.vae["latent_channels"]:
        raise MillError(
            f"--base {name}: its UNet takes {facts.unet['in_channels']} channels, its VAE gives "
            f"{facts.vae['latent_channels']}: bases for inpainting and the like are not supported"
        )
    if facts.unet.get("addition_embed_type") or facts.unet.get("encoder_hid_dim_type"):
        raise MillError(f"--base {name}: only Stable Diffusion 1.x and 2.x bases are supported")
    return facts


def _facts(where: str, local: bool) -> Facts:
    text = CLIPTextConfig.from_pretrained(where, subfolder="text_encoder", local_files_only=local)
    return Facts(
        UNet2DConditionModel.load_config(where, subfolder="unet", local_files_only=local),
        AutoencoderKL.load_config(where, subfolder="vae", local_files_only=local),
        text.to_dict(),
        DDPMScheduler.load_config(where, subfolder="scheduler", local_files_only=local),
    )


class Base:
    """A frozen base: encodes pictures and prompts, knows its noise schedule, and runs in the stock pipelines."""

    default_guidance = 9.0  # paper

    def __init__(self, name: str, device: torch.device, precision: str = "fp32", whole_unet: bool = False):
        """``whole_unet`` leaves the UNet in float32, for what is copied from it and trained."""
        where = configured_by(name)
        dtype = DTYPES[precision]
        self.name, self.device, self.facts = name, device, read_facts(name)
        self.tokenizer = CLIPTokenizer.from_pretrained(where, subfolder="tokenizer")
        unet_dtype = torch.float32 if whole_unet else dtype
        vae_dtype = torch.float32 if precision == "fp16" else dtype  # a VAE in fp16 overflows
        if is_single_file(name):
            file = Path(location(name))
            self.text_encoder, self.unet, self.vae = single_file.load_modules(file, where, unet_dtype, vae_dtype)
            self.text_encoder.to(dtype)
        else:
            self.text_encoder = CLIPTextModel.from_pretrained(where, subfolder="text_encoder", dtype=dtype)
            self.unet = UNet2DConditionModel.from_pretrained(where, subfolder="unet", dtype=unet_dtype)
            self.vae = AutoencoderKL.from_pretrained(where, subfolder="vae", dtype=vae_dtype)
        for module in (self.text_encoder, self.unet, self.vae):
            module.requires_grad_(False).eval().to(device)
        self.noise = DDPMScheduler.from_config(self.facts.scheduler)
        self.alphas = self.noise.alphas_cumprod.to(device)
        card = Path(where, "guidance.json")
        self.guidance = json.loads(card.read_text())["guidance"] if card.is_file() else self.default_guidance

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
        """min(SNR, gamma) / SNR, or / (SNR + 1) for velocities (Hang et al. 2023); float32 (N,)."""
        snr = self.alphas[t] / (1 - self.alphas[t])
        return snr.clamp(max=gamma) / (snr if self.prediction == "epsilon" else snr + 1)

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
        """A digest of all weights, configurations and words: a base that differs in anything has another."""
        said = [self.facts.unet, self.facts.vae, self.facts.scheduler, self.tokenizer.get_vocab()]
        digest = hashlib.sha256(json.dumps(said, sort_keys=True, default=str).encode())
        for module in (self.unet, self.vae, self.text_encoder):
            for name, tensor in module.state_dict().items():
                digest.update(name.encode())
                digest.update(tensor.detach().float().cpu().contiguous().numpy().data)
        return digest.hexdigest()
