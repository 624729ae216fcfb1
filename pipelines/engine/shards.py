"""One shard from start to commit. Beam carries shard numbers only; this is what happens to each.

    skip what is committed → mark the attempt → rows through the step → write → commit → unmark

A step that fails on a row gives a row that says so. A worker that dies leaves its mark, and whoever does the shard
next keeps each row of what it was at in a process of its own (``quarantine``).
"""

from __future__ import annotations

import errno
import socket
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from controlmill.annotators.runtime.torch_device import device_kind
from controlmill.schemas.dataset import Dataset
from controlmill.schemas.errors import Gone, MillError
from controlmill.schemas.files.storage import Storage
from controlmill.schemas.fingerprint import differences
from controlmill.schemas.machine import MORE_MEMORY, MORE_THREADS, NO_MORE

from .faults import DeviceFault, JobFault, OutOfMemory
from .quarantine import run_rows_apart
from .rows import run_rows
from .run_folder import Run, Stopped
from .stage import Output, Stage
from .worker import this_worker

FULL_DISK = (errno.ENOSPC, errno.EDQUOT, errno.EROFS)


@dataclass(frozen=True)
class Job:
    """A stage on a dataset, as it travels to workers.

    ``outputs`` are the stage's, as the console states them; ``threads`` are a worker's codec threads, which its shards
    in flight share (0: as many as fall to it on its machine); ``in_flight`` is how many shards the engine is to let a
    worker have, where it can be told; ``redone`` are tables made anew.
    """

    storage: Storage
    run: str
    stage: Stage
    outputs: Mapping[str, Output]
    threads: int
    in_flight: int = 1
    redone: frozenset[str] = frozenset()


def run_shard(job: Job, shard: int) -> dict[str, Any]:
    """Do one shard and commit its tables. What goes wrong is noted in the run folder, for the console to read.

    Returns:
        What was done, as plain values.

    Raises:
        MillError: what went wrong could not be noted (the disk is full); an engine that fails is the one other way to
            tell it.
    """
    with this_worker().shard(job.run):
        return _run_shard(job, shard)


def _run_shard(job: Job, shard: int) -> dict[str, Any]:
    # of all shards of a worker, so that it is not looked at for each whether it is to stop
    run = this_worker().once("run", lambda: Run(job.storage, job.run))
    try:
        run.check()
        committed = _do(job, run, shard)
        return {"shard": shard, "status": "done", "committed": committed}
    except (Stopped, Gone):
        return {"shard": shard, "status": "stopped"}
    except Exception as error:
        _note(run, job.stage, shard, error)
        return {"shard": shard, "status": "failed"}


def _note(run: Run, stage: Stage, shard: int, error: Exception) -> None:
    """Note an error in the run folder; where that cannot be done, raise what it says."""
    networks = bool(list(stage.devices()))
    advice = advice_on(error, networks)
    try:
        run.finish(shard)
        run.fail(shard, advice)
        if isinstance(error, OutOfMemory | DeviceFault | JobFault) or _is_disk_full(error) or NO_MORE in advice:
            run.stop(advice)
    except (Stopped, Gone):  # nobody waits for it any more
        return
    except Exception as second:
        both_full = _is_disk_full(error) and _is_disk_full(second)
        said = advice if both_full else f"{advice}; this could not be noted: {advice_on(second, networks)}"
        raise MillError(f"shard {shard}: {said}") from error


def _do(job: Job, run: Run, shard: int) -> list[str]:
    worker, opened = this_worker(), (job.storage.address, job.redone)
    dataset = worker.once(("dataset", *opened), lambda: Dataset.open(*opened))
    missing = {table: output for table, output in job.outputs.items() if not dataset.has(table, shard)}
    if not missing:
        return []
    worker.once(("outputs", job.stage.name), lambda: check_outputs(job.stage, job.outputs))
    worker.once(("devices", job.stage.name), lambda: check_devices(job.stage.devices(), run))
    with run.begin(shard) as attempt:
        threads = job.threads or worker.threads()
        for task in job.stage.tasks(dataset, run, shard, missing):
            if attempt.deaths:
                outcomes = run_rows_apart(task.step, task.rows, run.check)
            else:
                outcomes = run_rows(task.step, task.rows, threads, run.check, lambda: worker.shards)
            task.write(attempt.count(task.tables, outcomes))
            if attempt.deaths:  # of this task, the first that was not done
                attempt.outlive()
        attempt.end()
    return sorted(missing)


def check_outputs(stage: Stage, stated: Mapping[str, Output]) -> None:
    """Compare what a stage would make here with what the console has stated.

    Raises:
        JobFault: it would be another table: this machine has other versions of packages, say; or it cannot
            be made here.
    """
    host = socket.gethostname()
    try:
        found = stage.outputs()
    except MillError as error:
        raise JobFault(f"on {host}: {error}") from error
    for table, output in stated.items():
        changed = differences(output.provenance, found[table].provenance) if table in found else ["the table"]
        if changed or found[table].schema != output.schema:
            raise JobFault(
                f"a worker on {host} would make {table} in another way than the machine where the job was started; "
                "what differs:"
                + "".join(f"\n  {line}" for line in changed or ["the columns"])
                + "\nall machines need the same versions of ControlMill and of these packages"
            )


def check_devices(devices: Iterable[str], run: Run) -> None:
    """Compare the GPUs that this worker has for a job with those of the run's first one.

    Raises:
        JobFault: it has none, or one of another model, whose maps could differ in their last bits.
    """
    for device in sorted({device for device in devices if device.startswith("cuda")}):
        try:
            kind = device_kind(this_worker().device(device))
        except MillError as error:
            raise JobFault(str(error)) from error
        first = run.agree(device.replace(":", "-"), kind)
        if first.said != kind:
            raise JobFault(
                f"{device} is {kind} on {socket.gethostname()}, but {first.said} on {first.host}: maps of one table "
                "would differ in their last bits. Let one kind of GPU do the job (CUDA_VISIBLE_DEVICES of the workers)"
            )


def _is_disk_full(error: BaseException) -> bool:
    return getattr(error, "errno", None) in FULL_DISK


def advice_on(error: BaseException, networks: bool) -> str:
    """An error's text, with what to do about it where that is known. ``networks``: whether the stage has any."""
    if isinstance(error, OutOfMemory):
        smaller = "choose a smaller --batch-size; " if networks else ""
        return f"out of memory ({error}): {smaller}{MORE_MEMORY}"
    if NO_MORE in str(error):
        return f"no more threads can be started ({error}): {MORE_THREADS}"
    if isinstance(error, DeviceFault):
        return f"the device failed ({error}): run the same command again to go on"
    if _is_disk_full(error):
        return f"the disk is full or read-only ({error}): make room, then run the same command again"
    if isinstance(error, MillError):
        return str(error)
    return f"{type(error).__name__}: {error}"
