"""What the console and the job's process tell each other. Light: neither waits for the other's imports."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .stage import Stage

EMBEDDED = "FnApiRunner"
DONE = 0
ENGINE_FAILED = 3  # the engine raised, and starting again would not help
NOT_LOADED = 4  # a network cannot be loaded


@dataclass(frozen=True)
class Engine:
    """Which Beam runner, with how many processes of this machine (0: one, without a cluster), and Beam's own options.

    The embedded runner is asked for by its own name: "DirectRunner" may try to download another one, and hang.
    """

    runner: str = EMBEDDED
    workers: int = 0
    options: tuple[str, ...] = ()


@dataclass(frozen=True)
class Loading:
    """What the job's process is asked before a job: to load the networks that make some tables of a stage.

    ``here`` says whether it will work with them itself; why one cannot be loaded goes to ``answer``.
    """

    stage: Stage
    tables: tuple[str, ...]
    here: bool
    answer: Path
