"""A folder of pictures as a corpus: how it is listed, and how its files are read.

Depth first, sorted in each folder: the order does not depend on the file system. What is not listed is counted.
"""

from __future__ import annotations

import errno
import os
from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

from controlmill.schemas.errors import MillError, Refused
from controlmill.schemas.images.formats import picture_endings

from ..engine.rows import JobFault
from .captions import ENDINGS as CAPTION_ENDINGS
from .corpus import PassedOver, Source
from .files import FULL_DISK, MAKE_ROOM, open_regular
from .metadata import NAMES as METADATA_NAMES
from .metadata import Metadata
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
NOT_OF_A_FILE = frozenset(  # errors of the machine, or of the way to the disk
    getattr(errno, name)
    for name in (
        *("EMFILE", "ENFILE", "ENOMEM", "ESTALE", "ENODEV", "ENXIO", "ENOTCONN", "ETIMEDOUT", "ECONNRESET"),
        *("ECONNABORTED", "ECONNREFUSED", "EHOSTDOWN", "EHOSTUNREACH", "ENETDOWN", "ENETUNREACH"),
    )
    if hasattr(errno, name)
)

# listing


def list_folder(
    root: str | os.PathLike[str], passed: PassedOver | None = None, leave_out: Iterable[str] = ()
) -> Iterator[Source]:
    """All pictures below ``root``, by their endings in any case.

    A folder is listed once: links to folders are followed in the end, where they lead to what is not listed yet.
    Hidden, deleted and thumbnail folders are not looked at.

    Args:
        root: the folder.
        passed: counts everything else that is met, once the listing is at its end; and metadata files are read only
            where it is given.
        leave_out: folders inside ``root`` that are not part of the corpus.

    Raises:
        MillError: ``root`` is not a folder, or one below it cannot be listed.
    """
    root = os.fspath(root)
    if not os.path.isdir(root):
        raise MillError(f"{root}: no such folder")
    walk = Walk(PassedOver() if passed is None else passed, Metadata(passed) if passed is not None else None)
    walk.seen.add(_identity(root))
    left_out = {_identity(folder) for folder in leave_out if os.path.isdir(folder)}
    opened = [walk.open(root, "")]
    links: deque[tuple[str, str]] = deque()
    while opened:
        here = opened[-1]
        for name, kind in here.entries:
            path = os.path.join(here.path, name)
            if kind == "picture":
                if source := walk.source(here, path, name):
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


@dataclass
class _Folder:
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
            known = _identity(path)
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

    def open(self, path: str, prefix: str) -> _Folder:
        """A folder, with what there is in it; the pictures and folders sorted by name."""
        texts: set[str] = set()
        metadata: list[str] = []
        try:
            with os.scandir(path) as there:
                entries = sort_on_disk(self._wanted(there, texts, metadata), SORT_IN_MEMORY)
        except OSError as error:
            raise _unlistable(path, error) from error
        for name in sorted(metadata, key=METADATA_NAMES.index):
            self._read_metadata(path, prefix, name, texts)
        return _Folder(path, prefix, entries, " ".join(sorted(texts)) or None)

    def _wanted(self, there: Iterable[os.DirEntry[str]], texts: set[str], metadata: list[str]) -> Iterator[Words]:
        """(name, picture, folder or link to one); ``texts`` and ``metadata`` are filled on the way."""
        for entry in there:
            kind = self._kind(entry, texts)
            if kind == "metadata":
                metadata.append(entry.name)
            elif kind:
                yield entry.name, kind

    def _kind(self, entry: os.DirEntry[str], texts: set[str]) -> str | None:
        """What an entry is: picture, folder, link to a folder or metadata; else it is counted here."""
        name = entry.name
        is_folder = _is_folder(entry)
        if name.startswith(".") or (is_folder and name.lower() in SKIPPED_FOLDERS):
            if is_folder:
                self.passed.skipped.add(_utf8(name), _count_files(entry))
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
            with open_regular(path) as file:
                if prefix == _utf8(prefix) and self.metadata.read(file, name, prefix):
                    self.passed.metadata += 1
                else:
                    self._count(name, texts)
        except OSError as error:
            raise MillError(f"{path} cannot be read: {error.strerror}; make it readable, or move it away") from error

    def source(self, here: _Folder, path: str, name: str) -> Source | None:
        """The picture; None where metadata names it as something else."""
        address = _utf8(here.prefix + name)
        fault = NOT_UTF8 if address != here.prefix + name else None
        caption = None
        if self.metadata and not fault:
            is_photo, caption = self.metadata.look_up(address)
            if not is_photo:
                self.passed.maps += 1
                return None
        try:
            there = os.stat(path)
        except OSError:  # a dangling link, or gone since: the row is kept and refused when it is read
            size, etag = -1, ""
        else:
            size, etag = there.st_size, str(there.st_mtime_ns)
        return Source(address, size, etag, caption, here.texts, fault)


def _identity(path: str) -> int | str:
    """What tells a folder from others, by whatever path it is reached."""
    there = os.stat(path)
    return there.st_dev << 64 | there.st_ino if there.st_ino else os.path.realpath(path)


def _unlistable(path: str, error: OSError) -> MillError:
    advice = MAKE_ROOM if error.errno in FULL_DISK else "make it readable, or move it away"
    return MillError(f"{path} cannot be listed: {error.strerror}; {advice}")


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link to itself
        return False


def _count_files(folder: os.DirEntry[str]) -> int:
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


# reading


def inside(folder: str, source: str) -> Path:
    """The path of a source below a folder. Tables come from elsewhere too, and must not lead out of it.

    Raises:
        Refused: the source is absolute or climbs.
    """
    parts = PurePosixPath(source).parts
    if source.startswith("/") or ".." in parts:
        raise Refused("missing", "the source is not a path below the corpus")
    return Path(folder, *parts)


def is_as_listed(folder: str, source: Source) -> bool:
    """Whether a listed file is in a folder, with the size that it was listed with."""
    try:
        path = inside(folder, source.source)
        return os.path.lexists(path) if source.size < 0 else os.stat(path).st_size == source.size
    except (OSError, Refused):
        return False


def check_reachable(folder: str, error: OSError, source: str = "") -> None:
    """Whether it is a file's own fault that it cannot be read, or that of a folder above it.

    Args:
        folder: the root of the corpus, or of maps.
        error: what came of reading.
        source: the file's address below ``folder``, where the folders between were there when it was listed.

    Raises:
        JobFault: a folder is gone or empty (as where a disk was unmounted), or ``error`` is one of the machine.
    """
    above = [Path(folder)]
    for part in PurePosixPath(source).parts[:-1]:
        above.append(above[-1] / part)
    gone = [path for path in above if not _holds(path)]
    if gone or error.errno in NOT_OF_A_FILE:
        raise JobFault(
            f"{gone[0] if gone else folder} cannot be read any more ({error.strerror or error}): "
            "when it can, run the same command again"
        ) from error


def _holds(folder: Path) -> bool:
    try:
        with os.scandir(folder) as entries:
            return next(entries, None) is not None
    except OSError:
        return False
