"""Checkpoints: everything that the next step depends on, in safetensors and JSON, whole or not at all.

    RUN/checkpoints/00001000/controlnet/    what ControlNetModel.from_pretrained loads: the weights being trained
                             ema/           their average, where one is kept; in the same format
                             unet/          the base as trained, where it is unlocked
                             optimizer.safetensors  state.json
    RUN/controlnet -> checkpoints/…/controlnet (or ema) of the last one

No random state is saved, because there is none: draws are functions of (seed, epoch, row).
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from diffusers import ControlNetModel, UNet2DConditionModel
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from ..schemas.errors import MillError, error_text
from .run import steps_saved

DIGITS = 8
STATE = {"base", "optimizer", "scaler", "step"}  # what state.json has


@dataclass
class Trained:
    """The parts of a run that change. ``average`` and ``scaler`` may be None; ``unet`` counts if it is trained."""

    controlnet: ControlNetModel
    unet: UNet2DConditionModel | None
    optimizer: torch.optim.Optimizer
    average: ControlNetModel | None = None
    scaler: Any = None


def save(run: Path, step: int, trained: Trained, state: dict[str, Any], keep: int) -> Path:
    """Write a checkpoint after ``step`` steps, point ``RUN/controlnet`` at it, and remove all but the last ``keep``.

    Raises:
        MillError: it could not be written, for want of space for example; nothing is left of it.
    """
    folder = _folder(run, step)
    scratch = folder.with_suffix(".partial")
    for left in (run / "checkpoints").glob("*.partial"):  # by a process that was killed
        shutil.rmtree(left, ignore_errors=True)
    try:
        _write(scratch, step, trained, state)
        shutil.rmtree(folder, ignore_errors=True)
        os.replace(scratch, folder)
        _point(run / "controlnet", folder / ("ema" if trained.average is not None else "controlnet"))
        if trained.unet is not None:
            _point(run / "unet", folder / "unet")
    except (OSError, SafetensorError) as error:
        shutil.rmtree(scratch, ignore_errors=True)
        saved = steps_saved(run)
        then = f"The last whole one is of step {saved[-1]}: " if saved else "There is none before it: "
        then += f"make room, then {'go on with --resume' if saved else 'begin the run again'}"
        raise MillError(f"{folder}: the checkpoint could not be written ({error_text(error)}). {then}") from error
    for old in steps_saved(run)[:-keep]:
        shutil.rmtree(_folder(run, old))
    return folder


def _write(scratch: Path, step: int, trained: Trained, state: dict[str, Any]) -> None:
    """All files of a checkpoint, down to the disk."""
    scratch.mkdir(parents=True)
    trained.controlnet.save_pretrained(scratch / "controlnet")
    if trained.average is not None:
        trained.average.save_pretrained(scratch / "ema")
    if trained.unet is not None:
        trained.unet.save_pretrained(scratch / "unet")
    values = _flat(trained.optimizer.state_dict()["state"])
    scalars = {name: value for name, value in values.items() if not isinstance(value, torch.Tensor)}
    # copies, because bitsandbytes has tensors that parameters share
    tensors = {name: values[name].detach().to("cpu", copy=True).contiguous() for name in values.keys() - scalars.keys()}
    save_file(tensors, scratch / "optimizer.safetensors")
    scaler = trained.scaler.state_dict() if trained.scaler is not None else None
    everything = {**state, "step": step, "optimizer": scalars, "scaler": scaler}
    (scratch / "state.json").write_text(json.dumps(everything, indent=1, sort_keys=True) + "\n", encoding="utf-8")
    _sync(scratch)


def read_state(run: Path) -> dict[str, Any]:
    """``state.json`` of the last checkpoint.

    Raises:
        MillError: there is none, or it is damaged.
    """
    if not steps_saved(run):
        raise MillError(f"{run} has no checkpoint to go on from")
    path = _last(run) / "state.json"
    with _reading(run, path):
        state = json.loads(path.read_text(encoding="utf-8"))
        if not isinstance(state, dict) or not state.keys() >= STATE:
            raise ValueError(f"it should have {', '.join(sorted(STATE))}")
    return state


def blank_controlnet(run: Path, kind: type[ControlNetModel]) -> ControlNetModel:
    """A ControlNet of the form of the last checkpoint's, without its weights."""
    folder = _last(run) / "controlnet"
    with _reading(run, folder / "config.json"):
        made: ControlNetModel = kind.from_config(kind.load_config(folder))
    return made


def restore(run: Path, trained: Trained) -> dict[str, Any]:
    """Load the last checkpoint into what was just built, and return its state.

    Raises:
        MillError: a file of it is missing or damaged.
    """
    folder, state = _last(run), read_state(run)
    _load(run, trained.controlnet, folder / "controlnet")
    if trained.average is not None:
        _load(run, trained.average, folder / "ema")
    if trained.unet is not None:
        _load(run, trained.unet, folder / "unet")
    blank = trained.optimizer.state_dict()
    with _reading(run, folder / "optimizer.safetensors"):
        values = _nested({**load_file(folder / "optimizer.safetensors"), **state["optimizer"]})
    moments = {int(index): parts for index, parts in values.items()}
    trained.optimizer.load_state_dict({"state": moments, "param_groups": blank["param_groups"]})
    if trained.scaler is not None and state["scaler"]:
        trained.scaler.load_state_dict(state["scaler"])
    return state


def _folder(run: Path, step: int) -> Path:
    return run / "checkpoints" / f"{step:0{DIGITS}d}"


def _last(run: Path) -> Path:
    return _folder(run, steps_saved(run)[-1])


@contextlib.contextmanager
def _reading(run: Path, path: Path) -> Iterator[None]:
    """Raise MillError, with what to do, where ``path`` of the last checkpoint turns out damaged."""
    try:
        yield
    except (OSError, ValueError, SafetensorError) as error:
        *before, last = steps_saved(run)
        then = f"go on from step {before[-1]}, the checkpoint before" if before else "begin anew: there is none before"
        raise MillError(
            f"{path} is damaged or missing ({error_text(error)}). Remove the folder {_folder(run, last)} to {then}"
        ) from error


def _load(run: Path, module: torch.nn.Module, folder: Path) -> None:
    tensors: dict[str, torch.Tensor] = {}
    for file in sorted(folder.glob("*.safetensors")):
        with _reading(run, file):
            tensors.update(load_file(file))
    with _reading(run, folder):
        missing = module.state_dict().keys() - tensors.keys()
        if missing:
            raise ValueError(f"{len(missing)} weights are not there")
    module.load_state_dict(tensors)


def _flat(nested: Mapping[Any, Any]) -> dict[str, Any]:
    """Values by path, ``0/exp_avg``; bitsandbytes has one dictionary more between parameter and values."""
    found = {}
    for name, value in nested.items():
        inner = _flat(value) if isinstance(value, Mapping) else None
        found.update(
            {f"{name}/{path}": part for path, part in inner.items()} if inner is not None else {str(name): value}
        )
    return found


def _nested(flat: Mapping[str, Any]) -> dict[str, Any]:
    """What :func:`_flat` was given, with names as text."""
    found: dict[str, Any] = {}
    for path, value in flat.items():
        *outer, name = path.split("/")
        inner = found
        for part in outer:
            inner = inner.setdefault(part, {})
        inner[name] = value
    return found


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
