"""Walking a folder of pictures: what each entry is, and what is counted instead of listed."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import BinaryIO, Protocol

from controlmill.schemas.errors import MillError
from controlmill.schemas.images.formats import picture_endings

from .captions import ENDINGS as CAPTION_ENDINGS
from .corpus import Source
from .files import FULL_DISK, MAKE_ROOM, open_regular
from .metadata import NAMES as METADATA_NAMES
from .metadata import Metadata
from .passed_over import PassedOver
from .sorting import Words, sort_on_disk

SORT_IN_MEMORY = 50_000  # names of one folder; more are sorted on disk
SKIPPED_FOLDERS = frozenset(  # beside those that begin with a dot; in lower case
    (
        *("@eadir", "#recycle", "#snapshot", "@recycle"),  # of network drives: thumbnails, what was deleted, copies
        *("__macosx", "$recycle.bin", "system volume information", "lost+found"),
    )
)
LONGEST_ENDING = 16  # longer ones are counted as "other"
NOT_UTF8 = "its name is not UTF-8: rename it"


class Entry(Protocol):
    """An entry of a folder, as :func:`os.scandir` gives it. One of a store has ``facts`` too: its size and etag."""

    @property
    def name(self) -> str:
        """Its name."""

    @property
    def path(self) -> str:
        """Its path."""

    def is_dir(self, *, follow_symlinks: bool = True) -> bool:
        """Whether it is a folder."""

    def is_symlink(self) -> bool:
        """Whether it is a link."""


@dataclass
class Folder:
    """A folder that is being walked: its pictures and folders still to come, in their order."""

    path: str
    prefix: str
    entries: Iterator[Words]
    texts: str | None  # endings of its files that may be captions


@dataclass
class Walk:
    """What a walk knows. ``seen`` takes some 70 bytes a folder."""

    passed: PassedOver
    metadata: Metadata | None
    pictures: frozenset[str] = field(default_factory=picture_endings)
    seen: set[int | str] = field(default_factory=set)

    def is_new(self, path: str, address: str, left_out: set[int | str]) -> bool:
        """Whether a folder is to be walked."""
        try:
            known = self.identity(path)
        except OSError as error:
            raise _unlistable(path, error) from error
        if known in left_out:
            self.passed.leave_out(_utf8(address))
        elif known in self.seen:
            self.passed.again += 1
        else:
            self.seen.add(known)
            return True
        return False

    def open(self, path: str, prefix: str) -> Folder:
        """A folder, with what there is in it; the pictures and folders sorted by name."""
        texts: set[str] = set()
        metadata: list[str] = []
        try:
            with self.scan(path) as there:
                entries = sort_on_disk(self._wanted(there, texts, metadata), SORT_IN_MEMORY)
        except OSError as error:
            raise _unlistable(path, error) from error
        for name in sorted(metadata, key=METADATA_NAMES.index):
            self._read_metadata(path, prefix, name, texts)
        return Folder(path, prefix, entries, " ".join(sorted(texts)) or None)

    # where the folders are: a store's differ in these

    def identity(self, path: str) -> int | str:
        """What tells a folder from others."""
        return identity(path)

    def scan(self, path: str) -> AbstractContextManager[Iterator[Entry]]:
        """What there is in a folder."""
        return os.scandir(path)

    def open_file(self, path: str) -> BinaryIO:
        """A file, open for reading."""
        return open_regular(path)

    def facts(self, path: str, entry: Words) -> tuple[int | None, str | None]:
        """(size, etag) of a picture by its entry; None where it cannot be seen."""
        try:
            there = os.stat(path)
        except OSError:  # a dangling link, or gone since: the row is kept and refused when it is read
            return None, None
        return there.st_size, str(there.st_mtime_ns)

    def count_files(self, entry: Entry) -> int:
        """Files below a folder that is passed over."""
        return _count_files(entry)

    def _wanted(self, there: Iterable[Entry], texts: set[str], metadata: list[str]) -> Iterator[Words]:
        """(name, picture, folder or link to one, …); ``texts`` and ``metadata`` are filled on the way."""
        for entry in there:
            kind = self._kind(entry, texts)
            if kind == "metadata":
                metadata.append(entry.name)
            elif kind:
                yield entry.name, kind, *getattr(entry, "facts", ())

    def _kind(self, entry: Entry, texts: set[str]) -> str | None:
        """What an entry is: picture, folder, link to a folder or metadata; else it is counted here."""
        name = entry.name
        is_folder = _is_folder(entry)
        if is_skipped(name) if is_folder else name.startswith("."):
            if is_folder:
                self.passed.skipped.add(_utf8(name), self.count_files(entry))
            else:
                self.passed.skipped.add("hidden files")
            return None
        if is_folder:
            return "link" if entry.is_symlink() else "folder"
        ending = os.path.splitext(name)[1].lower()
        if ending in self.pictures:
            return "picture"
        if self.metadata and name in METADATA_NAMES:
            return "metadata"
        self._count(name, texts)
        return None

    def _count(self, name: str, texts: set[str]) -> None:
        stem, ending = os.path.splitext(name)
        lower = ending.lower()
        if lower in CAPTION_ENDINGS:
            self.passed.texts += 1
            texts.add(ending)
            if os.path.splitext(stem)[1].lower() in self.pictures:
                texts.add(f"+{ending}")
        else:
            shown = lower if len(lower) <= LONGEST_ENDING else "other"
            self.passed.other.add(_utf8(shown) or "no ending")

    def _read_metadata(self, path: str, prefix: str, name: str, texts: set[str]) -> None:
        """Below a name that is not UTF-8 nothing is taken, and its spelling may be another folder's."""
        path = os.path.join(path, name)
        assert self.metadata is not None
        try:
            with self.open_file(path) as file:
                if prefix == _utf8(prefix) and self.metadata.read(file, name, prefix):
                    self.passed.metadata += 1
                else:
                    self._count(name, texts)
        except OSError as error:
            raise MillError(f"{path} cannot be read: {error.strerror}; make it readable, or move it away") from error

    def source(self, here: Folder, path: str, entry: Words) -> Source | None:
        """The picture; None where metadata names it as something else."""
        name = entry[0]
        address = _utf8(here.prefix + name)
        fault = NOT_UTF8 if address != here.prefix + name else None
        caption = columns = None
        if self.metadata and not fault:
            is_photo, caption, columns = self.metadata.look_up(address)
            if not is_photo:
                self.passed.maps += 1
                return None
        size, etag = self.facts(path, entry)
        return Source(address, None, size, etag, caption, here.texts, columns, fault=fault)


def is_skipped(folder: str) -> bool:
    """Whether a folder of such a name is passed over, with all that is in it."""
    return folder.startswith(".") or folder.lower() in SKIPPED_FOLDERS


def identity(path: str) -> int | str:
    """What tells a folder from others, by whatever path it is reached."""
    there = os.stat(path)
    return there.st_dev << 64 | there.st_ino if there.st_ino else os.path.realpath(path)


def _unlistable(path: str, error: OSError) -> MillError:
    advice = MAKE_ROOM if error.errno in FULL_DISK else "make it readable, or move it away"
    return MillError(f"{path} cannot be listed: {error.strerror}; {advice}")


def _is_folder(entry: Entry) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link to itself
        return False


def _count_files(folder: Entry) -> int:
    """Files below a folder that is passed over; links in it are not followed."""
    count, todo = 0, [] if folder.is_symlink() else [folder.path]
    while todo:
        try:
            with os.scandir(todo.pop()) as entries:
                for entry in entries:
                    if entry.is_dir(follow_symlinks=False):
                        todo.append(entry.path)
                    else:
                        count += 1
        except OSError:  # not ours to look at
            continue
    return count


def _utf8(name: str) -> str:
    """Names that are not UTF-8 are spelt with escapes; such a spelling is shown, and never opened."""
    return name.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
