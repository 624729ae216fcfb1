"""Dask: processes of this machine that a job starts and ends, or a cluster that is there already, by its address."""

from __future__ import annotations

import importlib
import logging
import tempfile
import threading
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

from controlmill.schemas.errors import MillError
from controlmill.schemas.machine import ONE_THREAD

from .cluster_address import ClusterAddress
from .dask_client import check_scheduler, check_workers, connected
from .graphs import Graphs, start_graph
from .imports import import_beam
from .messages import Engine, Waits
from .shards import Job

DASK_RUNNER = "apache_beam.runners.dask.dask_runner.DaskRunner"
SHARDS_AT_ONCE = 1024
DASK_SETTINGS = {
    "distributed.scheduler.allowed-failures": 100,  # a shard that kills its worker is sorted out by its attempts
    "distributed.comm.timeouts.connect": "60s",
    "distributed.worker.profile.enabled": False,  # a stack sample every 10 ms
    "distributed.worker.preload": [__name__],
    # dask's own setting hands memory back to the system at once: codecs then take twice the time
    "distributed.nanny.pre-spawn-environ": ONE_THREAD,
}

LOST = (
    "the Dask scheduler at {} was lost while the job ran: look at its machine; `controlmill cluster up` starts a "
    "scheduler again when it dies"
)


class DaskWorkers(Graphs):
    """Processes of this machine, as a Dask cluster; they start at once and get ready while the console works."""

    def __init__(self, engine: Engine) -> None:
        super().__init__(engine)
        self._opened = ExitStack()
        self._start(threads=1)
        threading.Thread(target=import_beam, daemon=True).start()  # as the workers do meanwhile

    def _start(self, threads: int) -> None:
        self._opened.close()
        self._cluster = self._opened.enter_context(_local_cluster(self.engine.workers, threads))
        self._threads = threads

    def run(self, job: Job, shards: Sequence[int]) -> None:
        """Run the graph on the workers. Another number of shards in flight needs other workers: they keep their
        threads for life.
        """
        if job.in_flight != self._threads:
            self._start(job.in_flight)
        _run_on(self._cluster.scheduler_address, job, shards, self.engine.options)

    def ending(self) -> None:
        """Have Dask start no workers in the place of those that are killed."""
        from distributed.core import Status

        for nanny in list(self._cluster.workers.values()):
            nanny.status = Status.closing

    def __exit__(self, *_: object) -> None:
        self._opened.close()


class DaskCluster(Graphs):
    """A Dask cluster that is there already (`controlmill cluster up`, or one of the user's own), by its address."""

    def __init__(self, engine: Engine) -> None:
        super().__init__(engine)
        import_beam()
        importlib.import_module("distributed")  # while the console works

    def run(self, job: Job, shards: Sequence[int]) -> None:
        """Run the graph on all workers that the cluster has, and on those that join it meanwhile.

        Raises:
            MillError: the cluster cannot be reached, is not fit for the job, or was lost.
        """
        address, waits = self.engine.cluster, self.engine.waits
        assert address
        with connected(address, waits) as client:
            check_scheduler(client, address)
            check_workers(client, address, job.storage, job.run, waits)
            scheduler = client.scheduler_info()["id"]
            try:
                whole = _run_on(address.dask_address, job, shards, self.engine.options)
            except Exception as error:
                if _scheduler_of(address, waits) != scheduler:
                    raise MillError(LOST.format(address)) from error
                raise
            if not whole:
                raise MillError(LOST.format(address))


def _scheduler_of(address: ClusterAddress, waits: Waits) -> str:
    """What tells the scheduler that answers from others before or after it; '' where none answers."""
    try:
        with connected(address, waits) as client:
            return str(client.scheduler_info()["id"])
    except MillError:
        return ""


def _run_on(address: str, job: Job, shards: Sequence[int], beam_options: Sequence[str]) -> bool:
    """Run the graph on the workers of a scheduler, one partition a shard: each is a task of its own, done again
    elsewhere if its worker dies. Whether all was done: what is lost with its scheduler is done to Beam's runner.

    A graph of many shards takes long to be made (3 ms a shard) and much room, so that it is made of
    :data:`SHARDS_AT_ONCE` and the next one while the last is worked on.
    """
    running: deque[Any] = deque()
    try:
        for first in range(0, len(shards), SHARDS_AT_ONCE):
            part = shards[first : first + SHARDS_AT_ONCE]
            options = (f"--dask_client_address={address}", f"--dask_npartitions={len(part)}", *beam_options)
            running.append(start_graph(job, part, DASK_RUNNER, options, longest=1))
            if len(running) > 1 and not finish_graph(running.popleft()):
                return False
        return all(finish_graph(running.popleft()) for _ in range(len(running)))
    finally:
        for result in running:
            result.client.close()


def finish_graph(result: Any) -> bool:
    """Wait for a graph; whether all of it was done."""
    try:
        with result.client.as_current():  # in the loop of the newest client, its end might never be noticed
            result.wait_until_finish()
        return all(future.status == "finished" for future in result.futures)
    finally:
        result.client.close()  # the runner never does, and an open client logs errors for half a minute


@contextmanager
def _local_cluster(workers: int, threads: int) -> Iterator[Any]:
    """A scheduler and ``workers`` processes, without a limit of memory or a dashboard.

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
        yield cluster


def dask_setup(_worker: Any) -> None:
    """Get a worker ready: Dask calls this in each that preloads this module."""
    import_beam()
