"""Whose the runs of a dataset are: which jobs may be alive, and what dead ones left behind."""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from typing import Annotated

from pydantic import Field

from controlmill.schemas.bounds import Count
from controlmill.schemas.errors import MillError
from controlmill.schemas.files.documents import plain
from controlmill.schemas.files.storage import Storage
from controlmill.schemas.machine import is_dead, may_live

NEW = ".new-"  # begins the name of a run's folder until its owner is in it: .new-ID-PID-HOST
OLD = ".old-"  # begins it while the folder is removed: who has the old name finds nothing
NEW_SECONDS = 60.0  # after which a run's folder that never got its name belongs to a dead process
SIGN_SECONDS = {True: 2.0, False: 15.0}  # between two signs of life of a run's owner
GONE_SECONDS = {True: 15.0, False: 90.0}  # without one, after which it is taken to be gone


@dataclass(frozen=True)
class Owner:
    """``owner.json``: the process that a run is of; see :func:`machine.process_stamp`.

    ``sign`` counts its signs of life; 0: it gives none, since its workers end with it. ``makes`` are the tables that it
    makes.
    """

    host: str
    pid: Annotated[int, Field(ge=1, lt=2**31)]
    started: int | None = None
    boot: str | None = None
    sign: Count = 0
    makes: tuple[str, ...] = ()

    def __str__(self) -> str:
        return f"process {self.pid} on {self.host}"


def sweep(storage: Storage) -> None:
    """Remove what dead runs of this machine left behind."""
    storage.sweep()
    for other in storage.folders("_run"):
        if other.startswith(NEW) and _may_get_its_name(storage, other):
            continue
        if not _may_live(_owner(storage, other)):
            storage.remove(f"_run/{other}")
    remove_empty(storage)


def _may_get_its_name(storage: Storage, folder: str) -> bool:
    """Whether the process that made a run's folder may be about to name it: it is not known to be dead, nor late."""
    pid, _, host = folder.removeprefix(NEW).partition("-")[2].partition("-")
    if pid.isdecimal() and is_dead(host, int(pid)):
        return False
    return storage.age(f"_run/{folder}") < NEW_SECONDS


def _owner(storage: Storage, run: str) -> Owner | None:
    """Whose a run is; None where it does not say that (yet).

    Raises:
        MillError: what it says is malformed.
    """
    advice = f"if no job works on the dataset, remove {storage.path(f'_run/{run}')}"
    return storage.read_json(f"_run/{run}/owner.json", Owner, advice)


def _may_live(owner: Owner | None) -> bool:
    return owner is not None and may_live(plain(owner))


def _gives_signs(storage: Storage, run: str, owner: Owner) -> bool:
    """Whether a run of another machine may be alive: not where it would give signs of life, and gives none."""
    until = time.monotonic() + GONE_SECONDS[storage.local]
    while owner.sign and owner.host != socket.gethostname():
        now = _owner(storage, run)
        if now is None or time.monotonic() >= until:
            return False
        if now != owner:
            return True
        time.sleep(min(1.0, SIGN_SECONDS[storage.local]))
    return True


def remove_empty(storage: Storage) -> None:
    """Remove the folder of runs, if no run is in it."""
    if storage.local:
        with suppress(OSError):  # another run is live
            os.rmdir(storage.path("_run"))


def require_alone(storage: Storage) -> None:
    """Before something is removed: make sure that no other job works on the dataset.

    What is left of a job on a cluster whose machine died is removed; that takes a while, in which it could give a sign.

    Raises:
        MillError: one does, as far as can be seen from here.
    """
    for other in storage.folders("_run"):
        owner = _owner(storage, other)
        if owner is None or not _may_live(owner):
            continue
        if _gives_signs(storage, other, owner):
            raise MillError(
                f"another job works on {storage.address} ({owner}): wait for it or stop it first; "
                f"if it is long dead, remove {storage.path(f'_run/{other}')}"
            )
        storage.remove(f"_run/{other}")


def also_made(storage: Storage, tables: Iterable[str]) -> list[str]:
    """Of some tables, those that other jobs are making, with whose they are: a line for each such job."""
    owners = (_owner(storage, other) for other in storage.folders("_run"))
    shared = ((owner, sorted(set(owner.makes).intersection(tables))) for owner in owners if owner and _may_live(owner))
    return [f"{', '.join(names)} (by {owner})" for owner, names in shared if names]
