"""A job from the console's side: what is left to do, a process that does it, and what came of it.

Whatever an engine reports, what counts is what is committed: it is compared with the shard list in the end.
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
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from controlmill.schemas.dataset import Dataset
from controlmill.schemas.errors import Interrupted, MillError, error_text
from controlmill.schemas.machine import MORE_MEMORY, MORE_PROCESSES, MORE_THREADS, NO_MORE, check_semaphores
from controlmill.schemas.terminal.console import output
from controlmill.schemas.views import card

from .mend import clear_aside, switch
from .progress import Progress
from .run_folder import Run, ShardFailure, sweep
from .shards import Job, shards_in_flight
from .stage import Output, Stage

MAX_DEATHS = 5  # of the job's process, without a single commit between them
POLL_SECONDS = 0.5
GRACE_SECONDS = 30
END_SECONDS = 5  # for the job's process to put its things away
NOT_LOADED = 4  # a network cannot be loaded
ENGINE_FAILED = 3  # exit status of the job's process: the engine raised, and starting again would not help
NO_MEMORY = ("MemoryError", "failed to map segment", "Cannot allocate memory", "error return without exception set")
GO_ON = "What is committed stays: run the same command again to go on."


@dataclass(frozen=True)
class Engine:
    """Which Beam runner, with how many processes of this machine (0: one, without a cluster), and Beam's own options.

    The embedded runner is asked for by its own name: "DirectRunner" may try to download another one, and hang.
    """

    runner: str = "FnApiRunner"
    workers: int = 0
    options: tuple[str, ...] = ()


def run_stage(
    dataset: Dataset,
    stage: Stage,
    resources: Resources,
    rows_of_shard: list[int],
) -> None:
    """Do what a stage has left to do, commit by commit, and finish its tables.

    What is committed is taken as it is: whoever calls has looked at it (:func:`mend.check_committed`).

    Args:
        dataset: where; of its ``redone`` tables the new ones are made, and take the old ones' places.
        stage: what.
        resources: with what.
        rows_of_shard: rows that each shard takes in, for progress.

    Raises:
        MillError: something could not be done. What was committed stays, and the same command goes on from there.
        Interrupted: by Ctrl-C.
    """
    sweep(dataset.storage)
    outputs = stage.outputs()
    committed = {table: dataset.committed(table) for table in outputs}
    done = set.intersection(*committed.values())
    todo = [shard for shard in range(dataset.shards) if shard not in done]
    if todo:
        failures = _do(dataset, stage, outputs, resources, rows_of_shard, committed, todo)
        _account(dataset, outputs, failures)
    for table in outputs:
        if not committed[table].issuperset(range(dataset.shards)) or dataset.index(table) is None:
            dataset.finish(table)
        clear_aside(dataset, table)
    redone = dataset.redone.intersection(outputs)
    if redone:
        switch(dataset, ["images"] if "images" in redone else sorted(redone))
    card.write(Dataset.open(dataset.storage.address))


def _do(
    dataset: Dataset,
    stage: Stage,
    outputs: Mapping[str, Output],
    resources: Resources,
    rows_of_shard: list[int],
    committed: Mapping[str, set[int]],
    todo: list[int],
) -> list[ShardFailure]:
    """Have shards done; what failed."""
    run = Run.start(dataset.storage)
    threads, in_flight = resources.codec_threads(), resources.in_flight(stage)
    job = Job(dataset.storage, run.id, stage, outputs, threads, in_flight, dataset.redone)
    try:
        with Progress(dataset, stage.name, rows_of_shard, committed, run) as progress, _terminable():
            _supervise(job, run, todo, resources.process, progress)
        return run.failures()
    except FileNotFoundError:
        dataset.storage.require()
        raise
    finally:
        run.end()


def _account(dataset: Dataset, tables: Iterable[str], failures: list[ShardFailure]) -> None:
    """Compare what is committed with the shard list.

    Raises:
        MillError: shards failed, or an engine lost work without a word.
    """
    if failures:
        shown = "\n  ".join(f"shard {failure.shard}: {failure.error}" for failure in failures[:10])
        more = f"\n  and {len(failures) - 10} more" if len(failures) > 10 else ""
        raise MillError(f"{len(failures)} of {dataset.shards} shards could not be done:\n  {shown}{more}\n{GO_ON}")
    for table in tables:
        lost = sorted(set(range(dataset.shards)) - dataset.committed(table))
        if lost:
            raise MillError(
                f"the engine ended without an error, but {len(lost)} of {dataset.shards} shards of {table} are not "
                f"committed (the first is {lost[0]}). {GO_ON}"
            )


def _supervise(job: Job, run: Run, todo: list[int], process: JobProcess, progress: Progress) -> None:
    """Have the job done; a process that dies is started again while it gets somewhere."""
    deaths = 0
    while True:
        before = progress.files
        try:
            status = process.run(job, todo, progress)
        except KeyboardInterrupt:
            progress.say("stopping after the rows at hand (press Ctrl-C again to stop at once)")
            run.stop("stopped by request")
            process.end(GRACE_SECONDS)
            raise Interrupted(f"Stopped. {GO_ON}") from None
        job.storage.require()
        why = run.stopped()
        if why:
            raise MillError(f"{why}\n{GO_ON}")
        if status == 0:
            return
        if status == ENGINE_FAILED:
            raise MillError(f"{process.engine.runner} failed{process.cause()}:\n{process.last_lines()}\n{GO_ON}")
        deaths = 1 if progress.files > before else deaths + 1
        if deaths >= MAX_DEATHS:
            raise MillError(
                f"the job's process died {deaths} times in a row without a commit (exit status {status})"
                f"{process.cause()}:\n{process.last_lines()}\n{GO_ON}"
            )
        progress.say(f"the job's process died (exit status {status}); starting it again, with more care")


@dataclass(frozen=True)
class Loading:
    """What the job's process is asked before a job: to load the networks that make some tables of a stage.

    ``here`` says whether it will work with them itself; why one cannot be loaded goes to ``answer``.
    """

    stage: Stage
    tables: tuple[str, ...]
    here: bool
    answer: Path


class JobProcess:
    """The process that runs Beam graphs (``child``), started when it is first needed and kept for the next job.

    Raises:
        MillError: the engine has workers, and this machine does not let processes work together.
    """

    def __init__(self, engine: Engine):
        if engine.workers:
            check_semaphores("--workers")
        self.engine = engine
        self._process: subprocess.Popen[bytes] | None = None
        self._log: IO[bytes] | None = None
        self._loaded: list[tuple[Stage, Sequence[str]]] = []

    def run(self, job: Job, shards: list[int], progress: Progress) -> int:
        """Run one job; its status, or the process's exit status where it died."""
        return self._ask(job, shards, progress.update)

    def load(self, stage: Stage, tables: Sequence[str]) -> None:
        """Have the networks loaded that make some tables of a stage; once, however often this is asked.

        Raises:
            MillError: one cannot be loaded.
        """
        if (stage, tables) in self._loaded:
            return
        output.say(f"loading the networks of {', '.join(tables)}")
        self.start()
        here = self.engine.runner == "FnApiRunner" and not self.engine.workers
        loading = Loading(stage, tuple(tables), here, Path(self._temporary, "not-loaded"))
        status = self._ask(loading, [], lambda: None)
        if status == NOT_LOADED:
            raise MillError(loading.answer.read_text("utf-8"))
        if status:
            raise MillError(
                f"the job's process ended as it loaded networks (status {status}){self.cause()}:\n{self.last_lines()}"
            )
        self._loaded.append((stage, tables))

    def _ask(self, job: Job | Loading, shards: list[int], wait: Callable[[], None]) -> int:
        process = self.start()
        assert process.stdin and process.stdout
        with suppress(BrokenPipeError):  # it has died, which shows below
            pickle.dump((job, shards), process.stdin)
            process.stdin.flush()
        while not select.select([process.stdout], [], [], POLL_SECONDS)[0]:
            wait()
        answer = process.stdout.read(1)
        if answer:
            return answer[0]
        self.end()
        return process.returncode

    def start(self) -> subprocess.Popen[bytes]:
        """Start the process, if it is not there yet; it gets ready while the console does other things."""
        if self._process is None:
            self._log = tempfile.TemporaryFile()  # noqa: SIM115 kept for last_lines
            self._temporary = tempfile.mkdtemp(prefix="controlmill-")
            try:
                self._process = subprocess.Popen(
                    [sys.executable, "-P", "-m", f"{__package__}.child"],
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    stderr=self._log,
                    bufsize=0,
                    env={**os.environ, "TMPDIR": self._temporary},  # what an engine leaves there goes with it
                    start_new_session=True,  # Ctrl-C is for the console alone, which stops the job in order
                )
            except OSError as error:
                os.rmdir(self._temporary)
                raise MillError(
                    f"the job's process cannot be started ({error_text(error)}): {MORE_PROCESSES}"
                ) from error
            with suppress(BrokenPipeError):  # it has died, which shows when a job is sent
                pickle.dump((sys.path, self.engine, self._temporary), self._process.stdin)  # type: ignore[arg-type]
        return self._process

    def last_lines(self, count: int = 15) -> str:
        """The end of what the process, or the one before it, said."""
        if self._log is None:
            return ""
        self._log.seek(0)
        return "\n".join(self._log.read().decode(errors="replace").strip().splitlines()[-count:])

    def cause(self) -> str:
        """What the last lines mean, where it is the machine that lacks something."""
        said = self.last_lines()
        if any(words in said for words in NO_MEMORY):
            return f", out of memory ({MORE_MEMORY})"
        return f", out of threads ({MORE_THREADS})" if NO_MORE in said else ""

    def end(self, grace: float = 0) -> None:
        """Let a job go on for ``grace`` seconds at most, then end the process and all that it started.

        It is told to end, so that it puts away what it has in shared memory and in its folder; what is still there
        after :data:`END_SECONDS` is killed.
        """
        process, self._process = self._process, None
        if process is None:
            return
        assert process.stdin and process.stdout
        with suppress(KeyboardInterrupt):
            if grace:
                select.select([process.stdout], [], [], grace)
            with suppress(BrokenPipeError):
                process.stdin.close()
            with suppress(subprocess.TimeoutExpired):
                process.wait(END_SECONDS)
                _wait_for_group(process.pid, END_SECONDS)
        with suppress(ProcessLookupError, PermissionError):  # all of it has ended, or is waiting to be reaped
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        process.stdout.close()
        shutil.rmtree(self._temporary, ignore_errors=True)


def _wait_for_group(leader: int, seconds: float) -> None:
    """Wait until no process of a group is left, or so long."""
    until = time.monotonic() + seconds
    with suppress(ProcessLookupError, PermissionError):
        while time.monotonic() < until:
            os.killpg(leader, 0)
            time.sleep(0.01)


class Resources:
    """What jobs work with: an engine in a process of its own, and codec threads in each worker.

    ``threads`` 0 shares the machine's cores out among the workers.
    """

    def __init__(self, engine: Engine | None = None, threads: int = 0):
        self.process = JobProcess(engine or Engine())
        self._threads = threads

    def codec_threads(self) -> int:
        """Threads for decoding and encoding in each worker."""
        return self._threads or max(1, (os.cpu_count() or 1) // max(1, self.process.engine.workers))

    def in_flight(self, stage: Stage) -> int:
        """Shards of a stage that each worker has in flight; on a runner with options of its own, those decide."""
        return shards_in_flight(stage.devices()) if self.process.engine.runner == "FnApiRunner" else 1

    def __enter__(self) -> Resources:
        return self

    def __exit__(self, *_: object) -> None:
        self.process.end()


@contextmanager
def _terminable() -> Iterator[None]:
    """A signal to terminate stops the job like Ctrl-C does."""

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    try:
        before = signal.signal(signal.SIGTERM, interrupt)
    except ValueError:  # not the main thread
        yield
        return
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
