"""What was listed, segment by segment: ``dataset.json``, and what this machine knows of it beside that.

Frozen dataclasses, read by :mod:`files.documents` under the rules of :mod:`provenance`.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

from pydantic import ConfigDict, with_config
from typing_extensions import TypedDict

from .bounds import Count, Sha256, ShardSize, Word
from .files.documents import FORBID
from .provenance import IngestRecord

OF_ALL_SEGMENTS = ("resolution", "fit", "columns")  # settings of ingest that a dataset has once


@with_config(ConfigDict(extra="forbid"))
class FileCounts(TypedDict):
    """How many files, and how many of the commonest kinds."""

    files: Count
    most: dict[str, Count]


@with_config(ConfigDict(extra="forbid"))
class PassedOverRecord(TypedDict, total=False):
    """What a listing met beside the pictures that it lists; see :class:`pipelines.corpora.passed_over.PassedOver`."""

    texts: Count
    metadata: Count
    named: Count
    absent: Count
    maps: Count
    known: Count
    again: Count
    faults: Count
    other: FileCounts
    skipped: FileCounts
    left_out: list[str]
    notes: list[str]


@dataclass(frozen=True)
class Segment:
    """What one listing added to a dataset: an ingest's, an extend's or a retry's.

    Args:
        first_shard: where its shards begin.
        shards: how many it has.
        rows: pictures that were listed.
        shard_size: pictures in each of its shards but the last, which may have fewer.
        corpus: the kind of corpus that was listed, such as ``folder``.
        passed_over: what the listing met beside the pictures.
        listed_with: what the listing depends on beside the corpus's address, see
            :meth:`pipelines.corpora.corpus.Corpus.listed_with`.
        ingest: its settings, where they are not the dataset's.
        retries: of a retry, the number of the segment whose refused pictures it takes again.
        retried: of a retry, how many it takes again, by the reason that they were refused for.
    """

    __pydantic_config__ = FORBID

    first_shard: Count
    shards: Count
    rows: Count
    shard_size: ShardSize
    corpus: Word
    passed_over: PassedOverRecord | None = None
    listed_with: dict[str, str] | None = None
    ingest: IngestRecord | None = None
    retries: Count | None = None
    retried: dict[str, Count] = field(default_factory=dict)

    @property
    def range(self) -> range:
        """Its shards."""
        return range(self.first_shard, self.first_shard + self.shards)


@dataclass(frozen=True)
class DatasetRecord:
    """``dataset.json``: what never changes, and the segments, to which more are appended.

    ``ingest`` are the settings that the dataset was begun with; a segment may have others, but for the geometry.

    Raises:
        ValueError: segments that contradict themselves.
    """

    __pydantic_config__ = FORBID

    version: Count
    ingest: IngestRecord
    segments: tuple[Segment, ...]

    def __post_init__(self) -> None:
        shards = 0
        for number, segment in enumerate(self.segments):
            wanted = -(-segment.rows // segment.shard_size)
            if segment.first_shard != shards or segment.shards != wanted:
                raise ValueError(
                    f"segments.{number} has {segment.shards} shards from {segment.first_shard} on; "
                    f"its {segment.rows} rows make {wanted} from {shards} on"
                )
            shards += wanted
            same = {name: getattr(self.ingest, name) for name in OF_ALL_SEGMENTS}
            if {name: getattr(self.ingest_of(number), name) for name in OF_ALL_SEGMENTS} != same:
                raise ValueError(f"segments.{number}.ingest has other {', '.join(OF_ALL_SEGMENTS)} than the dataset")
            if segment.retries is None:
                continue
            if not (segment.retries < number and self.segments[segment.retries].retries is None):
                raise ValueError(f"segments.{number}.retries is {segment.retries}, which is no segment to retry")
            if sum(segment.retried.values()) != segment.rows:
                raise ValueError(f"segments.{number}.retried does not add up to its {segment.rows} rows")

    @property
    def shards(self) -> int:
        """Shards of all segments."""
        return sum(segment.shards for segment in self.segments)

    @property
    def rows(self) -> int:
        """What was listed; what is taken again counts once."""
        return sum(segment.rows for segment in self.segments if segment.retries is None)

    @property
    def retried(self) -> Counter[str]:
        """How many refusals do not count any more because the picture was taken again, by their reasons."""
        total: Counter[str] = Counter()
        for segment in self.segments:
            total.update(segment.retried)
        return total

    def segment_of(self, shard: int) -> int:
        """The number of the segment that a shard belongs to.

        Raises:
            IndexError: there is no such shard.
        """
        for number, segment in enumerate(self.segments):
            if shard in segment.range:
                return number
        raise IndexError(f"no shard {shard}")

    def ingest_of(self, segment: int) -> IngestRecord:
        """The settings of a segment, by its number."""
        return self.segments[segment].ingest or self.ingest


@dataclass(frozen=True)
class LocalRecord:
    """``_local.json``: the address of the corpus that each segment was listed from, as this machine has it.

    An empty one is not known here.
    """

    __pydantic_config__ = FORBID

    corpora: tuple[str, ...]


@dataclass(frozen=True)
class Growing:
    """``_growing.json``: what an extend or a retry under way was asked for; how many ``segments`` there were before."""

    __pydantic_config__ = FORBID

    aim: Sha256
    segments: Count
