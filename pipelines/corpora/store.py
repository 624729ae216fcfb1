"""A folder of pictures on a store that fsspec knows (``s3://``, ``gs://``, ``hf://``, ``memory://``…), as a corpus.

It is listed as a folder of this machine is, and by the same rules; links there are none.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from controlmill.schemas.errors import MillError, Refused, error_text

from ..engine.faults import JobFault
from .corpus import Corpus, Record, Source
from .folder import nothing_in, parts_below, walk_through, with_texts
from .metadata import Metadata
from .passed_over import PassedOver
from .places import Places, place_of
from .sorting import Words
from .walk import Entry, Walk


@dataclass(frozen=True)
class StoreEntry:
    """An entry of a folder of a store."""

    name: str
    path: str
    folder: bool
    facts: Words  # size, etag; '' where the store does not say

    def is_dir(self, *, follow_symlinks: bool = True) -> bool:
        """Whether it is a folder."""
        return self.folder

    def is_symlink(self) -> bool:
        """No store has links."""
        return False


@dataclass
class StoreWalk(Walk):
    """A walk through folders of a store. What a folder holds is in memory while it is sorted."""

    places: Places = Places("")

    def identity(self, path: str) -> str:
        """Its path."""
        return path

    @contextmanager
    def scan(self, path: str) -> Iterator[Iterator[Entry]]:
        """What there is in a folder."""
        found = self.places.storage.fs.ls(path, detail=True)
        self.places.storage.fs.invalidate_cache()  # which would keep every folder's listing
        yield (entry for info in found if (entry := self._entry(path, info)))

    def _entry(self, folder: str, info: dict[str, object]) -> StoreEntry | None:
        path = str(info["name"]).rstrip("/")
        name = path.rpartition("/")[2]
        if info["type"] == "directory":
            return StoreEntry(name, path, True, ())
        place = place_of(name, info)
        if path == folder or place is None:  # stores keep an object of no bytes for a folder
            return None
        return StoreEntry(name, path, False, (str(place.size), place.etag or ""))

    def open_file(self, path: str) -> BinaryIO:
        """A file, open for reading."""
        return self.places.storage.fs.open(path, "rb")

    def facts(self, path: str, entry: Words) -> tuple[int | None, str | None]:
        """(size, etag) as the store lists them."""
        return int(entry[2]), entry[3] or None

    def count_files(self, entry: Entry) -> int:
        """Files below a folder that is passed over."""
        return len(self.places.storage.fs.find(entry.path))


@dataclass(frozen=True)
class StoreCorpus(Corpus):
    """A folder of a store; ``address`` is its address. A source is a path below it."""

    kind = "store"

    @property
    def places(self) -> Places:
        """The folder's files."""
        return Places(f"{self.address.rstrip('/')}/")

    def list(self, passed: PassedOver | None = None, leave_out: Iterable[str] = ()) -> Iterator[Source]:
        """All pictures below the folder; see :meth:`FolderCorpus.list`."""
        places = self.places
        counts = PassedOver() if passed is None else passed
        walk = StoreWalk(counts, Metadata(passed, self.columns) if passed is not None else None, places=places)
        try:
            if not places.storage.fs.isdir(places.storage.path()):
                raise MillError(f"{self.address}: no such folder")
            yield from walk_through(walk, places.storage.path(), set(places.paths_of(leave_out)))
        except OSError as error:
            raise MillError(f"{self.address} cannot be listed: {error.strerror or error_text(error)}") from error

    def _is_open(self) -> bool:
        """Whether the folder itself can be looked at."""
        try:
            return bool(self.places.storage.fs.isdir(self.places.storage.path()))
        except OSError:
            return False

    def nothing_listed(self) -> str:
        """See :meth:`Corpus.nothing_listed`."""
        return nothing_in(self.address)

    def read(self, source: Source, max_bytes: int) -> Record:
        """A file, and the caption beside it or else the listing's; see :meth:`Corpus.read`.

        Raises:
            Refused: missing, changed or too_many_bytes.
            JobFault: the store does not answer.
        """
        name = "/".join(parts_below(source.source))
        size = source.size or 0
        if size > max_bytes:
            raise Refused("too_many_bytes", f"{size} bytes; the cap is {max_bytes}")
        try:
            data = self._read(Path(name), size)
        except OSError as error:
            raise self.explain(error, source.source) from error
        if len(data) != size:
            more = " or more" if len(data) > size else ""
            raise Refused("changed", f"{len(data)} bytes{more} now, {size} when it was listed")
        try:
            return with_texts(data, Path(name), source, self.columns, self._read)
        except OSError as error:
            raise self.explain(error, source.source) from error

    def _read(self, path: Path, limit: int) -> bytes:
        """Up to ``limit`` + 1 bytes of a file below the folder."""
        return self.places.read(path.as_posix(), 0, limit + 1, None)

    def is_as_listed(self, source: Source) -> bool:
        """Whether the file is there, with the size and the etag that it was listed with."""
        try:
            place = self.places.look_at("/".join(parts_below(source.source)))
        except (OSError, Refused):
            return False
        return place is not None and (place.size, place.etag) == (source.size, source.etag)

    def as_now(self, source: Source) -> Source:
        """The source with its size and etag as they are now; without them where it is not there."""
        try:
            place = self.places.look_at("/".join(parts_below(source.source)))
        except (OSError, Refused):
            place = None
        return source._replace(size=place.size if place else None, etag=place.etag if place else None)

    def explain(self, error: OSError, source: str = "") -> JobFault | Refused:
        """A file that is gone or forbidden is refused; a store that does not answer is a fault of the job."""
        if isinstance(error, FileNotFoundError):
            return Refused("missing", "no such file: gone since it was listed")
        if isinstance(error, PermissionError) and self._is_open():
            return Refused("unreadable", error_text(error))
        return JobFault(
            f"{self.address} cannot be read any more ({error.strerror or error_text(error)}): "
            "when it can, run the same command again"
        )
