"""Checkpoints: everything that the next step depends on, in safetensors and JSON, whole or not at all.

    RUN/checkpoints/00001000/controlnet/    what ControlNetModel.from_pretrained loads: the weights being trained
                             ema/           their average, where one is kept; in the same format
                             unet/          the base as trained, where it is unlocked
                             optimizer.safetensors  state.json
    RUN/config.json, diffusion_pytorch_model.safetensors    those of the last one (the average's where one is kept)
    RUN/unet/                                               as well

No random state is saved, because there is none: draws are functions of (seed, epoch, row).
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from diffusers import ControlNetModel, UNet2DConditionModel
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from controlmill.schemas.errors import MillError, error_text
from controlmill.schemas.files.permissions import obey_umask
from controlmill.schemas.files.whole import replacing, sync

from .saved import State, digests, folder_of, last, read_state, reading, steps_saved, write_state


@dataclass
class Trained:
    """The parts of a run that change. ``average`` and ``scaler`` may be None; ``unet`` counts if it is trained."""

    controlnet: ControlNetModel
    unet: UNet2DConditionModel | None
    optimizer: torch.optim.Optimizer
    average: ControlNetModel | None = None
    scaler: Any = None


def save(run: Path, step: int, trained: Trained, base: str, keep: int) -> Path:
    """Write a checkpoint after ``step`` steps, offer its networks in ``RUN``, and remove all but the last ``keep``.

    ``base`` is the fingerprint of the base.

    Raises:
        MillError: it could not be written, for want of space for example, or a weight is no number; nothing is left.
    """
    _check_numbers(step, trained)
    folder = folder_of(run, step)
    scratch = _left(folder)
    for left in (run / "checkpoints").glob(_left(Path("*")).name):  # by a process that was killed
        shutil.rmtree(left, ignore_errors=True)
    try:
        _write(scratch, step, trained, base)
        shutil.rmtree(folder, ignore_errors=True)
        os.replace(scratch, folder)
        sync(folder.parent)  # before an older one goes, also where the power is cut
        offer(run)
    except (OSError, SafetensorError) as error:
        shutil.rmtree(scratch, ignore_errors=True)
        saved = steps_saved(run)
        then = f"The last whole one is of step {saved[-1]}: " if saved else "There is none before it: "
        then += f"make room, then {'go on with --resume' if saved else 'begin the run again'}"
        raise MillError(f"{folder}: the checkpoint could not be written ({error_text(error)}). {then}") from error
    for old in steps_saved(run)[:-keep]:
        os.replace(folder_of(run, old), _left(folder_of(run, old)))  # one that is half removed is none
        shutil.rmtree(_left(folder_of(run, old)), ignore_errors=True)  # somebody reads it: the next save removes it
    return folder


def _left(folder: Path) -> Path:
    """Where a checkpoint is that is not whole."""
    return folder.with_suffix(".partial")


def _networks(trained: Trained) -> dict[str, torch.nn.Module]:
    """What of a run is a network, by its folder in a checkpoint."""
    parts = {"controlnet": trained.controlnet, "ema": trained.average, "unet": trained.unet}
    return {name: part for name, part in parts.items() if part is not None}


def _check_numbers(step: int, trained: Trained) -> None:
    for part, network in _networks(trained).items():
        for name, weight in network.state_dict().items():
            if not torch.isfinite(weight).all():
                raise MillError(
                    f"step {step}: the weight {name} of {part} has values that are no numbers; no checkpoint is "
                    "written. Begin anew with a lower --learning-rate, a longer --warmup-steps or --precision fp32"
                )


def _write(scratch: Path, step: int, trained: Trained, base: str) -> None:
    """All files of a checkpoint, down to the disk."""
    scratch.mkdir(parents=True)
    for part, network in _networks(trained).items():
        network.save_pretrained(scratch / part)  # type: ignore[operator]
        _forget_origin(scratch / part / "config.json")
    values = _flat(trained.optimizer.state_dict()["state"])
    scalars = {name: value for name, value in values.items() if not isinstance(value, torch.Tensor)}
    # copies, because bitsandbytes has tensors that parameters share
    tensors = {name: values[name].detach().to("cpu", copy=True).contiguous() for name in values.keys() - scalars.keys()}
    save_file(tensors, scratch / "optimizer.safetensors")
    for path in scratch.rglob("*.safetensors"):
        obey_umask(path)
    scaler = trained.scaler.state_dict() if trained.scaler is not None else None
    write_state(scratch, State(step, base, scalars, scaler or None, digests(scratch)))
    for path in (*scratch.rglob("*"), scratch):
        sync(path)


def _forget_origin(config: Path) -> None:
    """diffusers notes the path that a network was loaded from, which is nobody else's business."""
    said = json.loads(config.read_text(encoding="utf-8"))
    said.pop("_name_or_path", None)
    config.write_text(json.dumps(said, indent=2, sort_keys=True) + "\n", encoding="utf-8")


def offer(run: Path) -> None:
    """Put the networks of the last checkpoint where their users look: for diffusers ``RUN`` is a ControlNet's folder.

    Hard links, so that they take no room; unlike symbolic ones they survive where the folder is copied or uploaded.
    """
    folder = last(run)
    own = folder / "ema" if (folder / "ema").is_dir() else folder / "controlnet"
    for source, target in ((own, run), (folder / "unet", run / "unet")):
        for path in source.glob("*"):
            target.mkdir(exist_ok=True)
            _link(path, target / path.name)


def _link(path: Path, target: Path) -> None:
    """Make ``target`` the same file, in one step; a copy where the file system has no hard links."""
    with replacing(target) as scratch:
        try:
            os.link(path, scratch)
        except OSError:
            shutil.copyfile(path, scratch)


def blank_controlnet(run: Path, kind: type[ControlNetModel]) -> ControlNetModel:
    """A ControlNet of the form of the last checkpoint's, without its weights."""
    folder = last(run) / "controlnet"
    with reading(run, folder / "config.json"):
        made: ControlNetModel = kind.from_config(kind.load_config(folder))
    return made


def restore(run: Path, trained: Trained) -> State:
    """Load the last checkpoint, whose files were checked, into what was just built; and its state.

    Raises:
        MillError: something of it is missing, or does not fit.
    """
    folder, state = last(run), read_state(run)
    for part, network in _networks(trained).items():
        _load(run, network, [name for name in state.files if name.startswith(f"{part}/")])
    blank = trained.optimizer.state_dict()
    with reading(run, folder / "optimizer.safetensors"):
        values = _nested({**load_file(folder / "optimizer.safetensors"), **state.optimizer})
        moments = {int(index): parts for index, parts in values.items()}
        _check_moments(moments, [p for group in trained.optimizer.param_groups for p in group["params"]])
        trained.optimizer.load_state_dict({"state": moments, "param_groups": blank["param_groups"]})
    if trained.scaler is not None and state.scaler:
        with reading(run, folder / "state.json"):
            trained.scaler.load_state_dict(state.scaler)
    return state


def _load(run: Path, module: torch.nn.Module, files: list[str]) -> None:
    tensors: dict[str, torch.Tensor] = {}
    for name in files:
        path = last(run) / name
        if path.suffix == ".safetensors":
            with reading(run, path):
                found = load_file(path)
                if bad := [weight for weight, value in found.items() if not torch.isfinite(value).all()]:
                    raise ValueError(f"the weight {bad[0]} has values that are no numbers")
                tensors.update(found)
    with reading(run, last(run)):
        module.load_state_dict(tensors)


def _check_moments(moments: Mapping[int, Mapping[str, Any]], parameters: list[torch.nn.Parameter]) -> None:
    """Raise ValueError where they belong to other parameters."""
    if moments.keys() != set(range(len(parameters))):
        raise ValueError(f"it is of {len(moments)} parameters, there are {len(parameters)}")
    for index, parts in moments.items():
        for name, value in parts.items():
            if name.startswith("exp_avg") and value.shape != parameters[index].shape:
                raise ValueError(f"{index}/{name} has the shape {tuple(value.shape)}")


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
