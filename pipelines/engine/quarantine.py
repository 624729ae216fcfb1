"""Rows in a process of their own: used for a shard whose worker died, to find the row that did it.

The worker sends rows down a pipe, one at a time. A row whose process dies is tried once more in a fresh process; if
that dies too, the row is refused as ``killed_worker`` and the rest of the shard goes on.
"""

from __future__ import annotations

import os
import pickle
import subprocess
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, BinaryIO

from controlmill.schemas.machine import process_command

from .faults import Failure
from .rows import RowStep, run_row

TRIES = 2


def run_rows_apart(step: RowStep, rows: Iterable[Any], check: Callable[[], None]) -> Iterator[Any]:
    """Like :func:`rows.run_rows`, one row at a time and each out of this process. The results are the same."""
    child = None
    try:
        for row in rows:
            check()
            for _ in range(TRIES):
                child = child or _Child(step)
                answer = child.ask(row)
                if answer is not None:
                    break
                status, child = child.close(), None
            else:
                answer = Failure("killed_worker", f"its process died {TRIES} times ({_cause(status)})")
            if isinstance(answer, Raised):
                raise answer.error
            yield answer
    finally:
        if child:
            child.close()


@dataclass(frozen=True)
class Raised:
    """What is no fault of the row and stops the shard: memory or disk ran out."""

    error: Exception


def _cause(status: int) -> str:
    return f"signal {-status}" if status < 0 else f"exit code {status}"


class _Child:
    def __init__(self, step: RowStep):
        self.process = subprocess.Popen(process_command(__name__), stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        assert self.process.stdin and self.process.stdout
        self.to: BinaryIO = self.process.stdin  # type: ignore[assignment]
        self.back: BinaryIO = self.process.stdout  # type: ignore[assignment]
        self._send(sys.path)
        self._send(step)

    def _send(self, value: Any) -> None:
        with suppress(BrokenPipeError):  # the answer, or its absence, says what happened
            pickle.dump(value, self.to)
            self.to.flush()

    def ask(self, row: Any) -> Any:
        """The row's outcome, or what it :class:`Raised`; None where the process died."""
        self._send(row)
        try:
            return pickle.load(self.back)  # noqa: S301 from our own child
        except (EOFError, pickle.UnpicklingError):
            return None

    def close(self) -> int:
        """End the process; its exit status."""
        with suppress(BrokenPipeError):
            self.to.close()
        status = self.process.wait()
        self.back.close()
        return status


def main() -> None:
    """The child: a step, then rows, from standard input; outcomes to what was standard output."""
    source, answers = sys.stdin.buffer, os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # whatever prints must not disturb the answers
    try:
        paths = pickle.load(source)  # noqa: S301 from our own parent
        sys.path += [path for path in paths if path not in sys.path]
        step = pickle.load(source)  # noqa: S301
        while True:
            row = pickle.load(source)  # noqa: S301
            try:
                answer = run_row(step, row)
            except Exception as error:
                answer = Raised(error)
            pickle.dump(answer, answers)
            answers.flush()
    except EOFError:
        pass
