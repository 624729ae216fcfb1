"""A folder of pictures as a corpus: how it is listed, and how its files are read.

Depth first, sorted in each folder: the order does not depend on the file system. What is not listed is counted.
"""

from __future__ import annotations

import errno
import functools
import os
from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from controlmill.schemas.errors import MillError, Refused, error_text
from controlmill.schemas.images.formats import picture_endings

from ..engine.faults import JobFault
from .captions import Read, caption_beside, fields_beside
from .columns import Columns
from .corpus import Corpus, Record, Source
from .files import read_regular
from .metadata import Metadata
from .passed_over import PassedOver
from .walk import Walk, identity

MAX_CAPTION_ERROR = 300  # characters
NOT_OF_A_FILE = frozenset(  # errors of the machine, or of the way to the disk
    getattr(errno, name)
    for name in (
        *("EMFILE", "ENFILE", "ENOMEM", "ESTALE", "ENODEV", "ENXIO", "ENOTCONN", "ETIMEDOUT", "ECONNRESET"),
        *("ECONNABORTED", "ECONNREFUSED", "EHOSTDOWN", "EHOSTUNREACH", "ENETDOWN", "ENETUNREACH"),
    )
    if hasattr(errno, name)
)


@dataclass(frozen=True)
class FolderCorpus(Corpus):
    """A folder of pictures, with captions in files beside them or in metadata files; ``address`` is its path.

    A source is a path below the folder, with forward slashes; it needs no locator.
    The size is known of every file that could be looked at.
    """

    kind = "folder"

    def list(self, passed: PassedOver | None = None, leave_out: Iterable[str] = ()) -> Iterator[Source]:
        """All pictures below the folder, by their endings in any case; see :meth:`Corpus.list`.

        A folder is listed once: links to folders are followed in the end, where they lead to what is not listed yet.
        Hidden, deleted and thumbnail folders are not looked at. Metadata files are read only where ``passed`` is given.

        Raises:
            MillError: it is not a folder, or one below it cannot be listed.
        """
        root = self.address
        if not os.path.isdir(root):
            raise MillError(no_folder(root))
        walk = Walk(
            PassedOver() if passed is None else passed, Metadata(passed, self.columns) if passed is not None else None
        )
        yield from walk_through(walk, root, {identity(folder) for folder in leave_out if os.path.isdir(folder)})

    def nothing_listed(self) -> str:
        """See :meth:`Corpus.nothing_listed`."""
        return nothing_in(self.address)

    def path(self, source: str) -> Path:
        """The path of a source. Tables come from elsewhere too, and must not lead out of the folder.

        Raises:
            Refused: the source is absolute or climbs.
        """
        return Path(self.address, *parts_below(source))

    def read(self, source: Source, max_bytes: int) -> Record:
        """A file, and the caption beside it or else the listing's; see :meth:`Corpus.read`.

        Raises:
            Refused: missing, unreadable, changed or too_many_bytes.
            JobFault: the folder, or the one that the file is in, cannot be read any more.
        """
        path = self.path(source.source)
        if source.size is not None and source.size > max_bytes:
            raise Refused("too_many_bytes", f"{source.size} bytes; the cap is {max_bytes}")
        try:
            data = read_regular(path, source.size or 0)
        except OSError as error:
            raise self.explain(error, source.source) from error
        if source.size is None:
            raise Refused("changed", "it could not be seen when it was listed")
        if len(data) != source.size:
            more = " or more" if len(data) > source.size else ""
            raise Refused("changed", f"{len(data)} bytes{more} now, {source.size} when it was listed")
        try:
            return with_texts(data, path, source, self.columns, read_regular)
        except OSError as error:
            fault = self.explain(error, source.source)
            if isinstance(fault, JobFault):
                raise fault from error
            return Record(data, caption_error=error_text(error))

    def is_as_listed(self, source: Source) -> bool:
        """Whether the file is there, with the size that it was listed with."""
        try:
            path = self.path(source.source)
            return os.path.lexists(path) if source.size is None else os.stat(path).st_size == source.size
        except (OSError, Refused):
            return False

    def as_now(self, source: Source) -> Source:
        """The source with its size and time as they are now; without them where it is not there."""
        try:
            there = os.stat(self.path(source.source))
        except (OSError, Refused):
            return source._replace(size=None, etag=None)
        return source._replace(size=there.st_size, etag=str(there.st_mtime_ns))

    def explain(self, error: OSError, source: str = "") -> JobFault | Refused:
        """Whether it is a file's own fault that it cannot be read, or that of a folder above it.

        A folder that is gone or empty (as where a disk was unmounted) is a fault of the job, and so is an error of the
        machine. Where ``source`` is given, the folders between were there when it was listed.
        """
        above = [Path(self.address)]
        for part in PurePosixPath(source).parts[:-1]:
            above.append(above[-1] / part)
        gone = [path for path in above if not _has_entries(path)]
        if gone or error.errno in NOT_OF_A_FILE:
            return JobFault(
                f"{gone[0] if gone else self.address} cannot be read any more ({error.strerror or error}): "
                "when it can, run the same command again"
            )
        if isinstance(error, FileNotFoundError):
            return Refused("missing", "no such file: gone since it was listed, or a link to nothing")
        return Refused("unreadable", error_text(error))


def _has_entries(folder: Path) -> bool:
    try:
        with os.scandir(folder) as entries:
            return next(entries, None) is not None
    except OSError:
        return False


def walk_through(walk: Walk, root: str, left_out: set[int | str]) -> Iterator[Source]:
    """The pictures in a folder and below it; ``left_out`` are identities of folders that are not looked at."""
    walk.seen.add(walk.identity(root))
    opened = [walk.open(root, "")]
    links: deque[tuple[str, str]] = deque()
    while opened:
        here = opened[-1]
        for entry in here.entries:
            name, kind = entry[:2]
            path = os.path.join(here.path, name)
            if kind == "picture":
                if source := walk.source(here, path, entry):
                    yield source
            elif kind == "link":
                links.append((path, f"{here.prefix}{name}/"))
            elif walk.is_new(path, f"{here.prefix}{name}/", left_out):
                opened.append(walk.open(path, f"{here.prefix}{name}/"))
                break
        else:
            opened.pop()
        while links and not opened:
            path, prefix = links.popleft()
            if walk.is_new(path, prefix, left_out):
                opened.append(walk.open(path, prefix))
    if walk.metadata:
        walk.metadata.close()


def with_texts(data: bytes, path: Path, source: Source, columns: Columns, read: Read) -> Record:
    """A picture with what the files beside it say; its caption is theirs, or else the listing's.

    Raises:
        OSError: one of them cannot be read.
    """
    read = functools.cache(read)
    kept = fields_beside(path, source.texts, columns.names, read) if columns.kept else {}
    try:
        return Record(data, caption_beside(path, source.texts, read, columns) or source.caption, columns=kept)
    except ValueError as error:
        return Record(data, caption_error=" ".join(str(error).split())[:MAX_CAPTION_ERROR], columns=kept)


def no_folder(address: str) -> str:
    """What a user is told where a path is of no folder, and its ending of no other kind of corpus."""
    if os.path.exists(address):
        return f"{address} is a file; what is taken: a folder, Parquet files, tars, or a list of URLs (.txt, .csv…)"
    folder, name = os.path.split(address)
    if any(char in name for char in "*?[{") and os.path.isdir(folder or "."):
        return f"{address}: no pattern of pictures is taken; give the folder: {folder or '.'}"
    return f"{address}: no such folder"


def nothing_in(address: str) -> str:
    """What a user is told where there is no picture in a folder."""
    endings = " ".join(sorted(picture_endings()))
    return (
        f"{address}: no pictures in this folder or below it; files that count end in {endings} "
        "(archives and tables are named: 'FOLDER/*.tar', 'FOLDER/*.parquet')"
    )


def parts_below(source: str) -> tuple[str, ...]:
    """The parts of a source's path.

    Raises:
        Refused: it is absolute or climbs.
    """
    parts = PurePosixPath(source).parts
    if source.startswith("/") or ".." in parts:
        raise Refused("missing", "the source is not a path below the corpus")
    return parts
