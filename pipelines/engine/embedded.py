"""Beam's embedded runner, in the job's process, or any runner that the user names with its own options."""

from __future__ import annotations

from collections.abc import Sequence

from .graphs import Graphs, start_graph
from .imports import import_beam
from .messages import EMBEDDED, Engine
from .shards import Job


class Runner(Graphs):
    """A runner that needs no workers of ours: the embedded one, or whichever the engine names, by its own options."""

    def __init__(self, engine: Engine) -> None:
        super().__init__(engine)
        if engine.runner == EMBEDDED:
            import_beam()

    def run(self, job: Job, shards: Sequence[int]) -> None:
        """Run the graph in this process, or wherever the runner does."""
        options = (*_threading(job.in_flight), *self.engine.options)
        alone = self.engine.runner == EMBEDDED and not options  # one thread does all shards: nothing to deal out
        start_graph(job, shards, self.engine.runner, options, spread=not alone).wait_until_finish()


def _threading(in_flight: int) -> tuple[str, ...]:
    """What the embedded runner must be told to deal shards out to threads."""
    return ("--direct_running_mode=multi_threading", f"--direct_num_workers={in_flight}") if in_flight > 1 else ()
