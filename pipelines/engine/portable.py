"""Flink and Spark by their addresses: a job server for the command, and workers that the cluster starts itself."""

from __future__ import annotations

import json
import os
import shutil
import socket
import sys
import tempfile
import threading
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

from controlmill.schemas.errors import MillError

from . import worker_program
from .graphs import Graphs, start_graph
from .imports import import_beam
from .job_server import JobServer
from .messages import Engine
from .run_folder import unseen
from .shards import Job, run_shard
from .translators.preparation import Prepared, prepare, translator_of
from .worker import this_worker

PROGRAM = "controlmill-worker"
LOG_BYTES = 1 << 20  # of what a job server said that are shown


class PortableCluster(Graphs):
    """A cluster that is reached through one of Beam's job servers, which runs as long as this does.

    The cluster starts a worker process for each of its slots, by the path that ``controlmill-worker`` has here.
    """

    def __init__(self, engine: Engine) -> None:
        super().__init__(engine)
        self._opened = ExitStack()
        self._log = Path(tempfile.gettempdir(), "job-server.log")
        os.environ.update(worker_program.NO_PROXY)
        self._slots = 1  # that the job before found free
        importing = threading.Thread(target=import_beam)  # while Java starts
        importing.start()
        try:
            self._server = self._start(prepare(engine))
        finally:
            importing.join()

    def _start(self, prepared: Prepared) -> JobServer:
        return self._opened.enter_context(JobServer(prepared.jar, prepared.words, self._log))

    def run(self, job: Job, shards: Sequence[int]) -> None:
        """Run the graph on the slots that are free now."""
        prepared = prepare(self.engine, self._slots)
        if not self._server.alive():
            self._server = self._start(prepared)
        self._slots = prepared.facts.free_slots
        places = max(1, min(self._slots, len(shards)))
        options = (
            f"job_endpoint={self._server.endpoint}",
            *translator_of(self.engine).options(replace(prepared.facts, free_slots=places)),
            *environment(self.engine.options),
            *self.engine.options,
        )
        try:
            start_graph(job, shards, "PortableRunner", options, do=run_shard_if_seen).wait_until_finish()
        except Exception:
            sys.stderr.write(self._log.read_text("utf-8", "replace")[-LOG_BYTES:])
            raise

    def __exit__(self, *_: object) -> None:
        self._opened.close()


def run_shard_if_seen(job: Job, shard: int) -> dict[str, Any]:
    """Do a shard. A machine that lacks the dataset is an error: it must not pass for a dataset that was removed.

    Raises:
        MillError: this machine does not see the run that asks for it.
    """
    this_worker().once(("seen", job.storage.address, job.run), lambda: _check_seen(job), stays=True)
    return run_shard(job, shard)


def _check_seen(job: Job) -> None:
    fault = unseen(job.storage, job.run)
    if fault:
        raise MillError(
            f"the worker on {socket.gethostname()} does not see the dataset {job.storage.address} ({fault}): it must "
            "be the same folder under the same path on all machines, a shared disk, or an object store"
        )


def environment(given: Sequence[str]) -> tuple[str, ...]:
    """Beam's options for workers that the engine starts; none where the user's own options say how."""
    if any(option.removeprefix("--").startswith("environment_") for option in given):
        return ()
    config = {"command": worker_command(), "env": worker_program.environment()}
    return "environment_type=PROCESS", f"environment_config={json.dumps(config)}"


def worker_command() -> str:
    """Where the worker's program is: beside this Python, or on the path; all machines need it in the same place."""
    beside = Path(sys.executable).with_name(PROGRAM)
    return str(beside) if beside.exists() else shutil.which(PROGRAM) or PROGRAM
