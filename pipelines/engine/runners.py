"""Beam engines: the linear graph, and what each engine must be told.

Create(ranges) | expand | Reshuffle | ParDo(RunShard)
"""

from __future__ import annotations

import functools
import importlib
import logging
import tempfile
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

from .console import Engine
from .shards import Job, run_shard

RunGraph = Callable[[Job, Sequence[int]], Any]
SHARDS_PER_RANGE = 256
DASK_SETTINGS = {
    "distributed.scheduler.allowed-failures": 100,  # a shard that kills its worker is sorted out by its attempts
    "distributed.comm.timeouts.connect": "60s",
    "distributed.worker.profile.enabled": False,  # a stack sample every 10 ms
    "distributed.worker.preload": ["apache_beam"],
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


@contextmanager
def open_engine(engine: Engine) -> Iterator[RunGraph]:
    """A function that runs the graph to its end, for one job after another on the same workers.

    What was done is on disk; what the function raises is the engine's own trouble.
    """
    if not engine.workers:
        yield lambda job, shards: _run(
            job, shards, engine.runner, (*_threading(job.in_flight), *engine.options), SHARDS_PER_RANGE
        )
        return
    with ExitStack() as opened:

        @functools.lru_cache(maxsize=1)
        def cluster(threads: int) -> str:
            opened.close()  # a worker keeps its threads for life
            return opened.enter_context(_dask_cluster(engine.workers, threads))

        cluster(1)  # gets ready while the console does other things
        yield lambda job, shards: _run_on_dask(job, shards, cluster(job.in_flight), engine.options)


def _threading(in_flight: int) -> tuple[str, ...]:
    """What the embedded runner must be told to deal shards out to threads."""
    return ("--direct_running_mode=multi_threading", f"--direct_num_workers={in_flight}") if in_flight > 1 else ()


def _run(job: Job, shards: Sequence[int], runner: str, options: Sequence[str], longest: int) -> Any:
    import apache_beam as beam
    from apache_beam.options.pipeline_options import PipelineOptions

    flags = [f"--runner={runner}", *(option if option.startswith("--") else f"--{option}" for option in options)]
    pipeline = beam.Pipeline(options=PipelineOptions(flags))
    _ = (
        pipeline
        | "Ranges" >> beam.Create(ranges(shards, longest))
        | "Shards" >> beam.FlatMap(expand)
        | "Spread" >> beam.Reshuffle()
        | "RunShard" >> beam.Map(functools.partial(run_shard, job))
    )
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
    # the workers import Beam while they start; so does this process, beside them
    threading.Thread(target=importlib.import_module, args=("apache_beam",), daemon=True).start()
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


def _run_on_dask(job: Job, shards: Sequence[int], address: str, options: Sequence[str]) -> None:
    """One partition a shard, so that each is a task of its own, done again elsewhere if its worker dies."""
    flags = (f"--dask_client_address={address}", f"--dask_npartitions={len(shards)}", *options)
    result = _run(job, shards, "apache_beam.runners.dask.dask_runner.DaskRunner", flags, longest=1)
    result.client.close()  # the runner never does, and an open client logs its despair for half a minute
