"""A command that returns when its work has begun, and leaves it to a process in the background."""

from __future__ import annotations

import json
import os
import signal
import sys
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from controlmill.schemas.errors import Interrupted, MillError
from controlmill.schemas.terminal.console import output

Begun = Callable[[list[str], Path], None]


def run(serve: Callable[[Begun], None], detach: bool) -> None:
    """Call ``serve``, which calls what it is given when its work has begun, with lines for the user and a log file.

    With ``detach`` it goes on in a process of its own, which says what it says in the log file; no thread may run yet.

    Raises:
        MillError: what ``serve`` raised before that.
        Interrupted: Ctrl-C came before that.
    """
    if not detach:
        serve(lambda lines, _: _say(lines))
        return
    hear, tell = os.pipe()
    child = os.fork()
    if child:
        os.close(tell)
        with open(hear, encoding="utf-8") as answer, _ended_with_this(child):
            said = json.loads(answer.read() or '{"failed": "the process in the background died"}')
        if "failed" in said:
            raise MillError(said["failed"])
        _say(said["lines"])
        return
    status = 1
    try:
        os.close(hear)
        os.setsid()
        with open(tell, "w", encoding="utf-8") as answer:
            _serve(serve, answer)
        status = 0
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stderr.flush()
        os._exit(status)


@contextmanager
def _ended_with_this(child: int) -> Iterator[None]:
    """Ctrl-C ends the process in the background too, and with it all that it has started."""
    try:
        yield
    except KeyboardInterrupt:
        os.kill(child, signal.SIGTERM)  # nobody has waited for it: there is none other of its number
        os.waitpid(child, 0)
        raise Interrupted("stopped; nothing is left running") from None


def _serve(serve: Callable[[Begun], None], answer: object) -> None:
    def begun(lines: list[str], log: Path) -> None:
        print(json.dumps({"lines": lines}), file=answer)  # type: ignore[call-overload]
        answer.close()  # type: ignore[attr-defined]
        nothing, file = os.open(os.devnull, os.O_RDONLY), os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        for old, new in ((0, nothing), (1, file), (2, file)):
            os.dup2(new, old)

    try:
        serve(begun)
    except MillError as error:
        if answer.closed:  # type: ignore[attr-defined]
            raise
        print(json.dumps({"failed": str(error)}), file=answer)  # type: ignore[call-overload]


def _say(lines: list[str]) -> None:
    for line in lines:
        output.say(line)
