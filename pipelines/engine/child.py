"""The process that runs Beam graphs, apart from the one that a person looks at.

It takes an engine and then jobs from standard input, answers each with one byte, and ends when its input closes: it
never outlives its console, and leaves nothing in shared memory or in its temporary folder. A row that kills it kills no
terminal, and the console starts it again.
"""

from __future__ import annotations

import logging
import multiprocessing
import os
import pickle
import queue
import shutil
import sys
import threading
import traceback
from multiprocessing import resource_tracker
from typing import Any

from .console import ENGINE_FAILED, NOT_LOADED, Loading
from .rows import JobFault
from .runners import open_engine


def _take_jobs(jobs: queue.Queue[Any]) -> None:
    """Hand on what the console sends; end the process with the console, whatever it is at."""
    folder = ""
    try:
        paths, engine, folder = pickle.load(sys.stdin.buffer)  # noqa: S301 from our own console
        jobs.put((paths, engine))
        while True:
            jobs.put(pickle.load(sys.stdin.buffer))  # noqa: S301
    finally:  # the end of the input, or an input that was cut off
        try:
            _put_away(folder)
        finally:
            os._exit(0)


class _EndWithThread(logging.Handler):
    """Ends the process where a pool's thread has died, as it does without memory: the engine would wait for it."""

    def emit(self, record: logging.LogRecord) -> None:
        """A pool logs nothing else as critical."""
        if record.levelno >= logging.CRITICAL:
            if record.exc_info:
                traceback.print_exception(*record.exc_info)
            sys.stderr.flush()
            os._exit(1)


def _put_away(folder: str) -> None:
    """End what this process started, let go of what it has in shared memory, and remove its temporary folder."""
    children = multiprocessing.active_children()
    for child in children:
        child.kill()
    for child in children:
        child.join()
    resource_tracker._resource_tracker._stop()  # type: ignore[attr-defined]  # it removes what nobody holds any more
    if folder:
        shutil.rmtree(folder, ignore_errors=True)


def main() -> None:
    """Run one job after another."""
    answers = os.dup(1)
    os.dup2(2, 1)  # what engines print must not pass for an answer
    jobs: queue.Queue[Any] = queue.Queue()
    threading.Thread(target=_take_jobs, args=(jobs,), daemon=True).start()
    logging.getLogger("concurrent.futures").addHandler(_EndWithThread())
    paths, engine = jobs.get()
    sys.path += [path for path in paths if path not in sys.path]  # behind our own: a folder must not shadow a module
    with open_engine(engine) as run_graph:
        while True:
            job, shards = jobs.get()
            try:
                if isinstance(job, Loading):
                    job.stage.load(job.tables, job.here)
                else:
                    run_graph(job, shards)
                status = 0
            except JobFault as error:
                job.answer.write_text(str(error), "utf-8")
                status = NOT_LOADED
            except Exception:
                traceback.print_exc()
                status = ENGINE_FAILED
            sys.stderr.flush()
            os.write(answers, bytes([status]))


if __name__ == "__main__":
    main()
