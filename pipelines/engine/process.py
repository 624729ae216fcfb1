"""The job's process, from the console's side: started beside the console's own imports, told what to do, ended.

Light, so that it can be started first: what it works with is imported by :mod:`child`.
"""

from __future__ import annotations

import os
import pickle
import select
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import IO, TYPE_CHECKING

from controlmill.schemas.errors import MillError, error_text
from controlmill.schemas.machine import (
    MORE_MEMORY,
    MORE_PROCESSES,
    MORE_THREADS,
    NO_MORE,
    check_semaphores,
    group_runs,
    process_command,
    processors,
)
from controlmill.schemas.terminal.console import output

from .messages import ANSWER, ENGINE_FAILED, TOLD, Engine, Loading
from .reach import check_engine, gone
from .reasons import advice, reason, reason_in_log
from .translators.preparation import prepare

if TYPE_CHECKING:
    from .shards import Job
    from .stage import Stage

POLL_SECONDS = 0.5
END_SECONDS = 5  # for the job's process to put its things away
LAST_LINES = 15  # of what it said, which tell whether the machine lacked something
LOG_END = 1_000_000  # bytes of what it said that are looked through for why it failed
NO_MEMORY = ("MemoryError", "failed to map segment", "Cannot allocate memory", "error return without exception set")


def shards_in_flight(devices: Iterable[str], waits: bool) -> int:
    """Shards that a worker has in flight: on a GPU two, so that it has work while one decodes, encodes or commits.

    Where rows are waited for, two as well: the slowest answers of a shard do not hold up the next one.
    """
    return 2 if waits or any(device.startswith("cuda") for device in devices) else 1


def meaning_of(lines: str) -> str:
    """What a process's last lines mean where it is the machine that lacks something, to go into a sentence; or ''."""
    if any(words in lines for words in NO_MEMORY):
        return f", out of memory ({MORE_MEMORY})"
    return f", out of threads ({MORE_THREADS})" if NO_MORE in lines else ""


class JobProcess:
    """The process that runs Beam graphs (``child``), started when it is first needed and kept for the next job.

    ``folder`` is where it, and what it starts, has temporary files; it goes with the process.

    Raises:
        MillError: the engine has workers, and this machine does not let processes work together; or a part of a cluster
            cannot be reached, or the cluster cannot take jobs.
    """

    def __init__(self, engine: Engine):
        if engine.workers:
            check_semaphores("--workers")
        check_engine(engine)
        if engine.cluster and engine.cluster.kind != "dask":
            for problem in prepare(engine).facts.problems:
                output.say(f"note: {problem}")
        self.engine = engine
        self.answer = ""  # what went wrong, as the process told it
        self._process: subprocess.Popen[bytes] | None = None
        self._log: IO[bytes] | None = None
        self.folder: Path | None = None
        self._loaded: list[tuple[Stage, Sequence[str]]] = []

    def run(self, job: Job, shards: list[int], wait: Callable[[], None]) -> int:
        """Run one job, and call ``wait`` now and then meanwhile; its status, or that of the process where it died."""
        return self._ask(job, shards, wait)

    def load(self, stage: Stage, tables: Sequence[str]) -> None:
        """Have the networks loaded that make some tables of a stage; once, however often this is asked.

        Raises:
            MillError: one cannot be loaded.
        """
        if (stage, tables) in self._loaded:
            return
        output.say(f"loading the networks of {', '.join(tables)}")
        self.start()
        status = self._ask(Loading(stage, tuple(tables), self.engine.here), [], lambda: None)
        if status == TOLD:
            raise MillError(self.answer or self.told("the networks cannot be loaded"))
        if status:
            raise MillError(self.told(f"the job's process ended as it loaded networks (status {status})"))
        self._loaded.append((stage, tables))

    def _ask(self, job: Job | Loading, shards: list[int], wait: Callable[[], None]) -> int:
        process, self.answer = self.start(), ""
        assert process.stdin and process.stdout and self.folder
        with suppress(BrokenPipeError):  # it has died, which shows below
            pickle.dump(pickle.dumps((job, shards)), process.stdin)  # as bytes: what it needs may not be imported yet
            process.stdin.flush()
        while not select.select([process.stdout], [], [], POLL_SECONDS)[0]:
            wait()
        status = process.stdout.read(1)
        if status:
            if status[0] in (ENGINE_FAILED, TOLD):
                with suppress(FileNotFoundError):  # the disk is full: it is in the log
                    self.answer = (self.folder / ANSWER).read_text("utf-8")
            return status[0]
        self.end()
        return process.returncode

    def start(self) -> subprocess.Popen[bytes]:
        """Start the process, if it is not there yet; it gets ready while the console does other things."""
        if self._process is None:
            self._log = tempfile.TemporaryFile()  # noqa: SIM115 kept for told
            self.folder = Path(tempfile.mkdtemp(prefix="controlmill-"))
            try:
                self._process = self._started(self._log, self.folder)
            except OSError as error:
                self.folder.rmdir()
                raise MillError(
                    f"the job's process cannot be started ({error_text(error)}): {MORE_PROCESSES}"
                ) from error
            with suppress(BrokenPipeError):  # it has died, which shows when a job is sent
                pickle.dump((sys.path, self.engine, str(self.folder)), self._process.stdin)  # type: ignore[arg-type]
        return self._process

    @staticmethod
    def _started(log: IO[bytes], folder: Path) -> subprocess.Popen[bytes]:
        return subprocess.Popen(
            process_command(f"{__package__}.child"),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=log,
            bufsize=0,
            env={
                "OPENBLAS_NUM_THREADS": "1",  # nothing in it uses more, and as it starts each of them spins
                **os.environ,
                "TMPDIR": str(folder),  # what an engine leaves there goes with it
            },
            start_new_session=True,  # Ctrl-C is for the console alone, which stops the job in order
        )

    def told(self, what: str) -> str:
        """A message about what happened: the lines that say why, what to do, and where all that was said is kept."""
        log = self._said()
        why = reason(self.answer) if self.answer and not self.answer.startswith("SystemExit") else reason_in_log(log)
        end = "\n".join([why, *log.splitlines()[-LAST_LINES:]])
        lines = [f"{what}{meaning_of(end)}:", why, advice(why), *gone(self.engine).splitlines(), self._kept(log, why)]
        return "\n".join(filter(None, lines))

    def _said(self) -> str:
        """The end of what the process, or the one before it, said."""
        if self._log is None:
            return ""
        self._log.seek(max(0, self._log.seek(0, os.SEEK_END) - LOG_END))
        return self._log.read().decode(errors="replace").strip()

    def _kept(self, log: str, shown: str) -> str:
        """Where all of that is kept, if there is more of it than is shown."""
        if not self._log or len(log) <= len(shown):
            return ""
        try:
            with tempfile.NamedTemporaryFile(prefix="controlmill-", suffix=".log", delete=False) as file:
                self._log.seek(0)
                shutil.copyfileobj(self._log, file)
        except OSError as error:
            return f"(what else it said cannot be kept: {error_text(error)})"
        return f"All that it said: {file.name}"

    def end(self, grace: float = 0) -> None:
        """Let a job go on for ``grace`` seconds at most, then end the process and all that it started.

        It is told to end, so that it puts away what it has in shared memory and in its folder; what is still there
        after :data:`END_SECONDS` is killed. Ctrl-C ends the time of grace, and then these seconds.
        """
        process, self._process = self._process, None
        if process is None:
            return
        assert process.stdin and process.stdout
        with suppress(KeyboardInterrupt):
            if grace:
                select.select([process.stdout], [], [], grace)
        with suppress(KeyboardInterrupt):
            with suppress(BrokenPipeError):
                process.stdin.close()
            with suppress(subprocess.TimeoutExpired):
                process.wait(END_SECONDS)
                until = time.monotonic() + END_SECONDS
                while group_runs(process.pid) and time.monotonic() < until:
                    time.sleep(0.01)
        with suppress(ProcessLookupError, PermissionError):  # all of it has ended, or is waiting to be reaped
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        process.stdout.close()
        if self.folder:
            shutil.rmtree(self.folder, ignore_errors=True)


class Resources:
    """What jobs work with: an engine in a process of its own, and codec threads in each worker.

    ``threads`` 0 shares a machine's cores out among its workers.
    """

    def __init__(self, engine: Engine | None = None, threads: int = 0):
        self.process = JobProcess(engine or Engine())
        self._threads = threads

    def codec_threads(self) -> int:
        """Threads for decoding and encoding in each worker; 0: each finds them out (:meth:`worker.Worker.threads`)."""
        workers = self.process.engine.workers
        return self._threads or (max(1, processors() // workers) if workers else 0)

    def in_flight(self, stage: Stage) -> int:
        """Shards of a stage that each worker has in flight; on an engine with settings of its own, those decide."""
        engine = self.process.engine
        return shards_in_flight(stage.devices(), stage.waits) if engine.here or engine.workers else 1

    def __enter__(self) -> Resources:
        return self

    def __exit__(self, *_: object) -> None:
        self.process.end()
