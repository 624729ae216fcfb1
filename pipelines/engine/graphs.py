"""The Beam graph of a job, and what each engine that runs it must be able to do.

Create(ranges) | expand | Reshuffle (where there is more than one thread) | ParDo(RunShard)
"""

from __future__ import annotations

import functools
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from .shards import Job, run_shard

if TYPE_CHECKING:
    from .messages import Engine

SHARDS_PER_RANGE = 256
# else Beam lists the packages of this machine for each job, for whoever reads its log, which takes a second
NO_LIST_OF_PACKAGES = "--experiments=disable_logging_submission_environment"


def ranges(shards: Sequence[int], longest: int) -> list[tuple[int, int]]:
    """Half-open ranges that cover sorted shard numbers: a job's description stays small."""
    found: list[tuple[int, int]] = []
    for shard in shards:
        if found and found[-1][1] == shard and shard - found[-1][0] < longest:
            found[-1] = (found[-1][0], shard + 1)
        else:
            found.append((shard, shard + 1))
    return found


def expand(bounds: tuple[int, int]) -> range:
    """The shard numbers of a range."""
    return range(*bounds)


class Graphs(ABC):
    """An engine that runs the graph for one job after another, on the same workers; ended by leaving its context.

    What was done is on disk; what :meth:`run` raises is the engine's own trouble.
    """

    def __init__(self, engine: Engine) -> None:
        self.engine = engine

    @abstractmethod
    def run(self, job: Job, shards: Sequence[int]) -> None:
        """Run the graph to its end for some shards of a job."""

    def ending(self) -> None:
        """Start no more processes: those that there are will be killed. Called from another thread, also in a run."""
        return

    def __enter__(self) -> Graphs:
        return self

    def __exit__(self, *_: object) -> None:
        return


def start_graph(
    job: Job,
    shards: Sequence[int],
    runner: str,
    options: Sequence[str],
    longest: int = SHARDS_PER_RANGE,
    spread: bool = True,
    do: Callable[[Job, int], Any] = run_shard,
) -> Any:
    """Give a job's graph to a Beam runner; Beam's result, which may be waited for.

    Args:
        job: what is done to each shard.
        shards: their numbers, sorted.
        runner: Beam's name of it.
        options: Beam's options, with or without ``--``.
        longest: shards in one element of the graph's input.
        spread: whether a Reshuffle lets other workers take shards of the same element.
        do: what a worker does with a shard.
    """
    import apache_beam as beam
    from apache_beam.options.pipeline_options import PipelineOptions

    flags = [
        f"--runner={runner}",
        NO_LIST_OF_PACKAGES,
        *(option if option.startswith("--") else f"--{option}" for option in options),
    ]
    pipeline = beam.Pipeline(options=PipelineOptions(flags))
    numbers = pipeline | "Ranges" >> beam.Create(ranges(shards, longest)) | "Shards" >> beam.FlatMap(expand)
    if spread:
        numbers |= "Spread" >> beam.Reshuffle()
    _ = numbers | "RunShard" >> beam.Map(functools.partial(do, job))
    return pipeline.run()
