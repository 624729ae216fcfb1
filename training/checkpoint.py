"""Checkpoints: everything that the next step depends on, in safetensors and JSON, whole or not at all.

    RUN/checkpoints/00001000/controlnet/    what ControlNetModel.from_pretrained loads: the weights being trained
                             ema/           their average, where one is kept; in the same format
                             unet/          the base with its decoder trained, where that is unlocked
                             optimizer.safetensors  state.json
    RUN/controlnet -> checkpoints/…/controlnet (or ema) of the last one

No random state is saved, because there is none: draws are functions of (seed, epoch, row).
"""

from __future__ import annotations

import json
import os
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from diffusers import ControlNetModel, UNet2DConditionModel
from safetensors.torch import load_file, save_file

from ..schemas.errors import MillError

DIGITS = 8


@dataclass
class Trained:
    """The parts of a run that change. ``average`` and ``scaler`` may be None; ``unet`` counts if it is trained."""

    controlnet: ControlNetModel
    unet: UNet2DConditionModel | None
    optimizer: torch.optim.Optimizer
    average: ControlNetModel | None = None
    scaler: Any = None


def save(run: Path, step: int, trained: Trained, state: dict[str, Any], keep: int) -> Path:
    """Write a checkpoint after ``step`` steps, point ``RUN/controlnet`` at it, and remove all but the last ``keep``."""
    folder = run / "checkpoints" / f"{step:0{DIGITS}d}"
    scratch = folder.with_suffix(".partial")
    shutil.rmtree(scratch, ignore_errors=True)
    scratch.mkdir(parents=True)
    trained.controlnet.save_pretrained(scratch / "controlnet")
    if trained.average is not None:
        trained.average.save_pretrained(scratch / "ema")
    if trained.unet is not None:
        trained.unet.save_pretrained(scratch / "unet")
    tensors, scalars = _optimizer_state(trained.optimizer)
    save_file(tensors, scratch / "optimizer.safetensors")
    scaler = trained.scaler.state_dict() if trained.scaler is not None else None
    everything = {**state, "step": step, "optimizer": scalars, "scaler": scaler}
    (scratch / "state.json").write_text(json.dumps(everything, indent=1, sort_keys=True) + "\n", encoding="utf-8")
    _sync(scratch)
    shutil.rmtree(folder, ignore_errors=True)
    os.replace(scratch, folder)
    _point(run / "controlnet", folder / ("ema" if trained.average is not None else "controlnet"))
    if trained.unet is not None:
        _point(run / "unet", folder / "unet")
    for old in steps_saved(run)[:-keep]:
        shutil.rmtree(run / "checkpoints" / f"{old:0{DIGITS}d}")
    return folder


def steps_saved(run: Path) -> list[int]:
    """Steps of the whole checkpoints of a run, in order."""
    names = [path.name for path in (run / "checkpoints").glob("*") if path.name.isdigit()]
    return sorted(int(name) for name in names if (run / "checkpoints" / name / "state.json").is_file())


def read_state(run: Path, step: int | None = None) -> dict[str, Any]:
    """``state.json`` of the last checkpoint, or of the one after ``step`` steps.

    Raises:
        MillError: there is none.
    """
    saved = steps_saved(run)
    if not saved or (step is not None and step not in saved):
        raise MillError(f"{run} has no checkpoint{f' of step {step}' if step is not None else ''} to go on from")
    state: dict[str, Any] = json.loads((_folder(run, step) / "state.json").read_text(encoding="utf-8"))
    return state


def restore(run: Path, trained: Trained) -> dict[str, Any]:
    """Load the last checkpoint into what was just built, and return its state."""
    folder, state = _folder(run, None), read_state(run)
    _load(trained.controlnet, folder / "controlnet")
    if trained.average is not None:
        _load(trained.average, folder / "ema")
    if trained.unet is not None:
        _load(trained.unet, folder / "unet")
    blank = trained.optimizer.state_dict()
    moments: dict[int, dict[str, Any]] = {}
    for name, tensor in load_file(folder / "optimizer.safetensors").items():
        index, _, part = name.partition(".")
        moments.setdefault(int(index), {})[part] = tensor
    for name, value in state["optimizer"].items():
        index, _, part = name.partition(".")
        moments.setdefault(int(index), {})[part] = value
    trained.optimizer.load_state_dict({"state": moments, "param_groups": blank["param_groups"]})
    if trained.scaler is not None and state["scaler"]:
        trained.scaler.load_state_dict(state["scaler"])
    return state


def _folder(run: Path, step: int | None) -> Path:
    return run / "checkpoints" / f"{steps_saved(run)[-1] if step is None else step:0{DIGITS}d}"


def _load(module: torch.nn.Module, folder: Path) -> None:
    tensors: dict[str, torch.Tensor] = {}
    for file in sorted(folder.glob("*.safetensors")):
        tensors.update(load_file(file))
    module.load_state_dict(tensors)


def _optimizer_state(optimizer: torch.optim.Optimizer) -> tuple[dict[str, torch.Tensor], dict[str, Any]]:
    tensors, scalars = {}, {}
    for index, parts in optimizer.state_dict()["state"].items():
        for name, value in parts.items():
            if isinstance(value, torch.Tensor):
                tensors[f"{index}.{name}"] = value.detach().cpu().contiguous()
            else:
                scalars[f"{index}.{name}"] = value
    return tensors, scalars


def _point(link: Path, target: Path) -> None:
    """Make ``link`` a relative symbolic link, in one step."""
    temporary = link.with_name(link.name + "~")
    temporary.unlink(missing_ok=True)
    temporary.symlink_to(os.path.relpath(target, link.parent))
    os.replace(temporary, link)


def _sync(folder: Path) -> None:
    for path in folder.rglob("*"):
        if path.is_file():
            with path.open("rb") as file:
                os.fsync(file.fileno())
