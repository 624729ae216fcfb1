"""The process that runs Beam graphs, apart from the one that a person looks at.

It takes an engine and then jobs from standard input, answers each with one byte, and ends when its input closes: it
never outlives its console, and leaves nothing in shared memory or in its temporary folder. A row that kills it kills no
terminal, and the console starts it again.
"""

from __future__ import annotations

import gc
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
from typing import TYPE_CHECKING, Any

from controlmill.schemas.imports import uncollected

from .messages import DONE, ENGINE_FAILED, NOT_LOADED, Loading
from .rows import JobFault

if TYPE_CHECKING:
    from .graphs import Graphs
    from .messages import Engine


def _take_messages(messages: queue.Queue[Any]) -> None:
    """Hand on what the console sends; end the process with the console, whatever it is at."""
    folder = ""
    try:
        paths, engine, folder = pickle.load(sys.stdin.buffer)  # noqa: S301 from our own console
        messages.put((paths, engine))
        while True:
            messages.put(pickle.load(sys.stdin.buffer))  # noqa: S301
    finally:  # the end of the input, or an input that was cut off
        try:
            _put_away(folder)
        finally:
            os._exit(0)


class EndWithThread(logging.Handler):
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


def _open(engine: Engine) -> Graphs | Exception:
    """An engine, or why there is none: each job is answered with that."""
    try:
        with uncollected():
            from .engines import open_engine

            return open_engine(engine)
    except Exception as error:
        return error


def _do(graphs: Graphs | Exception, message: bytes) -> int:
    """Do what one message asks for, a job or :class:`Loading`; its status."""
    try:
        if isinstance(graphs, Exception):
            raise graphs
        with uncollected():
            job, shards = pickle.loads(message)  # noqa: S301 from our own console
        if not isinstance(job, Loading):
            graphs.run(job, shards)
            return DONE
        try:
            job.stage.load(job.tables, job.here)
        except JobFault as error:
            job.answer.write_text(str(error), "utf-8")
            return NOT_LOADED
        return DONE
    except Exception:
        traceback.print_exc()
        return ENGINE_FAILED


def main() -> None:
    """Run one job after another, until the console ends this process."""
    answers = os.dup(1)
    os.dup2(2, 1)  # what engines print must not pass for an answer
    messages: queue.Queue[Any] = queue.Queue()
    threading.Thread(target=_take_messages, args=(messages,), daemon=True).start()
    logging.getLogger("concurrent.futures").addHandler(EndWithThread())
    paths, engine = messages.get()
    sys.path += [path for path in paths if path not in sys.path]  # behind our own: a folder must not shadow a module
    graphs = _open(engine)
    gc.freeze()  # what is imported stays, and is not looked through later
    while True:
        status = _do(graphs, messages.get())
        sys.stderr.flush()
        os.write(answers, bytes([status]))
