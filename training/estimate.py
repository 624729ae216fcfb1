"""How much memory and time a run will take, before a weight is loaded: a step is traced, see :mod:`tracing`."""

from __future__ import annotations

import os
import time
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from controlmill.annotators.runtime.torch_device import torch_dtype
from controlmill.bases.base import Facts
from controlmill.evaluation.convergence import TIMES
from controlmill.schemas.errors import MillError

from .config import TrainConfig
from .data.cache_use import NONE, Caches
from .run.prepare import Prepared
from .schedules import SHARE, EvaluationSchedule
from .tracing import Traced, traced, unreal

EFFICIENCY = 0.5  # of the speed of a large matrix product
GUIDED = 2  # forward passes of a sampling step: with the prompt and without


@dataclass(frozen=True)
class Plan:
    """Of one process: bytes by use, and operations of a step and of an evaluation by the first process."""

    frozen: int
    trained: int
    gradients: int
    optimizer: int
    average: int
    activations: int
    flops: float
    evaluation: float
    look: float
    first_evaluation: float

    @property
    def total(self) -> int:
        """Bytes."""
        return self.frozen + self.trained + self.gradients + self.optimizer + self.average + self.activations


class _Networks:
    """A run's networks, without weights."""

    def __init__(self, config: TrainConfig, facts: Facts):
        self.dtype = torch_dtype(config.precision)
        self.base = facts.without_weights(config.precision)
        with torch.device("meta"):
            self.controlnet = self.base.make_controlnet(config.connection, config.seed)
        own, of_base = self.base.choose_trainable(self.controlnet, config.only_mid_control, config.unlock)
        self.trained = sum(parameter.numel() for parameter in own + of_base)
        self.frozen = sum(
            parameter.numel() * parameter.element_size()
            for network in self.all()
            for parameter in network.parameters()
            if not parameter.requires_grad
        )
        if config.gradient_checkpointing:
            self.base.denoiser.enable_gradient_checkpointing()
            self.controlnet.enable_gradient_checkpointing()

    def all(self) -> list[nn.Module]:
        """Those of the base, and the ControlNet."""
        return [*self.base.networks.values(), self.controlnet]

    def step(self, batch: int, height: int, width: int) -> Traced:
        """Forward and backward."""
        denoiser, given, tensors = self._denoiser(batch, height, width)
        with traced(denoiser, *tensors) as found:
            with torch.autocast("cpu", self.dtype, self.dtype != torch.float32):
                predicted = denoiser(*given)
            predicted.float().square().mean().backward()
        return found

    def forward(self, height: int, width: int, controlled: bool) -> float:
        """Operations for one picture."""
        denoiser, given, tensors = self._denoiser(1, height, width)
        autocast = torch.autocast("cpu", self.dtype, self.dtype != torch.float32)
        with torch.no_grad(), traced(denoiser, *tensors) as found, autocast:
            denoiser(*given[:3], given[3] if controlled else None)
        return found.operations

    def _denoiser(self, batch: int, height: int, width: int) -> tuple[nn.Module, list[Any], list[torch.Tensor]]:
        """(base and ControlNet, what they are given, all tensors of that)."""
        noisy = torch.zeros(batch, *self.base.latent_shape(height, width), dtype=self.base.denoiser.dtype)
        t, control = torch.zeros(batch, dtype=torch.int64), torch.zeros(batch, 3, height, width)
        prompt = dict(self.base.encode_prompts([""] * batch))
        denoiser = self.base.controlled(self.controlnet).train()
        return denoiser, [noisy, t, prompt, control], [noisy, t, *prompt.values(), control]

    def encode(self, batch: int, height: int, width: int, pictures: bool, text: bool) -> Traced:
        """The VAE's encoder, the text encoders, or both."""
        pixels, noise = torch.zeros(batch, 3, height, width), torch.zeros(batch, *self.base.latent_shape(height, width))
        with traced(nn.ModuleList(self.base.networks.values()), pixels, noise) as found:
            if pictures:
                self.base.encode_images(pixels, noise)
            if text:
                self.base.encode_prompts([""] * batch)
        return found

    def decode(self, height: int, width: int) -> float:
        """Operations for one picture."""
        latents = torch.zeros(1, *self.base.latent_shape(height, width))
        with traced(nn.ModuleList(self.base.networks.values()), latents) as found:
            self.base.decode(latents)
        return found.operations


def make_plan(
    config: TrainConfig,
    facts: Facts,
    height: int,
    width: int,
    processes: int = 1,
    caches: Caches = NONE,
    held_out: int = 0,
) -> Plan:
    """The plan for one of ``processes``.

    Args:
        height, width: of the pictures; encoded in each step where no cache has them.
        held_out: rows that can be evaluated on.
    """
    share = config.share(processes)
    micro = min(config.micro_batch_size or share, share)
    networks = _Networks(config, facts)
    with unreal(*networks.all()):
        step = networks.step(micro, height, width)
        encoding = networks.encode(micro, height, width, pictures=not caches.latents, text=not caches.text)
        evaluations = _evaluations(networks, config, height, width, held_out) if held_out > 1 else (0.0, 0.0, 0.0)
    trained = networks.trained
    return Plan(
        frozen=networks.frozen,
        trained=trained * 4,
        gradients=trained * 4 * (2 if processes > 1 else 1),  # processes exchange them in buckets of as many bytes
        optimizer=trained * (8 if config.optimizer == "adamw" else 2),
        average=sum(p.numel() for p in networks.controlnet.parameters()) * 4 if config.ema_decay else 0,
        activations=max(step.bytes, encoding.bytes),
        flops=(step.operations + encoding.operations) * share / micro,
        evaluation=evaluations[0],
        look=evaluations[1],
        first_evaluation=evaluations[2],
    )


def _evaluations(
    networks: _Networks, config: TrainConfig, height: int, width: int, held_out: int
) -> tuple[float, float, float]:
    """Operations of an evaluation, of its losses, and of what is fixed before the first; annotators are not counted."""
    rows, pictures = min(config.evaluation_rows, held_out), min(config.evaluation_samples, held_out)
    sampled = pictures + len(config.evaluation_image)
    controlled, alone = (networks.forward(height, width, both) for both in (True, False))
    encoded = networks.encode(1, height, width, pictures=True, text=True).operations
    decoded = networks.decode(height, width)
    sampling = config.sampling_steps * GUIDED
    blank = pictures  # each is sampled with a black map too
    look = 2 * rows * len(TIMES) * controlled
    evaluation = look + (sampled + blank) * (sampling * controlled + decoded)
    fixed = (
        rows * (encoded + len(TIMES) * alone) + sampled * (sampling * alone + decoded) + pictures * (encoded + decoded)
    )
    return evaluation, look, fixed


def matmul_speed(device: str, precision: str) -> float:
    """Operations per second of a matrix product here."""
    size = 512 if device == "cpu" else 4096
    a = torch.randn(size, size, device=device, dtype=torch_dtype(precision))
    best = float("inf")
    for _ in range(4):
        started = time.perf_counter()
        float((a @ a)[0, 0])
        best = min(best, time.perf_counter() - started)
    return 2 * size**3 / best


def processes_asked() -> int:
    """How many processes train together: what ``accelerate launch`` and ``torchrun`` say, or the user in their place.

    Raises:
        MillError: ``WORLD_SIZE`` is no such number.
    """
    said = os.environ.get("WORLD_SIZE", "1")
    if not said.isdecimal() or int(said) < 1:
        raise MillError(f"WORLD_SIZE is {said!r} in the environment: it should be the number of processes")
    return int(said)


def plan_text(prepared: Prepared, config: TrainConfig) -> str:
    """The plan as a table for people."""
    from controlmill.annotators.runtime.torch_device import allow_tf32, resolve_device

    allow_tf32(config.tf32)
    device, processes = resolve_device(config.device), processes_asked()
    chosen = prepared.selection
    shapes = [(config.crop_size, config.crop_size)] if config.crop_size else chosen.shapes()
    height, width = max(shapes, key=lambda shape: shape[0] * shape[1])
    plan = make_plan(config, prepared.facts, height, width, processes, prepared.caches, len(chosen.held_out))
    seconds_of = 1 / (matmul_speed(device, config.precision) * EFFICIENCY)
    rows, seconds = len(chosen.train), plan.flops * seconds_of
    among = f", {config.share(processes)} in each of {processes} processes" if processes > 1 else ""
    lines = [
        f"{rows:,} rows of at most {width}x{height}; {config.steps:,} steps of {config.batch_size}{among} are "
        f"{config.steps * config.batch_size / rows:.1f} epochs",
        *(f"{name:<12}{getattr(plan, name) / 2**30:10.3f} GiB" for name in PARTS),
        f"{'together':<12}{plan.total / 2**30:10.3f} GiB{' a process' if among else ''}, "
        "and what the framework and the device's driver hold",
        f"{plan.flops / 1e12:.3f} TFLOP a step{' and process' if among else ''}: {about(seconds)} on this machine "
        f"({device}), {about(seconds * config.steps)} in all (within a factor of two)",
    ]
    if plan.evaluation:
        lines.append(_evaluations_text(plan, config, seconds_of))
    return "\n".join(lines)


def about(seconds: float) -> str:
    """Two digits of it, in the unit that suits: ``about 0.34 s``, ``about 210 hours``."""
    unit, size = next((unit for unit in (("hours", 3600), ("minutes", 60)) if seconds >= 2 * unit[1]), ("s", 1))
    rounded = float(f"{seconds / size:.2g}")
    return f"about {rounded:,.0f} {unit}" if rounded >= 10 else f"about {rounded:g} {unit}"


def _evaluations_text(plan: Plan, config: TrainConfig, seconds_of: float) -> str:
    """How often held-out rows are evaluated, and for how long."""
    one, look, first = (count * seconds_of for count in (plan.evaluation, plan.look, plan.first_evaluation))
    schedule = EvaluationSchedule(config.evaluation_interval, config.evaluation_budget)
    asked = 2 + (config.steps - 1) // config.evaluation_interval  # the first, the last, and between
    looks = (config.steps - 1) // schedule.look_interval - (config.steps - 1) // config.evaluation_interval
    count = asked
    if config.evaluation_budget:
        allowed = config.evaluation_budget * config.steps * plan.flops * seconds_of
        looks = min(looks, int(SHARE * allowed / look))
        count = min(asked, 2 + int((allowed - looks * look) / one))
    bound = (
        f", fewer than the {asked} asked for: --evaluation-budget {config.evaluation_budget:g}" if count < asked else ""
    )
    return (
        f"evaluations: {count} of {plan.evaluation / 1e12:.3f} TFLOP{bound}, {about(one)} each, and {looks} of "
        f"losses alone, {about(look)} each; {about(first + count * one + looks * look)} in all, without annotators"
    )


PARTS = ("frozen", "trained", "gradients", "optimizer", "average", "activations")
