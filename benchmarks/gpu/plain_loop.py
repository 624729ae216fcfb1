"""A training loop in the style of diffusers' `train_controlnet.py`, over rows in memory: what ours is compared with."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
from diffusers import AutoencoderKL, ControlNetModel, DDPMScheduler, UNet2DConditionModel
from transformers import CLIPTextModel, CLIPTokenizer

from controlmill.annotators.runtime.torch_device import allow_tf32, torch_dtype
from controlmill.evaluation.rows import Sample


def plain_step(
    base: str, device: str, changes: dict[str, Any], source: Iterator[list[Sample]], caches: bool
) -> Callable[[], None]:
    """One step of a plain loop: pictures to float on the host, one copy, encoders, loss, clipping, AdamW."""
    dtype = torch_dtype(changes.get("precision", "fp32"))
    allow_tf32(bool(changes.get("tf32")))
    vae, text_encoder, tokenizer, unet, noising = load(Path(base), device, dtype)
    controlnet = ControlNetModel.from_unet(UNet2DConditionModel.from_pretrained(base, subfolder="unet")).train()
    controlnet.to(device)
    if changes.get("gradient_checkpointing"):
        controlnet.enable_gradient_checkpointing()
        unet.enable_gradient_checkpointing()
    optimizer = torch.optim.AdamW(controlnet.parameters(), lr=1e-5)
    run_controlnet, run_unet = controlnet, unet
    if changes.get("compile"):
        run_controlnet, run_unet = torch.compile(controlnet), torch.compile(unet)
    kind = torch.device(device).type

    @torch.no_grad()
    def encoded(samples: list[Sample]) -> tuple[torch.Tensor, torch.Tensor]:
        if caches:
            mean, std = torch.stack([torch.from_numpy(sample.latents["moments"]) for sample in samples], 1).to(device)
            latents = mean + std * torch.randn_like(mean)
            text = torch.stack([torch.from_numpy(sample.prompt["embedding"]) for sample in samples]).to(device, dtype)
            return latents * vae.config.scaling_factor, text
        pixels = torch.stack(
            [torch.from_numpy(sample.image).permute(2, 0, 1).float() / 127.5 - 1 for sample in samples]
        )
        ids = tokenizer(
            [s.caption for s in samples], padding="max_length", truncation=True, return_tensors="pt"
        ).input_ids
        latents = vae.encode(pixels.contiguous().to(device, dtype=dtype)).latent_dist.sample()
        return latents * vae.config.scaling_factor, text_encoder(ids.to(device))[0]

    def step() -> None:
        samples = next(source)
        control = torch.stack(
            [torch.from_numpy(sample.maps["canny"])[None].expand(3, -1, -1).float() / 255 for sample in samples]
        ).to(device)
        latents, text = encoded(samples)
        noise = torch.randn_like(latents)
        t = torch.randint(0, noising.config.num_train_timesteps, (len(samples),), device=device).long()
        noisy = noising.add_noise(latents.float(), noise.float(), t).to(dtype)
        with torch.autocast(kind, dtype, enabled=dtype != torch.float32):
            down, mid = run_controlnet(noisy, t, text, control, return_dict=False)
            predicted = run_unet(
                noisy,
                t,
                text,
                down_block_additional_residuals=[part.to(dtype) for part in down],
                mid_block_additional_residual=mid.to(dtype),
                return_dict=False,
            )[0]
            loss = torch.nn.functional.mse_loss(predicted.float(), noise.float())
        loss.backward()
        torch.nn.utils.clip_grad_norm_(controlnet.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
        loss.detach().item()

    return step


def load(base: Path, device: str, dtype: torch.dtype) -> tuple[Any, Any, Any, Any, Any]:
    """(VAE, text encoder, tokenizer, UNet, noise schedule), the networks frozen and in ``dtype``."""
    parts = (
        AutoencoderKL.from_pretrained(base, subfolder="vae"),
        CLIPTextModel.from_pretrained(base, subfolder="text_encoder"),
        UNet2DConditionModel.from_pretrained(base, subfolder="unet"),
    )
    vae, text_encoder, unet = (part.requires_grad_(False).to(device, dtype) for part in parts)
    tokenizer = CLIPTokenizer.from_pretrained(base, subfolder="tokenizer")
    return vae, text_encoder, tokenizer, unet, DDPMScheduler.from_pretrained(base, subfolder="scheduler")
