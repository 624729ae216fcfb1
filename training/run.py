"""A run folder: begun, gone on with, finished. Everything wrong is found before weights are loaded."""

from __future__ import annotations

import importlib.util
import json
import os
from dataclasses import asdict
from pathlib import Path
from typing import Any

from ..annotators.torch_device import resolve_device
from ..schemas.errors import MillError
from ..schemas.machine import check_semaphores
from .config import TYPES, TrainConfig, check_same
from .data import Prepared, prepare
from .log import check_wandb
from .own_pictures import check_probes
from .selection import common_shapes


def begin(address: str, run: Path, config: TrainConfig) -> Prepared:
    """Check everything and write ``run.json``.

    Raises:
        MillError: see :func:`data.prepare`; or the folder holds another run, or one that is to be resumed.
    """
    config.check()
    if not _is_first_process():
        return prepare(address, config)
    before = read_run(run)
    if before is None and run.exists() and any(run.iterdir()):
        raise MillError(f"{run} is not empty and not a run; choose another folder")
    prepared = prepare(address, config)
    _check_extras(config, prepared)
    if before is not None:
        check_same(before["config"], config, str(run))
        if saved := steps_saved(run):
            raise MillError(f"{run} is a run of {saved[-1]} steps: go on with --resume")
    write_run(run, prepared, config)
    return prepared


def resume(run: Path, changes: dict[str, Any], address: str | None = None) -> tuple[TrainConfig, Prepared]:
    """The configuration and data of a run that goes on; ``changes`` may only be of machine settings.

    Raises:
        MillError: no run, no checkpoint, other settings, other data.
    """
    before = read_run(run)
    if before is None:
        raise MillError(f"{run} is not a run (no run.json)")
    config = TrainConfig(**{name: value for name, value in before["config"].items() if name in TYPES})
    for name, value in changes.items():
        if value is not None:
            setattr(config, name, value)
    check_same(before["config"], config, str(run))
    if not steps_saved(run):
        raise MillError(f"{run} has no checkpoint to go on from")
    prepared = prepare(address or before["dataset"], config, before.get("caches", []))
    old, new = before.get("digests", {}), prepared.digests
    changed = [part for part in {**old, **new} if old.get(part) != new.get(part)]
    if changed:
        raise MillError(
            f"{before['dataset']} changed since {run} began: it has other {', '.join(changed)}. Begin a new run "
            "(--start-from takes this one's weights)"
        )
    _check_extras(config, prepared)
    from . import checkpoint

    checkpoint.read_state(run)
    write_run(run, prepared, config)
    return config, prepared


def _check_extras(config: TrainConfig, prepared: Prepared) -> None:
    check_wandb(config.wandb)
    if config.optimizer == "adamw8bit" and importlib.util.find_spec("bitsandbytes") is None:
        raise MillError("--optimizer adamw8bit needs the package bitsandbytes, which is not installed")
    if config.weights and not Path(config.weights).is_dir():
        raise MillError(f"--weights {config.weights}: no such folder")
    check_probes(config.probe_image, prepared.condition, prepared.provenance(), config.weights)
    if config.loader_workers:
        check_semaphores("--loader-workers")
    device = resolve_device(config.device)  # last: it loads torch
    if config.precision == "fp16" and device == "cpu":
        raise MillError("--precision fp16 needs a GPU; on the CPU use bf16 or fp32")


def _is_first_process() -> bool:
    """Of a run by ``accelerate launch`` or ``torchrun``."""
    return os.environ.get("RANK", "0") == "0"


def steps_saved(run: Path) -> list[int]:
    """Steps of the whole checkpoints of a run, in order."""
    names = [path.name for path in (run / "checkpoints").glob("*") if path.name.isdigit()]
    return sorted(int(name) for name in names if (run / "checkpoints" / name / "state.json").is_file())


def read_run(run: Path) -> dict[str, Any] | None:
    """``run.json``, if there is one."""
    path = run / "run.json"
    if not path.is_file():
        return None
    try:
        said: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise MillError(f"{path} is damaged: {error}") from error
    return said


def write_run(run: Path, prepared: Prepared, config: TrainConfig) -> None:
    """Write ``run.json``; of several processes the first does."""
    if not _is_first_process():
        return
    run.mkdir(parents=True, exist_ok=True)
    said = {
        "config": asdict(config),
        "dataset": prepared.dataset.storage.address,
        "fingerprint": prepared.fingerprint,
        "digests": prepared.digests,
        "caches": prepared.caches.tables,
        "provenance": prepared.provenance(),
        "shapes": [(config.crop, config.crop)] if config.crop else common_shapes(prepared.selection.train),
        "rows": len(prepared.selection.train),
        "held_out": len(prepared.selection.held_out),
        "left_out": dict(prepared.selection.left_out),
    }
    scratch = run / "run.json~"
    scratch.write_text(json.dumps(said, indent=1, sort_keys=True) + "\n", encoding="utf-8")
    scratch.replace(run / "run.json")
