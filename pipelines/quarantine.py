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
from typing import Any, BinaryIO

from .rows import Failure, Step, run_rows

TRIES = 2


def run_rows_apart(step: Step, rows: Iterable[Any], check: Callable[[], None]) -> Iterator[Any]:
    """Like :func:`rows.run_rows`, one row at a time and each out of this process. The results are the same."""
    child = None
    try:
        for row in rows:
            check()
            for attempt in range(TRIES):
                child = child or _Child(step)
                answer = child.ask(row)
                if answer is not None:
                    break
                status, child = child.close(), None
            else:
                answer = (True, Failure("killed_worker", f"its process died {attempt + 1} times ({_cause(status)})"))
            done, value = answer
            if not done:
                raise value
            yield value
    finally:
        if child:
            child.close()


def _cause(status: int) -> str:
    return f"signal {-status}" if status < 0 else f"exit code {status}"


class _Child:
    def __init__(self, step: Step):
        self.process = subprocess.Popen(
            [sys.executable, "-m", __name__],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)},
        )
        assert self.process.stdin and self.process.stdout
        self.to: BinaryIO = self.process.stdin  # type: ignore[assignment]
        self.back: BinaryIO = self.process.stdout  # type: ignore[assignment]
        self._send(step)

    def _send(self, value: Any) -> None:
        try:
            pickle.dump(value, self.to)
            self.to.flush()
        except BrokenPipeError:
            pass  # the answer, or its absence, says what happened

    def ask(self, row: Any) -> tuple[bool, Any] | None:
        """(True, outcome) or (False, exception to raise here); None where the process died."""
        self._send(row)
        try:
            answer: tuple[bool, Any] = pickle.load(self.back)  # noqa: S301 from our own child
        except (EOFError, pickle.UnpicklingError):
            return None
        return answer

    def close(self) -> int:
        """End the process; its exit status."""
        try:
            self.to.close()
        except BrokenPipeError:
            pass
        status = self.process.wait()
        self.back.close()
        return status


def main() -> None:
    """The child: a step, then rows, from standard input; outcomes to what was standard output."""
    source, answers = sys.stdin.buffer, os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # whatever prints must not disturb the answers
    try:
        step = pickle.load(source)  # noqa: S301 from our own parent
        while True:
            row = pickle.load(source)  # noqa: S301
            try:
                answer: tuple[bool, Any] = (True, next(run_rows(step, [row], 1, lambda: None)))
            except Exception as error:
                answer = (False, error)
            pickle.dump(answer, answers)
            answers.flush()
    except EOFError:
        pass


if __name__ == "__main__":
    main()
