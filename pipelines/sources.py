"""What there is to ingest: a folder's pictures, listed once, in one order, in bounded memory.

Depth first, sorted in each folder: the order does not depend on the file system. The listing is written to
``sources/`` before any work starts, so that a job that goes on later works on the same shards.
"""

from __future__ import annotations

import errno
import heapq
import json
import os
import stat
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from itertools import islice
from pathlib import Path, PurePosixPath
from typing import IO, TypeVar

from ..schemas.dataset import Dataset, shard_file
from ..schemas.errors import MillError, Refused
from ..schemas.pictures import picture_endings
from ..schemas.shardfile import GROUP_ROWS, ShardWriter
from ..schemas.tables import SOURCES
from .rows import Pointless
from .run import Run

SORT_IN_MEMORY = 50_000  # names of one folder; more are sorted on disk
CAPTION_KEYS = ("caption", "text", "prompt")
MAX_CAPTION_BYTES = 100_000
NOT_OF_A_FILE = frozenset(  # errors of the machine, or of the way to the disk
    getattr(errno, name)
    for name in (
        *("EMFILE", "ENFILE", "ENOMEM", "ESTALE", "ENODEV", "ENXIO", "ENOTCONN", "ETIMEDOUT", "ECONNRESET"),
        *("ECONNABORTED", "ECONNREFUSED", "EHOSTDOWN", "EHOSTUNREACH", "ENETDOWN", "ENETUNREACH"),
    )
    if hasattr(errno, name)
)
T = TypeVar("T")


@dataclass(frozen=True)
class Source:
    """A picture to ingest. ``source`` is its path below the corpus, with forward slashes."""

    source: str
    size: int
    etag: str


def list_folder(root: str | os.PathLike[str]) -> Iterator[Source]:
    """All files below ``root`` with the ending of a picture, in any case; links to folders are followed, loops not.

    Raises:
        MillError: ``root`` is not a folder.
    """
    if not os.path.isdir(root):
        raise MillError(f"{os.fspath(root)}: no such folder")
    yield from _walk(os.fspath(root), "", frozenset((os.path.realpath(root),)))


def _walk(folder: str, prefix: str, above: frozenset[str]) -> Iterator[Source]:
    for name, is_folder in _sorted_entries(folder):
        path = os.path.join(folder, name)
        if is_folder:
            real = os.path.realpath(path)
            if real not in above:
                yield from _walk(path, f"{prefix}{name}/", above | {real})
            continue
        try:
            there = os.stat(path)
        except OSError:  # a dangling link, or gone since: the row is kept and refused when it is read
            yield Source(_utf8(prefix + name), -1, "")
        else:
            yield Source(_utf8(prefix + name), there.st_size, str(there.st_mtime_ns))


def _sorted_entries(folder: str) -> Iterator[tuple[str, bool]]:
    """(name, whether it is a folder) of the pictures and folders in a folder, sorted by name."""
    try:
        opened = os.scandir(folder)
    except OSError as error:
        raise MillError(f"{folder} cannot be listed: {error.strerror}; make it readable, or move it away") from error
    with opened as entries, ExitStack() as files:
        endings = picture_endings()
        wanted = (
            (entry.name, is_folder)
            for entry in entries
            if (is_folder := _is_folder(entry)) or os.path.splitext(entry.name)[1].lower() in endings
        )
        runs: list[Iterator[tuple[str, bool]]] = []
        while part := sorted(islice(wanted, SORT_IN_MEMORY)):
            if len(part) < SORT_IN_MEMORY:
                runs.append(iter(part))
                break
            spilled = files.enter_context(tempfile.TemporaryFile("w+", encoding="utf-8", errors="surrogateescape"))
            runs.append(_spill(spilled, part))
        yield from heapq.merge(*runs)


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link to itself
        return False


def _spill(file: IO[str], part: list[tuple[str, bool]]) -> Iterator[tuple[str, bool]]:
    file.writelines(json.dumps(entry) + "\n" for entry in part)
    file.seek(0)
    return (tuple(json.loads(line)) for line in file)


def _utf8(name: str) -> str:
    """Names that are not UTF-8 are spelt with escapes; they cannot be opened and are refused by their row."""
    return name.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")


def write_listing(
    dataset: Dataset, run: Run, sources: Iterator[Source], provenance: Mapping[str, object]
) -> tuple[int, int]:
    """Commit the listing shard by shard.

    Returns:
        (shards, rows).
    """
    shards = rows = 0
    for part in batched(sources, dataset.config["shard_size"]):
        with dataset.storage.scratch(run.id) as scratch:
            with ShardWriter(scratch, SOURCES, {"table": "sources", "shard": shards, **provenance}) as writer:
                for group in batched(part, GROUP_ROWS * 16):
                    writer.write_group([vars(source) for source in group])
                writer.close()
            dataset.storage.commit(scratch, shard_file("sources", shards))
        shards, rows = shards + 1, rows + len(part)
    return shards, rows


def batched(items: Iterable[T], size: int) -> Iterator[tuple[T, ...]]:
    """Tuples of ``size`` items, the last one shorter (itertools has it from Python 3.12)."""
    iterator = iter(items)
    while part := tuple(islice(iterator, size)):
        yield part


def inside(folder: str, source: str) -> Path:
    """The path of a source below a folder. Tables come from elsewhere too, and must not lead out of it.

    Raises:
        Refused: the source is absolute or climbs.
    """
    parts = PurePosixPath(source).parts
    if source.startswith("/") or ".." in parts:
        raise Refused("missing", "the source is not a path below the corpus")
    return Path(folder, *parts)


def read_regular(path: Path, limit: int) -> bytes:
    """Up to ``limit`` + 1 bytes of a regular file; a pipe or a device would be read for ever.

    Raises:
        OSError: it cannot be read, or is no regular file.
    """
    if not stat.S_ISREG(path.stat().st_mode):
        raise OSError(errno.EINVAL, "not a regular file")
    with path.open("rb") as file:
        return file.read(limit + 1)


def is_as_listed(folder: str, source: Source) -> bool:
    """Whether a listed file is in a folder, with the size that it was listed with."""
    try:
        return inside(folder, source.source).stat().st_size == source.size
    except (OSError, Refused):
        return False


def check_reachable(folder: str, error: OSError) -> None:
    """Whether it is a file's own fault that it cannot be read, or that of the folder it is below.

    Raises:
        Pointless: the folder is gone or empty (as where a disk was unmounted), or ``error`` is one of the machine.
    """
    try:
        with os.scandir(folder) as entries:
            there = next(entries, None) is not None
    except OSError:
        there = False
    if not there or error.errno in NOT_OF_A_FILE:
        said = f"{folder} cannot be read any more ({error.strerror or error})"
        raise Pointless(f"{said}: when it can, run the same command again") from error


def read_caption(path: Path) -> str | None:
    """The caption beside a picture: ``name.txt``, or ``caption``, ``text`` or ``prompt`` of ``name.json``.

    Raises:
        ValueError: the file is there but cannot be read as one.
    """
    for ending in (".txt", ".json"):
        beside = path.with_suffix(ending)
        try:
            data = read_regular(beside, MAX_CAPTION_BYTES)
        except FileNotFoundError:
            continue
        if len(data) > MAX_CAPTION_BYTES:
            raise ValueError(f"{beside.name} is larger than {MAX_CAPTION_BYTES} bytes")
        text = data.decode("utf-8-sig")
        if ending == ".txt":
            return text.strip()
        try:
            said = json.loads(text)
        except RecursionError as error:
            raise ValueError("nested too deep") from error
        for key in CAPTION_KEYS:
            if isinstance(said, dict) and isinstance(said.get(key), str):
                said[key].encode()  # JSON may spell half a character, which no table can hold
                return str(said[key]).strip()
    return None
