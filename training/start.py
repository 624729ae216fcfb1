"""A run folder: begun, gone on with, finished. Everything wrong is found before weights are loaded."""

from __future__ import annotations

import contextlib
import importlib.util
import os
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from controlmill.annotators.runtime.torch_device import resolve_device
from controlmill.bases.configuration import pinned_base, pinned_controlnet
from controlmill.evaluation.user_pictures import check_user_pictures
from controlmill.schemas.errors import MillError
from controlmill.schemas.machine import check_semaphores

from .config import TrainConfig, check_same
from .data.selection import common_shapes
from .run.claim import LOCK, claimed
from .run.log import check_wandb
from .run.prepare import Prepared, prepare
from .run.record import DECISIVE, RunRecord, as_recorded, is_path, published, read_run, write_run
from .run.saved import read_state, steps_saved

OWN = "leave them out: the run goes on with its own"
ANEW = "a new run with --start-from {} takes its ControlNet alone"
SHARDING = ("ACCELERATE_USE_FSDP", "ACCELERATE_USE_DEEPSPEED", "ACCELERATE_USE_MEGATRON_LM")


def claimed_by_first(run: Path) -> contextlib.AbstractContextManager[None]:
    """Hold a run's folder for as long as it is trained, by the first of several processes."""
    return claimed(run) if _is_first_process() else contextlib.nullcontext()


def begin(address: str, run: Path, config: TrainConfig) -> Prepared:
    """Check everything and write ``run.json``.

    Raises:
        MillError: see :func:`data.prepare`; or the folder holds another run, or one that is to be resumed.
    """
    config.check()
    if not _is_first_process():
        return prepare(address, config)
    before = read_run(run)
    if before is None and run.exists() and any(path.name != LOCK for path in run.iterdir()):
        raise MillError(f"{run} is not empty and not a run; choose another folder")
    prepared = prepare(address, config)
    prepared.facts.start_reading()  # read while libraries are imported
    _check_extras(config, prepared)
    named = _at_commits(replace(config, segments=prepared.segments))
    if before is not None:
        asked = replace(named, **_found_before(config, before.config))
        check_same(asdict(published(before.config)), published(asked), str(run), "choose another folder")
        if saved := steps_saved(run):
            raise MillError(f"{run} is a run of {saved[-1]} steps: go on with --resume")
    write_run(run, _record(prepared, named))
    return prepared


def resume(run: Path, changes: dict[str, Any], address: str | None = None) -> tuple[TrainConfig, Prepared]:
    """The configuration and data of a run that goes on; ``changes`` may only be of machine settings.

    Raises:
        MillError: no run, no checkpoint, other settings, other data.
    """
    before = read_run(run)
    if before is None:
        raise MillError(f"{run} is not a run (no run.json)")
    given = {name: value for name, value in changes.items() if value is not None}
    config = replace(before.config, **given)
    config = replace(config, **_same_names(config, before.config))
    check_same(asdict(published(before.config)), published(config), str(run), f"{OWN}; {ANEW.format(run)}")
    done = read_state(run).step
    if config.steps < done:
        raise MillError(f"--steps {config.steps}: {run} has {done} steps already")
    prepared = prepare(address or before.dataset, config, before.caches)
    old, new = before.digests, prepared.digests
    changed = [part for part in {**old, **new} if old.get(part) != new.get(part)]
    if changed:
        raise MillError(
            f"{before.dataset} changed since {run} began: it has other {', '.join(changed)}. {ANEW.format(run)}"
        )
    prepared.facts.start_reading()
    _check_extras(config, prepared)
    if _is_first_process():
        write_run(run, _record(prepared, config))
    return config, prepared


def _check_sharding() -> None:
    """Raise MillError where accelerate would spread weights over processes: the first writes checkpoints alone."""
    for name in SHARDING:
        if os.environ.get(name, "").lower() == "true":
            raise MillError(
                f"{name} is true in the environment (accelerate config), but here every process holds all weights: "
                "accelerate launch --multi_gpu …"
            )


def _check_extras(config: TrainConfig, prepared: Prepared) -> None:
    _check_sharding()
    check_wandb(config.wandb_project)
    if config.optimizer == "adamw8bit" and importlib.util.find_spec("bitsandbytes") is None:
        raise MillError("--optimizer adamw8bit needs the package bitsandbytes, which is not installed")
    if config.weights and not Path(config.weights).is_dir():
        raise MillError(f"--weights {config.weights}: no such folder")
    check_user_pictures(config.evaluation_image, prepared.condition, prepared.provenance(), config.weights)
    if config.loader_workers:
        check_semaphores("--loader-workers")
    device = resolve_device(config.device)  # last: it loads torch
    if config.precision == "fp16" and device == "cpu":
        raise MillError("--precision fp16 needs a GPU; on the CPU use bf16 or fp32")


def _is_first_process() -> bool:
    """Of a run by ``accelerate launch`` or ``torchrun``."""
    return os.environ.get("RANK", "0") == "0"


def _at_commits(config: TrainConfig) -> TrainConfig:
    """With what is on the hub named at the commit that this process reads."""
    start = config.start_from
    return replace(
        config,
        base=pinned_base(config.base),
        start_from=pinned_controlnet(start) if start and not is_path(start) else start,
    )


def _same_names(config: TrainConfig, before: TrainConfig) -> dict[str, Any]:
    return {name: as_recorded(getattr(config, name), getattr(before, name)) for name in DECISIVE}


def _found_before(config: TrainConfig, before: TrainConfig) -> dict[str, Any]:
    """What a run found that was killed before its first checkpoint, for what its settings leave open: commits on the
    hub, and the segments that there were. Begun again it finds what is there now.
    """
    return _same_names(config, before) | ({} if config.segments else {"segments": before.segments})


def _record(prepared: Prepared, config: TrainConfig) -> RunRecord:
    return RunRecord(
        replace(config, segments=prepared.segments),
        prepared.dataset.storage.address,
        prepared.fingerprint,
        prepared.digests,
        prepared.caches.tables,
        prepared.provenance(),
        [(config.crop_size, config.crop_size)] if config.crop_size else common_shapes(prepared.selection.train),
        len(prepared.selection.train),
        len(prepared.selection.held_out),
        dict(prepared.selection.left_out),
    )
