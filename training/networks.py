"""The networks and the optimiser of a run, begun or restored from its last checkpoint."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from accelerate import PartialState
from diffusers import ControlNetModel

from controlmill.bases.base import Base
from controlmill.bases.registry import load_base
from controlmill.schemas.errors import MillError
from controlmill.schemas.terminal.console import output

from .config import TrainConfig
from .run import checkpoint
from .run.prepare import Prepared
from .run.saved import State


def load_for_training(config: TrainConfig, device: torch.device, run: Path, saved: State | None) -> tuple[Base, str]:
    """The base, and its fingerprint before it is trained.

    Raises:
        MillError: the run whose checkpoint was ``saved`` was trained on other weights.
    """
    base = load_base(config.base, device, config.precision, trainable=True)
    fingerprint = base.fingerprint()
    if saved and saved.base != fingerprint:
        raise MillError(
            f"{run} was trained on other weights than the base {config.base} has now. Put the old ones back, or "
            "begin a new run (--start-from takes this one's weights)"
        )
    return base, fingerprint


def build(
    base: Base, prepared: Prepared, config: TrainConfig, resumed: Path | None, scaler: Any
) -> tuple[torch.nn.Module, checkpoint.Trained]:
    """Denoiser and ControlNet as one module, and what of it is trained, before its first step.

    Of a run that is ``resumed``, what its last checkpoint has is still to be restored.
    ``scaler`` is that of fp16, or None.
    """
    controlnet = _controlnet(base, prepared, config, resumed)
    of_controlnet, of_base = base.choose_trainable(controlnet, config.only_mid_control, config.unlock)
    groups: list[dict[str, Any]] = [{"params": of_controlnet, "full": config.learning_rate}]
    groups += [{"params": of_base, "full": config.unlock_learning_rate}] if of_base else []
    if config.gradient_checkpointing:
        controlnet.enable_gradient_checkpointing()
        base.denoiser.enable_gradient_checkpointing()
    # one mode for all steps, however the networks came: it chooses memory layouts, and so last bits
    denoiser = base.controlled(controlnet.to(base.device)).train()
    for module in denoiser.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.0  # a base may have some; it would draw from a state that no checkpoint has
    trained_base = base.denoiser if of_base else None
    average = copy_of(controlnet) if config.ema_decay else None
    return denoiser, checkpoint.Trained(controlnet, trained_base, _optimizer(config, groups), average, scaler)


def _controlnet(base: Base, prepared: Prepared, config: TrainConfig, resumed: Path | None) -> ControlNetModel:
    controlnet: ControlNetModel
    if resumed:
        return checkpoint.blank_controlnet(resumed, base.controlnet_class(config.connection))
    if not config.start_from:
        controlnet = base.make_controlnet(config.connection, config.seed)
        return controlnet
    controlnet = base.load_controlnet(prepared.start_folder)
    if config.only_mid_control and base.uses_skips(controlnet) and PartialState().is_main_process:
        output.say(f"--only-mid-control: the connections of {config.start_from} to skips are dropped, and zero again")
    return controlnet


def _optimizer(config: TrainConfig, groups: list[dict[str, Any]]) -> torch.optim.Optimizer:
    for group in groups:
        group["lr"] = group["full"]
    if config.optimizer == "adamw":
        return torch.optim.AdamW(groups, weight_decay=config.weight_decay, fused=True)
    from bitsandbytes.optim import AdamW8bit  # that it is installed was checked before anything was loaded

    optimizer: torch.optim.Optimizer = AdamW8bit(groups, weight_decay=config.weight_decay)
    return optimizer


def copy_of(controlnet: ControlNetModel) -> ControlNetModel:
    """A copy that is not trained: where an average begins."""
    copy: ControlNetModel = type(controlnet).from_config(controlnet.config)
    copy.load_state_dict(controlnet.state_dict())
    return copy.requires_grad_(False).to(controlnet.device)


@torch.no_grad()
def move_average(average: ControlNetModel, controlnet: ControlNetModel, decay: float) -> None:
    """Bring an average nearer to what is trained; ``decay`` of it stays."""
    for mean, value in zip(average.parameters(), controlnet.parameters(), strict=True):
        mean.lerp_(value, 1 - decay)
