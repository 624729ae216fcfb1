"""A corpus: pictures with captions, listed once, in one order, in bounded memory, and read by workers.

The listing is kept (:mod:`listing`), so that a job that goes on later works on the same shards. The first kind is in
``folder``; ``kinds`` lists them all.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Any, ClassVar, NamedTuple

from controlmill.schemas.errors import Refused

from ..engine.faults import JobFault
from .columns import Columns
from .hub import commit_of
from .passed_over import PassedOver


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
