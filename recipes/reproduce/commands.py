"""The commands that a user has, run in processes of their own."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from controlmill.schemas.errors import MillError
from controlmill.schemas.machine import ONE_THREAD


def controlmill(arguments: Sequence[Any], log: Path) -> None:
    """Run ``controlmill …``; raises as :func:`python`."""
    python("controlmill", arguments, log)


def python(module: str, arguments: Sequence[Any], log: Path) -> None:
    """Run ``python -m MODULE …`` with one thread for the networks.

    Raises:
        MillError: it failed; its output is in ``log``.
    """
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("a", encoding="utf-8") as file:
        words = [sys.executable, "-m", module, *map(str, arguments)]
        done = subprocess.run(words, stdout=file, stderr=file, env={**os.environ, **ONE_THREAD}, check=False)
    if done.returncode:
        raise MillError(f"{module} {arguments[0]} failed; see {log}")
