"""What commands say while they work: on standard error, and with times in a log file where one is asked for.

What a command was asked for (``inspect``, ``verify``, ``doctor``) goes to standard output and is no part of this.
"""

from __future__ import annotations

import functools
import inspect
import json
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import IO, TYPE_CHECKING, Annotated, Any

import typer

from .printing import printable_lines

if TYPE_CHECKING:
    from rich.console import Console, RenderableType

LOG_WIDTH = 160
Quiet = Annotated[bool, typer.Option("--quiet", help="Print errors only.")]
LogFile = Annotated[
    Path | None, typer.Option(help="Append all messages to this file, with their times; also with --quiet.")
]


AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON object to standard output.")]


def print_json(value: Any) -> None:
    """A value on standard output, with nothing beside it; whatever is not ASCII is escaped."""
    typer.echo(json.dumps(value, indent=1))


def standard_output() -> Console:
    """Where a command prints what it was asked for."""
    from rich.console import Console

    return Console(highlight=False)


class Output:
    """The terminal and the log file of this process."""

    def __init__(self) -> None:
        self._quiet = False
        self._log: Console | None = None

    @functools.cached_property
    def console(self) -> Console:
        """The terminal."""
        from rich.console import Console  # not before a line is shown

        return Console(stderr=True, highlight=False, quiet=self._quiet)

    def begin(self, quiet: bool, log_file: Path | None) -> None:
        """Set what the flags ask for; the file stays open until the process ends."""
        self._quiet = quiet
        self.__dict__.pop("console", None)
        self._log = None
        if log_file is not None:
            from rich.console import Console

            file = log_file.open("a", encoding="utf-8", buffering=1)  # it outlives this call
            self._log = Console(file=_Stamped(file), width=LOG_WIDTH, highlight=False, color_system=None)  # type: ignore[arg-type]

    def say(self, text: object) -> None:
        """A line for both."""
        self.console.print(printable_lines(text), markup=False, soft_wrap=True)
        self.log(text)

    def show(self, picture: RenderableType) -> None:
        """A table for both."""
        self.console.print(picture)
        if self._log:
            self._log.print(picture)

    def log(self, text: object) -> None:
        """A line for the log file alone."""
        if self._log:
            self._log.print(printable_lines(text), markup=False, soft_wrap=True)

    def fail(self, text: object) -> None:
        """An error, also where the terminal is to be quiet."""
        typer.echo(printable_lines(text), err=True)
        self.log(text)


class _Stamped:
    """A text file in which each line begins with the time."""

    def __init__(self, file: IO[str]):
        self._file = file

    def write(self, text: str) -> int:
        now = datetime.now().astimezone().isoformat(timespec="seconds")
        self._file.write("".join(f"{now} {line}" if line.strip() else line for line in text.splitlines(keepends=True)))
        return len(text)

    def flush(self) -> None:
        self._file.flush()


output = Output()


def duration(seconds: float) -> str:
    """Seconds as hours, minutes and seconds: ``1:02:03``."""
    minutes, second = divmod(round(seconds), 60)
    hours, minute = divmod(minutes, 60)
    return f"{hours}:{minute:02}:{second:02}"


def with_messages(command: Callable[..., None]) -> Callable[..., None]:
    """The command with ``--quiet`` and ``--log-file``."""
    signature = inspect.signature(command, eval_str=True)
    keyword = inspect.Parameter.KEYWORD_ONLY
    added = [
        inspect.Parameter("quiet", keyword, default=False, annotation=Quiet),
        inspect.Parameter("log_file", keyword, default=None, annotation=LogFile),
    ]

    @functools.wraps(command)
    def with_output(*args: Any, quiet: bool = False, log_file: Path | None = None, **given: Any) -> None:
        output.begin(quiet, log_file)
        command(*args, **given)

    parameters = [*signature.parameters.values(), *added]
    with_output.__signature__ = signature.replace(parameters=parameters)  # type: ignore[attr-defined]
    with_output.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
    return with_output
