"""What is asked of a cluster of another engine before a job, and what Beam must be told to use it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Protocol


@dataclass(frozen=True)
class ClusterFacts:
    """What a cluster says of itself.

    Args:
        version: of its engine, e.g. ``1.19.3``.
        workers: machines, or processes, that take work.
        slots_per_worker: shards that each has in flight; of the largest one where they differ.
        free_slots: how many shards it would begin at once.
        problems: what a user should know of its settings, in sentences.
        queues: whether a job may be sent that finds no free slot: it waits, or more workers are started for it.
        starting: workers of these that have not said yet how many slots they have.
    """

    version: str
    workers: int
    slots_per_worker: int
    free_slots: int
    problems: tuple[str, ...] = ()
    queues: bool = False
    starting: int = 0


class Translator(Protocol):
    """An engine that is reached by an address, through a job server of Beam's."""

    @property
    def engine(self) -> str:
        """As its makers write it, e.g. Flink."""
        ...

    def facts(self) -> ClusterFacts:
        """What the cluster says of itself, now.

        Raises:
            MillError: it does not answer, or is something else.
        """
        ...

    def coordinates(self, version: str) -> str:
        """The Maven coordinates of the job server that fits the engine's version."""
        ...

    def jar_names(self, version: str) -> tuple[str, ...]:
        """Patterns (:mod:`fnmatch`) of the file names that such a job server has."""
        ...

    def job_server(self, jar: Path, facts: ClusterFacts) -> list[str]:
        """The words that its command line needs besides its ports and folders, with Java's properties (``-D…``).

        Raises:
            MillError: the jar is for another version of the engine.
        """
        ...

    def options(self, facts: ClusterFacts) -> tuple[str, ...]:
        """Options of the Beam pipeline."""
        ...
