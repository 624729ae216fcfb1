"""Files at an address: of this machine or of a store that fsspec knows, one file or many by ``{00..99}`` and ``*``.

A pattern's part before its first special character, up to a slash, is its root. Files are named by their path below it,
so that what a dataset keeps of them holds no path of a machine.
"""

from __future__ import annotations

import functools
import os
import posixpath
import re
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import datetime
from itertools import islice
from typing import Any, BinaryIO

from controlmill.schemas.errors import MillError, Refused, error_text
from controlmill.schemas.files.addresses import open_storage
from controlmill.schemas.files.storage import Storage

from ..engine.worker import this_worker
from .files import open_regular

SPECIAL = re.compile(r"[{*?\[]")
HIDDEN = re.compile(r"(^|/)\.")
ALTERNATIVES = re.compile(r"\{([^{}]*)\}")
NUMBERS = re.compile(r"(\d+)\.\.(\d+)")
MOST_FILES = 100_000
LOOKED_AT = 16  # files at a time
ETAGS = ("ETag", "etag", "blob_id", "md5Hash", "LastModified", "last_modified", "mtime", "created")  # the best first


@dataclass(frozen=True)
class Place:
    """A file below a root: its name, its size and what changes when it does (None where the store does not say)."""

    name: str
    size: int
    etag: str | None

    @property
    def mark(self) -> str:
        """By which it is known again."""
        return f"{self.size}:{self.etag or ''}"


@dataclass(frozen=True)
class Places:
    """The files at an address; ``address`` is a path, a pattern of paths, or either of a store (``s3://…``)."""

    address: str

    @functools.cached_property
    def root(self) -> str:
        """The folder that names begin at."""
        special = None if self._exists else SPECIAL.search(self.address)
        return posixpath.dirname(self.address[: special.start()] if special else self.address) or "."

    @functools.cached_property
    def pattern(self) -> str:
        """The address below the root."""
        return self.address[len(self.root) :].lstrip("/") if self.root != "." else self.address.removeprefix("./")

    @functools.cached_property
    def _exists(self) -> bool:
        return "://" not in self.address and os.path.lexists(self.address)

    @property
    def storage(self) -> Storage:
        """Of the root; once for each process."""
        return this_worker().once(("places", self.root), lambda: open_storage(self.root))

    def find(self, leave_out: Iterable[str] = ()) -> list[Place]:
        """The files in the order of the pattern's alternatives; those of a ``*`` sorted; each once.

        Raises:
            MillError: one that is named is not there or cannot be looked at, or there is none.
        """
        outside = tuple(f"{folder}/" for folder in self.paths_of(leave_out))
        names = [self.pattern] if self._exists else list(islice(expand(self.pattern), MOST_FILES + 1))
        if len(names) > MOST_FILES:
            raise MillError(f"{self.address}: more than {MOST_FILES:,} files")
        with ThreadPoolExecutor(LOOKED_AT) as pool:  # a store takes its time for each
            looked_at = dict(zip(names, pool.map(self._found, names), strict=True))
        missing = [name for name, places in looked_at.items() if places is None]
        if missing:
            more = f" and {len(missing) - 1:,} more of its {len(names):,} files" if len(missing) > 1 else ""
            raise MillError(f"{self.address}: no file {missing[0]}{more}")
        found: dict[str, Place] = {}
        for place in (place for places in looked_at.values() for place in places or ()):
            if not self.storage.path(place.name).startswith(outside):
                found.setdefault(place.name, place)
        if not found:
            raise MillError(f"{self.address}: no file has such a name")
        return list(found.values())

    def paths_of(self, folders: Iterable[str]) -> list[str]:
        """The paths of those folders, such as the dataset's, that are in the file system of this address."""
        if self.storage.local:
            return [os.path.abspath(folder).rstrip("/") for folder in folders]
        scheme = f"{self.address.split('://')[0]}://"
        strip = self.storage.fs._strip_protocol
        return [str(strip(folder)).rstrip("/") for folder in folders if folder.startswith(scheme)]

    def _found(self, name: str) -> list[Place] | None:
        """The files of a pattern without alternatives; None where it is the name of one that is not there."""
        if not self._exists and SPECIAL.search(name):
            return self._matching(name)
        try:
            place = self.look_at(name)
        except OSError as error:
            why = error.strerror or error_text(error)
            raise MillError(f"{self.root}/{name} cannot be looked at: {why}") from error
        return [place] if place else None

    def _matching(self, pattern: str) -> list[Place]:
        """The files of a pattern; hidden ones, and those in hidden folders, where it has such a name itself."""
        root, hidden = self.storage.path(), bool(HIDDEN.search(pattern))
        try:
            matched = self.storage.fs.glob(f"{root}/{pattern}", detail=True)
        except FileNotFoundError:
            return []
        except OSError as error:
            raise MillError(f"{self.address} cannot be listed: {error.strerror or error}") from error
        files = sorted(path for path, info in matched.items() if info["type"] == "file")
        names = {path: path[len(root) :].lstrip("/") for path in files}
        places = (self._place(name, matched[path]) for path, name in names.items() if hidden or not HIDDEN.search(name))
        return [place for place in places if place]

    def look_at(self, name: str) -> Place | None:
        """A file as it is now; None where there is none.

        Raises:
            OSError: it cannot be seen.
        """
        try:
            return self._place(name, None if self.storage.local else self.storage.fs.info(self.storage.path(name)))
        except (FileNotFoundError, NotADirectoryError):
            return None

    def _place(self, name: str, info: dict[str, Any] | None) -> Place | None:
        if self.storage.local:
            there = os.stat(self.storage.path(name))
            return Place(name, there.st_size, str(there.st_mtime_ns))
        return None if info is None else place_of(name, info)

    def path(self, name: str) -> str:
        """The path of a file in its file system. Names come from tables of anybody, and must not lead out of the root.

        Raises:
            Refused: the name is absolute or climbs.
        """
        if not name or name.startswith("/") or ".." in name.split("/"):
            raise Refused("missing", "its file is not below the corpus")
        return self.storage.path(name)

    def open(self, name: str) -> BinaryIO:
        """A file, open for reading.

        Raises:
            OSError: it cannot be opened.
            Refused: see :meth:`path`.
        """
        path = self.path(name)
        return open_regular(path) if self.storage.local else self.storage.fs.open(path, "rb")

    def read(self, name: str, start: int, end: int, mark: str | None) -> bytes:
        """Bytes of a file; fewer where it ends before.

        Raises:
            OSError: it cannot be read.
            Refused: it is not the file of this ``mark`` any more; or see :meth:`path`.
        """
        path = self.path(name)
        if not self.storage.local:
            if mark is not None:
                this_worker().once(("seen", self.root, name, mark), lambda: self._check(name, mark))
            if start == end:  # no range that can be asked for: the answer would be the whole file
                return b""
            try:
                return bytes(self.storage.fs.cat_file(path, start=start, end=end))
            except FileNotFoundError:
                raise
            except OSError:
                place = self.look_at(name)  # a store that has no bytes from there on may say so by an error
                if place is not None and place.size <= start:
                    return b""
                raise
        with open_regular(path) as file:
            there = os.fstat(file.fileno())
            self._compare(name, Place(name, there.st_size, str(there.st_mtime_ns)), mark)
            file.seek(start)
            return file.read(min(end, there.st_size) - start)

    def _check(self, name: str, mark: str | None) -> bool:
        self._compare(name, self.look_at(name), mark)
        return True

    @staticmethod
    def _compare(name: str, place: Place | None, mark: str | None) -> None:
        if place is None:
            raise FileNotFoundError(name)
        if mark is not None and place.mark != mark:
            raise Refused("changed", f"its file {name} is not as it was listed")


def place_of(name: str, info: Mapping[str, Any]) -> Place | None:
    """A file by what its store says of it; None where it is none, or of no known size."""
    if info["type"] != "file" or info.get("size") is None:
        return None
    etag = next((info[key] for key in ETAGS if info.get(key)), None)
    if isinstance(etag, datetime):  # as some stores say it in one answer, and as seconds in another
        etag = etag.timestamp()
    etag = f"{etag:.6f}" if isinstance(etag, float) else etag
    return Place(name, int(info["size"]), None if etag is None else str(etag).strip('"'))


def expand(pattern: str) -> Iterator[str]:
    """The names that ``{a,b}`` and ``{00..12}`` in a pattern stand for; numbers are as long as they are written."""
    found = next((match for match in ALTERNATIVES.finditer(pattern) if _words(match[1])), None)
    if found is None:
        yield pattern
        return
    for word in _words(found[1]) or ():
        for rest in expand(pattern[found.end() :]):
            yield f"{pattern[: found.start()]}{word}{rest}"


def _words(inside: str) -> Iterable[str] | None:
    numbers = NUMBERS.fullmatch(inside)
    if numbers:
        first, last = int(numbers[1]), int(numbers[2])
        step = 1 if first <= last else -1
        padded = any(word.startswith("0") and len(word) > 1 for word in numbers.groups())
        width = max(map(len, numbers.groups())) if padded else 0
        return (f"{number:0{width}d}" for number in range(first, last + step, step))
    return inside.split(",") if "," in inside else None
