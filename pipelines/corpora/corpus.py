"""A corpus: pictures with captions, listed once, in one order, in bounded memory, and read by workers.

The listing is written to ``sources/`` before any work starts, so that a job that goes on later works on the same
shards. The first kind is in ``folder``; ``kinds`` lists them all.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import Future
from dataclasses import dataclass, field
from itertools import chain, islice
from typing import Any, ClassVar, NamedTuple, TypeVar, cast

from controlmill.schemas.bounds import MAX_SHARDS
from controlmill.schemas.dataset import Dataset
from controlmill.schemas.errors import MillError, Refused
from controlmill.schemas.files.shardfile import LISTED_GROUP_ROWS
from controlmill.schemas.segments import PassedOverRecord, Segment
from controlmill.schemas.tables import SOURCES, TABLES

from ..engine.faults import JobFault
from ..engine.run_folder import Run
from .columns import Columns
from .hub import commit_of

MOST_KINDS = 10_000  # told apart while counting; dataset.json keeps the most frequent
KINDS_KEPT = 20
NOTES_KEPT = 5
LARGEST_SHARD = 512
LISTING = {"table": SOURCES, "kind": SOURCES, "listing": {"version": 4}}
SHARDS = 16  # that a small corpus is cut into, so that several workers share it
T = TypeVar("T")


class Source(NamedTuple):
    """A picture to ingest, as a corpus lists it.

    Args:
        source: its name in the corpus, with forward slashes: a path below a folder, a tar member, a URL's path. Keys of
            rows are made of it and of the bytes, so that the same name gives the same key in any kind of corpus.
        locator: where the bytes are, where the name alone does not say that, in the words of the kind: the archive and
            the byte range of a member, the file and row of a Parquet corpus, a whole URL.
        size: bytes; None where that is not known before it is read.
        etag: changes when the bytes do; None where the corpus cannot tell.
        caption: where the corpus says it apart from the picture (a metadata file, a column).
        texts: endings of the files in its folder that may be captions; see :func:`captions.caption_beside`.
        columns: JSON of the values of columns that are kept, where the listing knows them; see :mod:`columns`.
        reason: of its refusal, where the listing knows a better one than that it is missing.
        fault: why it cannot be taken, where that is known from the listing alone.
        retries_shard: the shard, and ``retries_row`` the row in the table ``rejected``, of the refusal that it follows.
    """

    source: str
    locator: str | None = None
    size: int | None = None
    etag: str | None = None
    caption: str | None = None
    texts: str | None = None
    columns: str | None = None
    reason: str | None = None
    fault: str | None = None
    retries_shard: int | None = None
    retries_row: int | None = None


@dataclass(frozen=True)
class Record:
    """What is read of a source.

    A caption that cannot be read costs the caption, not the picture, whose maps need none.

    Args:
        data: the picture's bytes, as they are stored.
        caption: None where there is none.
        caption_error: why one that is there could not be read.
        columns: values of columns to keep that were read with it, before those of the listing.
        release: to be called when the bytes are not needed any more, where their memory is counted.
    """

    data: bytes
    caption: str | None = None
    caption_error: str | None = None
    columns: Mapping[str, Any] = field(default_factory=dict)
    release: Callable[[], object] = field(default=lambda: None, repr=False, compare=False)


@dataclass(frozen=True)
class Corpus(ABC):
    """Where pictures and their captions come from: a folder, archives, tables, a list of URLs.

    Jobs carry it to their workers: it holds its address and settings only, and is picklable and hashable. What reading
    needs beside that (connections, open archives) is loaded on a worker and kept there,
    ``this_worker().once((self, …), load)``; several threads of a worker read at a time.

    Args:
        address: as a user gives it. It may be of this machine, and stays out of what may be published.
        columns: the user's choice of columns.
    """

    kind: ClassVar[str]  # as the dataset's segment has it, and messages say it: "folder"
    address: str
    columns: Columns = Columns()

    @abstractmethod
    def list(self, passed: PassedOver | None = None, leave_out: Iterable[str] = ()) -> Iterator[Source]:
        """Every picture, once, in an order that follows from the corpus alone, in memory that does not grow with it.

        Args:
            passed: counts everything else that is met, once the listing is at its end.
            leave_out: folders that are not part of the corpus, though they may be inside it.

        Raises:
            MillError: it cannot be listed; with what to do.
        """

    def kept_types(self) -> Mapping[str, str]:
        """The Arrow types of the columns to keep, where the corpus has them typed; of others the text is kept.

        Raises:
            MillError: the corpus has no such column.
        """
        return {}

    def listed_with(self) -> dict[str, str]:
        """What the listing depends on beside the address; kept in the segment, and a rerun must have the same."""
        chosen = {"image column": self.columns.image, "caption column": self.columns.caption}
        chosen["commit"] = commit_of(self.address)
        return {name: value for name, value in chosen.items() if value}

    @abstractmethod
    def nothing_listed(self) -> str:
        """What a user is told where there is no picture in it."""

    @abstractmethod
    def read(self, source: Source, max_bytes: int) -> Record:
        """The bytes and the caption of a source, in a worker's thread. A kind that downloads does so here.

        Never more than ``max_bytes`` are taken, also where the listing knows no size.

        Raises:
            Refused: this source cannot be taken; with a reason.
            JobFault: the corpus itself cannot be read any more, so that every other source would fail as well.
        """

    @property
    def most_at_once(self) -> int:
        """Sources to :meth:`begin` at a time, where reading is waiting; 0 where :meth:`read` does it."""
        return 0

    def begin(self, source: Source, max_bytes: int) -> Future[Record]:
        """Begin to read a source, and do not wait for it; the future may be cancelled. See :meth:`read`."""
        raise NotImplementedError(f"a corpus of kind {self.kind} is read in codec threads")

    @abstractmethod
    def is_as_listed(self, source: Source) -> bool:
        """Whether a source is there, and as far as can be seen without reading it, as it was listed."""

    def identity(self, source: Source) -> str:
        """What tells a source from all others of the corpus, now and when it is listed again."""
        return f"{source.source}\0{source.locator or ''}"

    def as_now(self, source: Source) -> Source:
        """A source as it would be listed now, to be read once more; as it was, where the corpus cannot tell."""
        return source

    @abstractmethod
    def explain(self, error: OSError, source: str = "") -> JobFault | Refused:
        """What an error of reading means, to be raised: a fault of one source, or of the whole corpus."""


class Counts:
    """How many files there are of each kind (an ending, a folder's name); memory is bounded whatever the names are."""

    def __init__(self) -> None:
        self.files = 0
        self._kinds: Counter[str] = Counter()

    def add(self, kind: str, files: int = 1) -> None:
        """Count some."""
        if not files:
            return
        self.files += files
        if kind in self._kinds or len(self._kinds) < MOST_KINDS:
            self._kinds[kind] += files

    def said(self) -> dict[str, Any]:
        """All of them, and the kinds that most are of."""
        most = sorted(self._kinds.items(), key=lambda item: (-item[1], item[0]))[:KINDS_KEPT]
        return {"files": self.files, "most": dict(most)}


@dataclass
class PassedOver:
    """What a listing met beside the pictures that it lists; kept in the segment, in ``dataset.json``.

    Args:
        texts: files that may be captions.
        metadata: files that say captions of many pictures.
        named: pictures that those name; ``absent`` of them are not there.
        maps: pictures that those name as something else than the photograph (a conditioning image).
        known: pictures that were listed from this corpus before, by their names.
        other: files of other endings, by ending.
        skipped: hidden files, and files in folders that are passed over, by the folder's name.
        again: folders that a link leads to, and that were listed before.
        left_out: the dataset's own folder and those of imported maps, where they are inside the corpus.
        faults: lines or whole files of metadata that are not understood; ``notes`` tell the first.
    """

    texts: int = 0
    metadata: int = 0
    named: int = 0
    absent: int = 0
    maps: int = 0
    known: int = 0
    other: Counts = field(default_factory=Counts)
    skipped: Counts = field(default_factory=Counts)
    again: int = 0
    left_out: list[str] = field(default_factory=list)
    faults: int = 0
    notes: list[str] = field(default_factory=list)

    def leave_out(self, folder: str) -> None:
        """A folder that is not part of the corpus."""
        if len(self.left_out) < NOTES_KEPT:
            self.left_out.append(folder)

    def note(self, text: str) -> None:
        """Something that was not understood."""
        self.faults += 1
        if len(self.notes) < NOTES_KEPT:
            self.notes.append(text)

    def said(self) -> PassedOverRecord:
        """As kept; what there is none of is left out."""
        counted = {name: value.said() if isinstance(value, Counts) else value for name, value in vars(self).items()}
        met = {name: value for name, value in counted.items() if value and value != {"files": 0, "most": {}}}
        return cast(PassedOverRecord, met)


def write_listing(
    dataset: Dataset,
    run: Run,
    sources: Iterator[Source],
    corpus: str,
    first_shard: int = 0,
    shard_size: int | None = None,
) -> Segment:
    """Commit the listing shard by shard.

    Args:
        dataset: where.
        run: the run that does it.
        sources: what is listed.
        corpus: the kind of corpus.
        first_shard: where the shards begin.
        shard_size: pictures in a shard; None: decided here, by the number of pictures.

    Returns:
        The segment that it makes, without what was passed over.

    Raises:
        MillError: more shards than a dataset can have.
    """
    if shard_size is None:
        first = list(islice(sources, SHARDS * LARGEST_SHARD))
        shard_size = shard_size_for(len(first))
        sources = chain(first, sources)
    shard, rows = first_shard, 0
    for part in batched(sources, shard_size):
        if shard == MAX_SHARDS:
            raise MillError(
                f"a dataset has at most {MAX_SHARDS:,} shards and with {shard_size:,} pictures in each it has more: "
                f"choose larger ones (--shard-size {4 * shard_size}), or make a dataset of each part of the corpus"
            )
        with dataset.committing(run.id, SOURCES, shard, TABLES[SOURCES].schema, LISTING) as writer:
            for group in batched(part, LISTED_GROUP_ROWS):
                writer.write_group([source._asdict() for source in group])
        shard, rows = shard + 1, rows + len(part)
    dataset.storage.keep_names(dataset.folder(SOURCES))
    return Segment(first_shard, shard - first_shard, rows, shard_size, corpus)


def shard_size_for(pictures: int) -> int:
    """Pictures in a shard of a corpus: about a 16th of it, in multiples of 16, at most 512.

    It follows from the listing alone, so that the bytes of a dataset do not depend on who makes it. Multiples of 16 are
    full batches on a CPU.
    """
    step = 16
    return min(LARGEST_SHARD, step * max(1, -(-pictures // (SHARDS * step))))


def batched(items: Iterable[T], size: int) -> Iterator[tuple[T, ...]]:
    """Tuples of ``size`` items, the last one shorter (itertools has it from Python 3.12)."""
    iterator = iter(items)
    while part := tuple(islice(iterator, size)):
        yield part
