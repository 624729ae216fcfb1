"""What a process can learn of its machine: which of its processes live, and how many may."""

from __future__ import annotations

import math
import multiprocessing
import os
import socket
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

from .errors import MillError

BOOT = Path("/proc/sys/kernel/random/boot_id")
CONTROL_GROUP, CONTROL_GROUPS = Path("/proc/self/cgroup"), Path("/sys/fs/cgroup")
NAME_FIELD, START_FIELD = 2, 22  # of /proc/PID/stat, see proc(5)
SHARED = "/dev/shm"  # noqa: S108 named in a message alone
NO_MORE = "can't start new thread"  # what CPython says, also where it is processes that are used up
MORE_PROCESSES = "free some memory, or raise the limit (ulimit -u, a container's limit of processes)"
MORE_MEMORY = "fewer --threads or --workers take less; or raise the limit (ulimit -v, a container's memory)"
MORE_THREADS = "choose fewer --threads or --workers, or raise the limit (ulimit -u, a container's limit of processes)"
# variables for processes that run side by side: these libraries start a thread for each processor
ONE_THREAD = {f"{library}_NUM_THREADS": "1" for library in ("OMP", "MKL", "OPENBLAS")}


# The current folder is not on the path (-P); where ControlMill is not installed, its folder is, behind all others.
START = """
import sys
try:
    import controlmill
except ImportError:
    sys.path.append(sys.argv[1])
from {module} import main
main()
"""


def process_command(module: str) -> list[str]:
    """The words that start a process of ours: one that calls ``main()`` of a module of ControlMill."""
    package = sys.modules[__name__.partition(".")[0]].__file__
    assert package
    return [sys.executable, "-P", "-c", START.format(module=module), str(Path(package).parents[1])]


def process_stamp() -> dict[str, Any]:
    """What tells this process from every other one, also from one that gets its number later."""
    return {"host": socket.gethostname(), "pid": os.getpid(), "started": started_at(os.getpid()), "boot": _boot()}


def may_live(stamp: Any) -> bool:
    """Whether the process of a stamp may be alive: of another machine it may, of this one that is looked at.

    A process that asks is not looked for: a stamp with its own number is of a process before it, or of something that
    it has finished.
    """
    if not isinstance(stamp, dict) or not isinstance(stamp.get("host"), str):
        return False
    if stamp["host"] != socket.gethostname():
        return True
    pid = stamp.get("pid")
    if not isinstance(pid, int) or pid == os.getpid() or not alive(pid):
        return False
    now = {"boot": _boot(), "started": started_at(pid)}
    return all(stamp.get(name) in (None, value) or value is None for name, value in now.items())


def is_dead(host: str, pid: int) -> bool:
    """Whether it is certain that a process is gone: it was of this machine, and none has its number now."""
    return host == socket.gethostname() and not alive(pid)


def alive(pid: int) -> bool:
    """Whether a process of this machine is there."""
    if pid <= 0:
        return False
    try:
        os.kill(pid, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except PermissionError:
        return True
    return True


def processors() -> int:
    """Processors that this process may use: its affinity, and what its control group and those above it allow, rounded
    up, as cgroups(7) has them in version 2, and in version 1 inside a container.
    """
    count = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, min(count, math.ceil(min(_shares(), default=count))))


def _shares() -> Iterator[float]:
    """Processors that control groups of this process have a limit of."""
    path = ""
    with suppress(OSError):
        lines = CONTROL_GROUP.read_text().splitlines()
        path = next((line.removeprefix("0::/") for line in lines if line.startswith("0::/")), "")
    folder = CONTROL_GROUPS / path
    for group in (folder, *folder.parents[: len(Path(path).parts)]):
        with suppress(OSError, ValueError):  # no such file, or "max": no limit
            quota, period = map(int, (group / "cpu.max").read_text().split())
            yield quota / period
    first = CONTROL_GROUPS / "cpu"
    with suppress(OSError, ValueError):
        quota, period = (int((first / f"cpu.cfs_{name}_us").read_text()) for name in ("quota", "period"))
        if quota > 0:  # -1: no limit
            yield quota / period


def _boot() -> str | None:
    with suppress(OSError):
        return BOOT.read_text().strip()
    return None


def started_at(pid: int) -> int | None:
    """When a process started, in clock ticks since the machine did; None where the system does not tell."""
    with suppress(ValueError, IndexError):
        return int(_stat(Path(f"/proc/{pid}/stat"))[START_FIELD - NAME_FIELD - 1])
    return None


def group_runs(group: int) -> bool:
    """Whether a process of a group runs. One that has ended stays listed until its parent takes notice of it, which the
    first process of a container may never do.
    """
    try:
        os.killpg(group, 0)
    except (ProcessLookupError, PermissionError):
        return False
    found = [_stat(stat) for stat in Path("/proc").glob("[0-9]*/stat")]  # none where a system has no such files
    states = {state for state, _, its_group, *_ in filter(None, found) if its_group == str(group)}
    return not found or not states <= set("ZX")


def _stat(path: Path) -> list[str]:
    """What /proc/PID/stat says behind the name: state, parent, group …; nothing where the process has gone."""
    with suppress(OSError):
        return path.read_text(errors="replace").rpartition(")")[2].split()
    return []


def check_semaphores(option: str) -> None:
    """Make and remove a semaphore, which processes of a pool need.

    Raises:
        MillError: this machine gives none.
    """
    try:
        multiprocessing.get_context("fork").Lock()  # of a fork it has no name any more when this returns
    except OSError as error:
        raise MillError(
            f"{option}: processes need semaphores, and this machine makes none ({error.strerror}: {SHARED}). "
            f"Make room in {SHARED} (in Docker: --shm-size=1g), or leave {option} out"
        ) from error
