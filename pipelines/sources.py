"""What there is to ingest: a folder's pictures, listed once, in one order, in bounded memory.

Depth first, sorted in each folder: the order does not depend on the file system. The listing is written to
``sources/`` before any work starts, so that a job that goes on later works on the same shards.
"""

from __future__ import annotations

import heapq
import json
import os
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import IO, TypeVar

from ..schemas.dataset import Dataset, shard_file
from ..schemas.errors import MillError
from ..schemas.shardfile import GROUP_ROWS, ShardWriter
from ..schemas.tables import SOURCES
from .run import Run

ENDINGS = frozenset(
    (".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".webp", ".bmp", ".gif", ".tif", ".tiff", ".avif", ".ppm", ".pgm")
)
SORT_IN_MEMORY = 50_000  # names of one folder; more are sorted on disk
CAPTION_KEYS = ("caption", "text", "prompt")
MAX_CAPTION_BYTES = 100_000
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
            stat = os.stat(path)
        except OSError:  # a dangling link, or gone since: the row is kept and refused when it is read
            yield Source(_utf8(prefix + name), -1, "")
        else:
            yield Source(_utf8(prefix + name), stat.st_size, str(stat.st_mtime_ns))


def _sorted_entries(folder: str) -> Iterator[tuple[str, bool]]:
    """(name, whether it is a folder) of the pictures and folders in a folder, sorted by name."""
    with os.scandir(folder) as entries, ExitStack() as files:
        wanted = (
            (entry.name, is_folder)
            for entry in entries
            if (is_folder := entry.is_dir()) or os.path.splitext(entry.name)[1].lower() in ENDINGS
        )
        runs: list[Iterator[tuple[str, bool]]] = []
        while part := sorted(islice(wanted, SORT_IN_MEMORY)):
            if len(part) < SORT_IN_MEMORY:
                runs.append(iter(part))
                break
            spilled = files.enter_context(tempfile.TemporaryFile("w+", encoding="utf-8", errors="surrogateescape"))
            runs.append(_spill(spilled, part))
        yield from heapq.merge(*runs)


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


def read_caption(path: Path) -> str | None:
    """The caption beside a picture: ``name.txt``, or ``caption``, ``text`` or ``prompt`` of ``name.json``.

    Raises:
        ValueError: the file is there but cannot be read as one.
    """
    for ending in (".txt", ".json"):
        beside = path.with_suffix(ending)
        try:
            if beside.stat().st_size > MAX_CAPTION_BYTES:
                raise ValueError(f"{beside.name} is larger than {MAX_CAPTION_BYTES} bytes")
            text = beside.read_text("utf-8-sig")
        except FileNotFoundError:
            continue
        if ending == ".txt":
            return text.strip()
        said = json.loads(text)
        for key in CAPTION_KEYS:
            if isinstance(said, dict) and isinstance(said.get(key), str):
                return str(said[key]).strip()
    return None
