"""The options of the commands about clusters."""

from __future__ import annotations

from dataclasses import dataclass

from controlmill.schemas.terminal.options import option
from controlmill.schemas.terminal.ranges import Range


@dataclass(frozen=True)
class WorkerOptions:
    """The workers of this machine."""

    workers: int | None = option(None, "Workers on this machine.", shown="one per core")
    in_flight: int = option(
        1, "Shards that a worker does at a time: 2 keeps a GPU busy, or a download.", within=Range(1, 64)
    )
    detach: bool = option(False, "Return when the processes are ready, and leave them running.")
