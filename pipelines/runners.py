"""Beam engines: the linear graph, and what each engine must be told.

Create(ranges) | expand | Reshuffle | ParDo(RunShard)
"""

from __future__ import annotations

import logging
import tempfile
from collections.abc import Iterator, Sequence
from typing import Any

import apache_beam as beam
from apache_beam.options.pipeline_options import PipelineOptions

from .jobs import Engine
from .shards import Job, run_shard

SHARDS_PER_RANGE = 256
DASK_SETTINGS = {
    "distributed.scheduler.allowed-failures": 100,  # a shard that kills its worker is sorted out by its attempts
    "distributed.comm.timeouts.connect": "60s",
}


class RunShard(beam.DoFn):  # type: ignore[misc]
    """Shard number → summary."""

    def __init__(self, job: Job):
        self.job = job

    def process(self, shard: int) -> Iterator[dict[str, Any]]:
        """Do the shard; every exception is caught and noted inside."""
        yield run_shard(self.job, shard)


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


def run_graph(job: Job, shards: Sequence[int], engine: Engine) -> None:
    """Run the graph to its end. What was done is on disk; what is raised is the engine's own trouble."""
    if engine.workers:
        _run_on_dask(job, shards, engine)
    else:
        _run(job, shards, engine.runner, engine.options, SHARDS_PER_RANGE)


def _run(job: Job, shards: Sequence[int], runner: str, options: Sequence[str], longest: int) -> Any:
    flags = [f"--runner={runner}", *(option if option.startswith("--") else f"--{option}" for option in options)]
    pipeline = beam.Pipeline(options=PipelineOptions(flags))
    _ = (
        pipeline
        | "Ranges" >> beam.Create(ranges(shards, longest))
        | "Shards" >> beam.FlatMap(expand)
        | "Spread" >> beam.Reshuffle()
        | "RunShard" >> beam.ParDo(RunShard(job))
    )
    result = pipeline.run()
    result.wait_until_finish()
    return result


def _run_on_dask(job: Job, shards: Sequence[int], engine: Engine) -> None:
    """Beam's DaskRunner on a LocalCluster: one partition a shard, one thread a process, deaths allowed for."""
    import dask
    import distributed

    logging.getLogger("distributed").setLevel(logging.ERROR)
    with (
        tempfile.TemporaryDirectory(prefix="controlmill-dask-") as scratch,
        dask.config.set(DASK_SETTINGS),
        distributed.LocalCluster(
            n_workers=min(engine.workers, len(shards)),
            threads_per_worker=1,
            memory_limit=0,
            dashboard_address=None,
            local_directory=scratch,
            host="127.0.0.1",
        ) as cluster,
    ):
        options = (
            f"--dask_client_address={cluster.scheduler_address}",
            f"--dask_npartitions={len(shards)}",
            *engine.options,
        )
        result = _run(job, shards, "apache_beam.runners.dask.dask_runner.DaskRunner", options, longest=1)
        result.client.close()  # the runner never does, and an open client logs its despair for half a minute
