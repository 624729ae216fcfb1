"""How much memory and time a run will take, before a weight is loaded.

The networks are built on PyTorch's meta device, where tensors have shapes and no bytes: one forward pass there tells
which activations are kept for the backward pass, and one FlopCounter how much is computed.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any

import torch
from diffusers import AutoencoderKL, UNet2DConditionModel
from torch import nn
from torch.utils.flop_counter import FlopCounterMode
from transformers import CLIPTextConfig, CLIPTextModel

from .base import DTYPES
from .caches import NONE, Caches
from .config import TrainConfig
from .connections import ControlledDenoiser, choose_trainable, make_controlnet
from .data import Prepared
from .facts import Facts

BACKWARD = 2.0  # forward passes: what a backward pass through trained layers costs; about half of all are
EFFICIENCY = 0.5  # of the speed of a large matrix product
MOST_TOKENS = 77  # CLIP's, where a configuration does not say
RECOMPUTED_SHARE = 0.25  # activations left by gradient checkpointing, roughly


@dataclass(frozen=True)
class Plan:
    """Bytes by use, and floating-point operations of a step of one process."""

    frozen: int
    trained: int
    gradients: int
    optimizer: int
    average: int
    activations: int
    flops: float

    @property
    def total(self) -> int:
        """Bytes."""
        return self.frozen + self.trained + self.gradients + self.optimizer + self.average + self.activations


def make_plan(
    config: TrainConfig, facts: Facts, height: int, width: int, processes: int = 1, caches: Caches = NONE
) -> Plan:
    """The plan for one process; pictures of height × width pixels, encoded in each step where no cache has them."""
    micro = config.micro_batch or max(1, config.batch_size // processes)
    dtype = DTYPES[config.precision]
    with torch.device("meta"):
        unet = UNet2DConditionModel.from_config(facts.unet)
        vae = AutoencoderKL.from_config(facts.vae)
        text_encoder = CLIPTextModel(CLIPTextConfig.from_dict(facts.text_encoder))
        controlnet = make_controlnet(unet, config.connection, facts.vae_factor, 3, config.seed)
    unet.to(dtype)
    own, of_base = choose_trainable(controlnet, unet, config.only_mid, config.unlock)
    trained = sum(p.numel() for p in own + of_base)
    frozen = sum(p.numel() for p in unet.parameters() if not p.requires_grad) * dtype.itemsize
    frozen += sum(p.numel() for p in text_encoder.parameters()) * dtype.itemsize
    frozen += sum(p.numel() for p in vae.parameters()) * (4 if config.precision != "bf16" else 2)
    frozen += sum(p.numel() for p in controlnet.parameters() if not p.requires_grad) * 4
    saved, forward = _one_step(ControlledDenoiser(unet, controlnet), facts, micro, height, width, dtype)
    flops = forward * (1 + BACKWARD / 2)
    if config.gradient_checkpointing:
        saved = int(saved * RECOMPUTED_SHARE)
        flops += forward  # again, in the backward pass
    with FlopCounterMode(display=False) as encoding, torch.no_grad():
        if not caches.latents:
            vae.encode(torch.zeros(micro, 3, height, width, device="meta"))
        if not caches.text:
            tokens = int(facts.text_encoder.get("max_position_embeddings", MOST_TOKENS))
            text_encoder(torch.zeros(micro, tokens, device="meta", dtype=torch.int64))
    flops += encoding.get_total_flops()
    return Plan(
        frozen=frozen,
        trained=trained * 4,
        gradients=trained * 4,
        optimizer=trained * (8 if config.optimizer == "adamw" else 2),
        average=sum(p.numel() for p in controlnet.parameters()) * 4 if config.ema else 0,
        activations=saved,
        flops=flops * config.batch_size / micro / processes,
    )


def _one_step(
    denoiser: nn.Module, facts: Facts, batch: int, height: int, width: int, dtype: torch.dtype
) -> tuple[int, float]:
    """(bytes kept for the backward pass, operations of the forward pass)."""
    factor = facts.vae_factor
    latent_channels = facts.vae["latent_channels"]
    kept: dict[int, int] = {}
    parameters = {p.untyped_storage()._cdata for p in denoiser.parameters()}
    held: list[Any] = []

    def pack(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        if storage._cdata not in parameters and storage._cdata not in kept:
            held.append(storage)  # so that its identity is not given to another
            kept[storage._cdata] = storage.nbytes()
        return tensor

    noisy = torch.zeros(batch, latent_channels, height // factor, width // factor, device="meta", dtype=dtype)
    text = torch.zeros(
        batch,
        int(facts.text_encoder.get("max_position_embeddings", MOST_TOKENS)),
        _width(facts),
        device="meta",
        dtype=dtype,
    )
    control = torch.zeros(batch, 3, height, width, device="meta", dtype=torch.float32)
    t = torch.zeros(batch, device="meta", dtype=torch.int64)
    if dtype != torch.float32:
        denoiser.to(dtype)  # autocast is not there for the meta device
        control = control.to(dtype)
    with FlopCounterMode(display=False) as counter, torch.autograd.graph.saved_tensors_hooks(pack, lambda x: x):
        denoiser(noisy, t, text, control)
    return sum(kept.values()), counter.get_total_flops()


def _width(facts: Facts) -> int:
    return int(facts.unet["cross_attention_dim"])


def matmul_speed(device: str, precision: str) -> float:
    """Operations per second of a matrix product here."""
    size = 512 if device == "cpu" else 4096
    a = torch.randn(size, size, device=device, dtype=DTYPES[precision])
    best = float("inf")
    for _ in range(4):
        started = time.perf_counter()
        float((a @ a)[0, 0])
        best = min(best, time.perf_counter() - started)
    return 2 * size**3 / best


def plan_text(prepared: Prepared, config: TrainConfig) -> str:
    """The plan as a table for people."""
    from ..annotators.torch_device import resolve_device

    device = resolve_device(config.device)
    shapes = [(config.crop, config.crop)] if config.crop else prepared.selection.shapes()
    height, width = max(shapes, key=lambda shape: shape[0] * shape[1])
    plan = make_plan(config, prepared.facts, height, width, caches=prepared.caches)
    seconds = plan.flops / (matmul_speed(device, config.precision) * EFFICIENCY)
    rows = len(prepared.selection.train)
    lines = [
        f"{rows:,} rows of at most {width}x{height}; {config.steps:,} steps of {config.batch_size} are "
        f"{config.steps * config.batch_size / rows:.1f} epochs",
        *(f"{name:<12}{getattr(plan, name) / 2**30:10.3f} GiB" for name in PARTS),
        f"{'together':<12}{plan.total / 2**30:10.3f} GiB, and what the framework and the device's driver hold",
        f"{plan.flops / 1e12:.3f} TFLOP a step: about {seconds:.2g} s on this machine ({device}), "
        f"{seconds * config.steps / 3600:.2g} hours in all (within a factor of two)",
    ]
    return "\n".join(lines)


PARTS = ("frozen", "trained", "gradients", "optimizer", "average", "activations")
