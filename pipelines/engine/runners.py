"""Beam engines: the linear graph, and what each engine must be told.

Create(ranges) | expand | Reshuffle (where there is more than one thread) | ParDo(RunShard)
"""

from __future__ import annotations

import functools
import logging
import tempfile
import threading
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

from .imports import import_beam
from .messages import EMBEDDED, Engine
from .shards import Job, run_shard

DASK_RUNNER = "apache_beam.runners.dask.dask_runner.DaskRunner"
SHARDS_PER_RANGE = 256
DASK_SETTINGS = {
    "distributed.scheduler.allowed-failures": 100,  # a shard that kills its worker is sorted out by its attempts
    "distributed.comm.timeouts.connect": "60s",
    "distributed.worker.profile.enabled": False,  # a stack sample every 10 ms
    "distributed.worker.preload": [__name__],
    # dask's own setting hands memory back to the system at once: codecs then take twice the time
    "distributed.nanny.pre-spawn-environ": {"OMP_NUM_THREADS": 1, "MKL_NUM_THREADS": 1, "OPENBLAS_NUM_THREADS": 1},
}


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

    def __enter__(self) -> Graphs:
        return self

    def __exit__(self, *_: object) -> None:
        return


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
        _run(job, shards, self.engine.runner, options, SHARDS_PER_RANGE, spread=not alone)


class DaskWorkers(Graphs):
    """Processes of this machine, as a Dask cluster; they start at once and get ready while the console works."""

    def __init__(self, engine: Engine) -> None:
        super().__init__(engine)
        self._opened = ExitStack()
        self._start(threads=1)
        threading.Thread(target=import_beam, daemon=True).start()  # as the workers do meanwhile

    def _start(self, threads: int) -> None:
        self._opened.close()
        self._address = self._opened.enter_context(_dask_cluster(self.engine.workers, threads))
        self._threads = threads

    def run(self, job: Job, shards: Sequence[int]) -> None:
        """Run the graph on the workers, one partition a shard: each is a task of its own, done again elsewhere if its
        worker dies. Another number of shards in flight needs other workers: they keep their threads for life.
        """
        if job.in_flight != self._threads:
            self._start(job.in_flight)
        options = (f"--dask_client_address={self._address}", f"--dask_npartitions={len(shards)}", *self.engine.options)
        result = _run(job, shards, DASK_RUNNER, options, longest=1)
        result.client.close()  # the runner never does, and an open client logs errors for half a minute

    def __exit__(self, *_: object) -> None:
        self._opened.close()


def open_engine(engine: Engine) -> Graphs:
    """What runs an engine's graphs."""
    return DaskWorkers(engine) if engine.workers else Runner(engine)


def _threading(in_flight: int) -> tuple[str, ...]:
    """What the embedded runner must be told to deal shards out to threads."""
    return ("--direct_running_mode=multi_threading", f"--direct_num_workers={in_flight}") if in_flight > 1 else ()


def _run(
    job: Job, shards: Sequence[int], runner: str, options: Sequence[str], longest: int, spread: bool = True
) -> Any:
    import apache_beam as beam
    from apache_beam.options.pipeline_options import PipelineOptions

    flags = [f"--runner={runner}", *(option if option.startswith("--") else f"--{option}" for option in options)]
    pipeline = beam.Pipeline(options=PipelineOptions(flags))
    numbers = pipeline | "Ranges" >> beam.Create(ranges(shards, longest)) | "Shards" >> beam.FlatMap(expand)
    if spread:
        numbers |= "Spread" >> beam.Reshuffle()
    _ = numbers | "RunShard" >> beam.Map(functools.partial(run_shard, job))
    result = pipeline.run()
    result.wait_until_finish()
    return result


@contextmanager
def _dask_cluster(workers: int, threads: int) -> Iterator[str]:
    """A scheduler and ``workers`` processes, without a limit of memory or a dashboard; its address.

    ``threads`` are the tasks, which are shards, that a process does at a time.
    """
    import dask
    import distributed

    logging.getLogger("distributed").setLevel(logging.ERROR)
    with (
        tempfile.TemporaryDirectory(prefix="controlmill-dask-") as scratch,
        dask.config.set(DASK_SETTINGS),
        distributed.LocalCluster(
            n_workers=workers,
            threads_per_worker=threads,
            memory_limit=0,
            dashboard_address=None,
            local_directory=scratch,
            host="127.0.0.1",
        ) as cluster,
    ):
        yield cluster.scheduler_address


def dask_setup(_worker: Any) -> None:
    """Get a worker ready: Dask calls this in each that preloads this module."""
    import_beam()
