"""A run is trained by one command at a time: a lock on a file in its folder, which ends with the process."""

from __future__ import annotations

import contextlib
import fcntl
import os
import socket
from collections.abc import Iterator
from pathlib import Path

from controlmill.schemas.errors import MillError
from controlmill.schemas.files.whole import TEMPORARY

RUN = "run.json"
LOCK = "_lock"  # says who has it


@contextlib.contextmanager
def claimed(run: Path) -> Iterator[None]:
    """Hold a run's folder, which is made for it; one in which nothing was made is removed again.

    What a killed process was writing is removed. A folder of anything else is left as it is, for others to refuse. File
    systems without locks hold nothing.

    Raises:
        MillError: another process has it; there is a file in its place.
    """
    if file := next((place for place in (run, *run.parents) if place.exists() and not place.is_dir()), None):
        raise MillError(f"{file} is a file; choose a folder for the run")
    if _is_of_anything_else(run):
        yield
        return
    made = [folder for folder in (run, *run.parents) if not folder.exists()]
    run.mkdir(parents=True, exist_ok=True)
    with (run / LOCK).open("a+", encoding="utf-8") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            lock.seek(0)
            raise MillError(
                f"{run} is being trained by {lock.read().strip() or 'another process'}: wait for it, or stop it first"
            ) from None
        except OSError:
            pass
        lock.truncate(0)
        lock.write(f"process {os.getpid()} on {socket.gethostname()}\n")
        lock.flush()
        for path in (*run.glob("*~"), *run.glob("*/*~")):
            if TEMPORARY.search(path.name):
                path.unlink(missing_ok=True)
        try:
            yield
        finally:
            if os.listdir(run) == [LOCK]:
                (run / LOCK).unlink()
                with contextlib.suppress(OSError):  # somebody put something into a parent
                    for folder in made:
                        folder.rmdir()


def _is_of_anything_else(folder: Path) -> bool:
    names = os.listdir(folder) if folder.is_dir() else []
    return RUN not in names and any(name != LOCK and not TEMPORARY.search(name) for name in names)
