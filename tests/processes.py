"""Processes that tests start: ports for them, waiting for them, and ending them with all that they started."""

from __future__ import annotations

import contextlib
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import psutil

SECONDS = 60


def free_port() -> int:
    """A port that nothing listens on just now."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


def listens(port: int) -> bool:
    """Whether something listens on a port of this machine."""
    with socket.socket() as there:
        return there.connect_ex(("localhost", port)) == 0


def wait_until(true: Callable[[], object], seconds: float = SECONDS) -> None:
    """Wait for something that happens in another process."""
    deadline = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < deadline, "it never happened"
        time.sleep(0.02)


def start_command(words: Sequence[str], log: Path) -> subprocess.Popen[bytes]:
    """A command of ControlMill; what it prints is in ``log``."""
    with log.open("wb") as file:
        return subprocess.Popen([sys.executable, "-m", "controlmill", *words], stdout=file, stderr=file)


def kill_tree(process: subprocess.Popen[Any]) -> None:
    """kill -9 of a process and all that it started, at once, as where a machine goes down."""
    with contextlib.suppress(psutil.NoSuchProcess):
        family = [psutil.Process(process.pid), *psutil.Process(process.pid).children(recursive=True)]
        for member in family:
            with contextlib.suppress(psutil.NoSuchProcess):
                member.kill()
        psutil.wait_procs(family, timeout=30)
    process.wait()
