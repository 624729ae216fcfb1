"""What a layout is: how a part is written, and what names its rows in the end."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Protocol

from ..folder import Record, State
from ..plan import Plan
from ..samples import Sample

PART_BYTES = 500_000_000  # of pictures in a file that holds many rows


@dataclass(frozen=True)
class Written:
    """A part: rows, bytes, and the files of each row where rows have some."""

    rows: int
    bytes: int
    records: tuple[Record, ...] = ()


class Target(Protocol):
    """A layout.

    ``summary`` says what reads it. ``holds_several``: whether a row can have several conditions. ``part_bytes``: of
    pictures that are written together. ``last``: the file or folder that is placed last. ``is_movable``:
    whether nothing that is written names the folder.
    """

    summary: ClassVar[str]
    holds_several: ClassVar[bool]
    part_bytes: ClassVar[int]
    last: ClassVar[str]
    is_movable: ClassVar[bool]

    def write(self, folder: Path, part: int, samples: Iterable[Sample], plan: Plan) -> Written:
        """Write the rows of a part below ``folder``. What a cut attempt left there is replaced."""

    def finish(self, folder: Path, records: Iterator[Record], plan: Plan, state: State, size: int) -> None:
        """Write what names the rows, and configuration; ``size`` is the bytes of all parts."""

    def command(self, plan: Plan) -> str:
        """How it is used, as a user types it."""
