"""What ``dataset.json``, indexes and footers hold beside the provenance: files, rows, what was refused or passed over.

Frozen dataclasses, read by :mod:`files.documents` under the rules of :mod:`provenance`.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import Literal

from pydantic import ConfigDict, with_config
from typing_extensions import TypedDict

from .bounds import Count, Rows, Sha256, Word
from .files.documents import FORBID
from .provenance import IngestRecord, Provenance


@dataclass(frozen=True)
class RejectRecord:
    """A file that ingest refused."""

    __pydantic_config__ = FORBID

    source: str
    reason: str
    error: str


@dataclass(frozen=True)
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


@dataclass(frozen=True)
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


@dataclass(frozen=True)
class Index:
    """``_tables/NAME.json``: how a complete table was made, and each of its files.

    Raises:
        ValueError: a file does not say which images it was made from.
    """

    __pydantic_config__ = FORBID

    table: str
    provenance: Provenance
    shards: tuple[Entry, ...]

    def __post_init__(self) -> None:
        for shard, entry in enumerate(self.shards if self.provenance.is_aligned else ()):
            if entry.images_sha256 is None:
                raise ValueError(f"no images_sha256 in shards.{shard}")

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


@with_config(ConfigDict(extra="forbid"))
class FileCounts(TypedDict):
    """How many files, and how many of the commonest kinds."""

    files: Count
    most: dict[str, Count]


@with_config(ConfigDict(extra="forbid"))
class PassedOverRecord(TypedDict, total=False):
    """What a listing met beside the pictures that it lists; see :class:`pipelines.corpora.corpus.PassedOver`."""

    texts: Count
    metadata: Count
    named: Count
    absent: Count
    maps: Count
    again: Count
    faults: Count
    other: FileCounts
    skipped: FileCounts
    left_out: list[str]
    notes: list[str]


@dataclass(frozen=True)
class Segment:
    """What one listing added to a dataset; ``corpus`` is the kind of corpus that was listed, such as ``folder``.

    ``listed_with`` is what the listing depends on beside the corpus's address, see
    :meth:`pipelines.corpora.corpus.Corpus.listed_with`.
    """

    __pydantic_config__ = FORBID

    first_shard: Count
    shards: Count
    rows: Count
    corpus: Word
    passed_over: PassedOverRecord | None = None
    listed_with: dict[str, str] | None = None


@dataclass(frozen=True)
class DatasetRecord:
    """``dataset.json``: what never changes, and the segments. ``shard_size`` is 0 until the corpus is listed.

    Raises:
        ValueError: segments that contradict themselves.
    """

    __pydantic_config__ = FORBID

    version: Count
    ingest: IngestRecord
    shard_size: Rows
    segments: tuple[Segment, ...]

    def __post_init__(self) -> None:
        if self.segments and not self.shard_size:
            raise ValueError("shard_size is 0, not at least 1")
        shards = 0
        for number, segment in enumerate(self.segments):
            wanted = -(-segment.rows // self.shard_size)
            if segment.first_shard != shards or segment.shards != wanted:
                raise ValueError(
                    f"segments.{number} has {segment.shards} shards from {segment.first_shard} on; "
                    f"its {segment.rows} rows make {wanted} from {shards} on"
                )
            shards += wanted

    @property
    def rows(self) -> int:
        """What was listed."""
        return sum(segment.rows for segment in self.segments)


@dataclass(frozen=True)
class LocalRecord:
    """``_local.json``: the address of the corpus that each segment was listed from, as this machine has it."""

    __pydantic_config__ = FORBID

    corpora: tuple[str, ...]


@dataclass(frozen=True)
class Aim:
    """``_redo/_aims/NAME.json``: what a table that is made anew is to become, and how far it is."""

    __pydantic_config__ = FORBID

    aim: Sha256
    state: Literal["making", "switching", "done"]
