"""What indexes and footers hold beside the provenance: files, rows, what was refused.

Frozen dataclasses, read by :mod:`files.documents` under the rules of :mod:`provenance`.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field, replace
from typing import Annotated, Literal

from pydantic import Field

from .bounds import Count, Rows, Sha256
from .files.documents import FORBID
from .provenance import Provenance


@dataclass(frozen=True)
class RejectRecord:
    """A file that ingest refused."""

    __pydantic_config__ = FORBID

    source: str
    reason: str
    error: str


@dataclass(frozen=True, slots=True)  # of each file, all in memory with its index
class CaptionCounts:
    """How many pictures of a file have a caption, and how many one that cannot be read."""

    __pydantic_config__ = FORBID

    given: Count
    unread: Count


@dataclass(frozen=True)
class Summary:
    """What a file's footer says of its rows: refused by reason, empty maps; of images also what was refused.

    ``several`` are files of several pictures.
    """

    __pydantic_config__ = FORBID

    reasons: dict[str, Count] = field(default_factory=dict)
    empty: Count = 0
    rejects: tuple[RejectRecord, ...] = ()
    captions: CaptionCounts | None = None
    several: Count = 0


@dataclass(frozen=True, slots=True)  # likewise
class Entry:
    """A file of a table, in the table's index; see :class:`Summary`."""

    __pydantic_config__ = FORBID

    rows: Rows
    row_groups: Rows
    bytes: Count
    sha256: Sha256
    images_sha256: Sha256 | None = None
    reasons: dict[str, Count] = field(default_factory=dict)
    captions: CaptionCounts | None = None
    several: Count = 0
    empty: Count = 0
    captions_sha256: Sha256 | None = None


@dataclass(frozen=True)
class Change:
    """From which shard on a table was made in another way than before: a segment that was appended later."""

    __pydantic_config__ = FORBID

    first_shard: Annotated[int, Field(ge=1, le=2**53)]
    provenance: Provenance


@dataclass(frozen=True)
class Index:
    """``_tables/NAME.json``: how a complete table was made, and each of its files.

    ``provenance`` is that of its first file; ``changes`` are those of later segments that were ingested in another way
    (other limits, newer packages). A table that is made from the images has none: it is made in one way.

    Raises:
        ValueError: a file does not say which images it was made from; or changes that are not in order.
    """

    __pydantic_config__ = FORBID

    table: str
    provenance: Provenance
    shards: tuple[Entry, ...]
    changes: tuple[Change, ...] = ()

    def __post_init__(self) -> None:
        for shard, entry in enumerate(self.shards if self.provenance.is_aligned else ()):
            if entry.images_sha256 is None:
                raise ValueError(f"no images_sha256 in shards.{shard}")
        starts = [0, *(change.first_shard for change in self.changes), len(self.shards)]
        if self.changes and (self.provenance.is_aligned or sorted(set(starts)) != starts):
            raise ValueError("changes are not those of a table that was appended to")

    def first(self, shards: int) -> Index:
        """Of the first shards alone."""
        changes = tuple(change for change in self.changes if change.first_shard < shards)
        return replace(self, shards=self.shards[:shards], changes=changes)

    def made(self, shard: int) -> Provenance:
        """How a file was made."""
        before = [change.provenance for change in self.changes if change.first_shard <= shard]
        return before[-1] if before else self.provenance

    @property
    def rows(self) -> int:
        """Of all files."""
        return sum(entry.rows for entry in self.shards)

    @property
    def captions(self) -> CaptionCounts:
        """Of all files."""
        counts = [entry.captions for entry in self.shards if entry.captions]
        return CaptionCounts(sum(count.given for count in counts), sum(count.unread for count in counts))

    @property
    def reasons(self) -> Counter[str]:
        """Rows refused, by reason."""
        total: Counter[str] = Counter()
        for entry in self.shards:
            total.update(entry.reasons)
        return total

    @property
    def digests(self) -> list[str]:
        """sha256 of each file."""
        return [entry.sha256 for entry in self.shards]


@dataclass(frozen=True)
class Aim:
    """``_redo/_aims/NAME.json``: what a table that is made anew is to become, and how far it is."""

    __pydantic_config__ = FORBID

    aim: Sha256
    state: Literal["making", "switching", "done"]
