"""The process that runs Beam graphs, apart from the one that a person looks at.

It takes an engine and then jobs from standard input, answers each with one byte, and ends when its input closes: it
never outlives its console, ends what engines started on this machine, and leaves nothing in shared memory or in its
temporary folder. A row that kills it kills no terminal, and the console starts it again.
"""

from __future__ import annotations

import logging
import multiprocessing
import os
import pickle
import queue
import shutil
import signal
import sys
import threading
import time
import traceback
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing import resource_tracker
from pathlib import Path
from typing import TYPE_CHECKING, Any

from controlmill.schemas.errors import MillError
from controlmill.schemas.imports import uncollected

from .messages import ANSWER, DONE, ENGINE_FAILED, TOLD, Loading
from .reasons import texts_of, without_step

if TYPE_CHECKING:
    from .graphs import Graphs
    from .messages import Engine
    from .shards import Job

ENDED = "the command that this job is of has ended"
TRACKER_SECONDS = 2.0  # for the tracker of what is in shared memory to end
TERMINATE_SECONDS = 2.0  # for what engines started (a job server) to end in order


@dataclass
class AtWork:
    """What ends with this process though it is elsewhere: what an engine started, and the workers of a job."""

    graphs: Graphs | None = None
    job: Job | None = None


def _take_messages(messages: queue.Queue[Any], at_work: AtWork) -> None:
    """Hand on what the console sends; end the process with the console, whatever it is at.

    Workers elsewhere stop at once where it is at a job, instead of when they miss the signs of life of its console.
    """
    folder = ""
    try:
        paths, engine, folder = pickle.load(sys.stdin.buffer)  # noqa: S301 from our own console
        messages.put((paths, engine, folder))
        while True:
            messages.put(pickle.load(sys.stdin.buffer))  # noqa: S301
    finally:  # the end of the input, or an input that was cut off
        try:
            if job := at_work.job:
                from .run_folder import Run  # which the job has brought along

                with suppress(Exception):  # it may be over
                    Run(job.storage, job.run).stop(ENDED)
            if at_work.graphs:
                at_work.graphs.ending()
            _put_away(folder)
        finally:
            if _leads_its_group():
                os.killpg(0, signal.SIGKILL)
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


def _leads_its_group() -> bool:
    """Whether the processes of this one's group are those that it started, as where a console started it."""
    return os.getpgrp() == os.getpid()


def _put_away(folder: str) -> None:
    """End what this process started, let go of what it has in shared memory, and remove its temporary folder."""
    _kill_children()
    _end_tracker()
    if _leads_its_group():
        os.killpg(0, signal.SIGTERM)  # this process takes no notice of it
        until = time.monotonic() + TERMINATE_SECONDS
        with suppress(ChildProcessError):  # there is none any more
            while time.monotonic() < until:
                if os.waitpid(-1, os.WNOHANG) == (0, 0):
                    _end_tracker()  # another one may be there: what lets go of shared memory starts it again
                    time.sleep(0.01)
    until = time.monotonic() + TERMINATE_SECONDS
    while folder and os.path.exists(folder) and time.monotonic() < until:  # what was just ended may write to it yet
        shutil.rmtree(folder, ignore_errors=True)


def _end_tracker() -> None:
    """Have Python's tracker of shared memory remove what nobody holds any more, and end.

    It ends when its pipe closes, which a process holds too that is being started just now, in the place of one that was
    killed: such processes are killed meanwhile.
    """

    def stop() -> None:
        with suppress(ChildProcessError):  # somebody else has waited for it
            resource_tracker._resource_tracker._stop()  # type: ignore[attr-defined]

    tracker = threading.Thread(target=stop, daemon=True)
    tracker.start()
    until = time.monotonic() + TRACKER_SECONDS
    while tracker.is_alive() and time.monotonic() < until:
        tracker.join(0.02)
        _kill_children()


def _kill_children() -> None:
    children = multiprocessing.active_children()
    for child in children:
        child.kill()
    for child in children:
        child.join(TERMINATE_SECONDS)


def _open(engine: Engine) -> Graphs | Exception:
    """An engine, or why there is none: each job is answered with that."""
    try:
        with uncollected(stays=True):
            from .engines import open_engine

            return open_engine(engine)
    except Exception as error:
        return error


def _do(graphs: Graphs | Exception, message: bytes, answer: Path, at_work: AtWork) -> int:
    """Do what one message asks for, a job or :class:`Loading`; its status. What went wrong goes to ``answer``."""
    try:
        if isinstance(graphs, Exception):
            raise graphs
        with uncollected():
            job, shards = pickle.loads(message)  # noqa: S301 from our own console
        if isinstance(job, Loading):
            job.stage.load(job.tables, job.here)
        else:
            at_work.job = job if graphs.engine.elsewhere else None
            graphs.run(job, shards)
        return DONE
    except MillError as error:
        _tell(answer, without_step(str(error)))
        return TOLD
    except (Exception, SystemExit) as error:  # Beam's parser of options exits
        traceback.print_exc()
        _tell(answer, texts_of(error))
        return ENGINE_FAILED
    finally:
        at_work.job = None


def _tell(answer: Path, text: str) -> None:
    """Write what went wrong; where that cannot be done, it is in the log at least."""
    try:
        answer.write_text(text, "utf-8")
    except OSError:  # the disk is full, or this process is about to end
        print(text, file=sys.stderr)


def main() -> None:
    """Run one job after another, until the console ends this process."""
    answers = os.dup(1)
    os.dup2(2, 1)  # what engines print must not pass for an answer
    messages: queue.Queue[Any] = queue.Queue()
    at_work = AtWork()
    if _leads_its_group():
        signal.signal(signal.SIGTERM, lambda *_: None)  # the console ends this process, and it ends its group
    threading.Thread(target=_take_messages, args=(messages, at_work), daemon=True).start()
    logging.getLogger("concurrent.futures").addHandler(EndWithThread())
    paths, engine, folder = messages.get()
    sys.path += [path for path in paths if path not in sys.path]  # behind our own: a folder must not shadow a module
    graphs = _open(engine)
    at_work.graphs = None if isinstance(graphs, Exception) else graphs
    while True:
        status = _do(graphs, messages.get(), Path(folder, ANSWER), at_work)
        sys.stderr.flush()
        with suppress(BrokenPipeError):  # the console has gone: the other thread ends this process
            os.write(answers, bytes([status]))
