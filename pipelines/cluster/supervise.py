"""Processes of a cluster that are started again when they die."""

from __future__ import annotations

import errno
import json
import os
import select
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import IO

from controlmill.schemas.errors import MillError, error_text
from controlmill.schemas.machine import MORE_PROCESSES, ONE_THREAD, process_command
from controlmill.schemas.terminal.console import output

from ..engine.reasons import last_lines
from .member import Member

READY_SECONDS = 120.0
END_SECONDS = 5.0
POLL_SECONDS = 0.2
QUICK = 30.0  # seconds: what dies sooner is started again later and later
LONGEST_PAUSE = 30.0
LINES = 15


class Watched:
    """A process that is to run: started, looked after, started again.

    Args:
        title: what messages call it.
        member: what it is told.
        log: where it writes what Dask says.
    """

    def __init__(self, title: str, member: Member, log: Path):
        self.title = title
        self.member = member
        self.log = log
        self.ready = False
        self.refused = ""
        self._process: subprocess.Popen[bytes] | None = None
        self._started = 0.0
        self._deaths = 0  # in a row, each of them quick
        self._again = 0.0  # when it is to be started
        self._said = ""

    def start(self) -> None:
        """Start the process for the first time.

        Raises:
            MillError: this machine has no room for one more.
        """
        try:
            self._start()
        except OSError as error:
            raise MillError(f"{self.title} {_not_started(error)}") from error

    def _start(self) -> None:
        shutil.rmtree(self.member.folder, ignore_errors=True)
        os.makedirs(self.member.folder)
        self._started, self.ready, self.refused = time.monotonic(), False, ""
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                [*process_command(f"{__package__}.member"), self.member.text()],
                stdin=subprocess.PIPE,  # it ends when this closes
                stdout=subprocess.PIPE,
                stderr=log,
                env={**os.environ, **ONE_THREAD, "TMPDIR": self.member.folder},
                start_new_session=True,  # Ctrl-C is for the supervisor
            )

    def look(self) -> None:
        """Take in what the process says; say that it died, and start it again when its time has come."""
        if self._process is None:
            if time.monotonic() >= self._again:
                try:
                    self._start()
                except OSError as error:  # there may be room later
                    self._put_off(_not_started(error))
            return
        status = self._process.poll()
        self._hear(self._process)
        if status is None:
            return
        self._close()
        self._put_off(self.refused or f"ended (exit status {status}; log: {self.log})")

    def _put_off(self, why: str) -> None:
        """Have the process started again at once, or after a pause where it does not live long; say so."""
        quick = time.monotonic() - self._started < QUICK
        self._deaths = self._deaths + 1 if quick else 1
        pause = 0.0 if self._deaths == 1 else min(LONGEST_PAUSE, 2.0 ** (self._deaths - 2))
        self._again = time.monotonic() + pause
        when = f"in {pause:.0f} s" if pause else "now"
        if why != self._said:
            output.say(f"{self.title}: {why}; it is started again {when}")
        self._said = why

    def wait_until_ready(self) -> None:
        """Wait for a process that was started for the first time.

        Raises:
            MillError: it ended instead, or it does not get ready.
        """
        deadline = time.monotonic() + READY_SECONDS
        assert self._process and self._process.stdout
        while not self.ready:
            select.select([self._process.stdout], [], [], POLL_SECONDS)
            status = self._process.poll()
            self._hear(self._process)
            if self.refused:
                raise MillError(self.refused)
            if status is not None or time.monotonic() > deadline:
                said = (
                    f"ended (exit status {status})" if status is not None else f"is not ready after {READY_SECONDS} s"
                )
                raise MillError(f"{self.title} {said}:\n{last_lines(self.log, LINES)}")

    def ask_to_end(self) -> None:
        """Close the pipe that keeps the process."""
        if self._process and self._process.stdin:
            with suppress(BrokenPipeError):
                self._process.stdin.close()

    def end(self, seconds: float) -> None:
        """Wait for the process, then kill it."""
        if self._process is None:
            return
        try:
            self._process.wait(max(0.0, seconds))
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._close()

    def _hear(self, process: subprocess.Popen[bytes]) -> None:
        assert process.stdout
        while select.select([process.stdout], [], [], 0)[0]:
            line = process.stdout.readline()
            if not line:
                return
            said = json.loads(line)
            self.ready, self.refused = "ready" in said, said.get("refused", "")
            if self.ready and self._said:
                output.say(f"{self.title} runs again")
                self._said = ""

    def _close(self) -> None:
        assert self._process
        pipes: list[IO[bytes] | None] = [self._process.stdin, self._process.stdout]
        for pipe in pipes:
            if pipe:
                with suppress(BrokenPipeError):
                    pipe.close()
        self._process = None


def _not_started(error: OSError) -> str:
    advice = f": {MORE_PROCESSES}" if error.errno in (errno.EAGAIN, errno.ENOMEM) else ""
    return f"cannot be started ({error_text(error)}){advice}"


def workers_of(member: Member, count: int, folder: Path, logs: Path) -> list[Watched]:
    """Workers of this machine."""
    members = [replace(member, role="worker", folder=str(folder / f"worker-{index}")) for index in range(count)]
    return [Watched(f"worker {index}", one, logs / f"worker-{index}.log") for index, one in enumerate(members)]


@contextmanager
def scratch() -> Iterator[Path]:
    """A folder for the temporary files of all processes; it goes in the end."""
    with tempfile.TemporaryDirectory(prefix="controlmill-cluster-", ignore_cleanup_errors=True) as folder:
        yield Path(folder)


@contextmanager
def running(processes: Sequence[Watched]) -> Iterator[None]:
    """Start processes, wait until they are ready, and end them with the block.

    Raises:
        MillError: one cannot be started.
    """
    try:
        for process in processes:
            process.start()
        for process in processes:
            process.wait_until_ready()
        yield
    finally:
        deadline = time.monotonic() + END_SECONDS
        for process in processes:
            process.ask_to_end()
        for process in processes:
            process.end(deadline - time.monotonic())


def watch(processes: Sequence[Watched]) -> None:
    """Start what dies again, for ever."""
    while True:
        for process in processes:
            process.look()
        time.sleep(POLL_SECONDS)


@contextmanager
def until_told_to_end() -> Iterator[None]:
    """Ctrl-C, or a signal to terminate, leaves the block."""

    def end(*_: object) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, end)
    try:
        yield
    except KeyboardInterrupt:
        output.say("ended")
    finally:
        signal.signal(signal.SIGTERM, before)
