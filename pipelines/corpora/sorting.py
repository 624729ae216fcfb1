"""Sorting in bounded memory: what is more than a part is sorted part by part on disk, then merged."""

from __future__ import annotations

import heapq
import json
import tempfile
from collections.abc import Iterable, Iterator
from typing import IO

Words = tuple[str, ...]
MOST_PARTS = 256  # files that are open at a time


def sort_on_disk(items: Iterable[Words], in_memory: int) -> Iterator[Words]:
    """Tuples of text in order, all of them taken before the first is given; at most ``in_memory`` are held.

    Text may hold surrogates, as names do that are not UTF-8.
    """
    parts: list[Iterator[Words]] = []
    held: list[Words] = []
    for item in items:
        held.append(item)
        if len(held) == in_memory:
            parts.append(_spilled(sorted(held)))
            held = []
        if len(parts) == MOST_PARTS:
            parts = [_spilled(heapq.merge(*parts))]
    held.sort()
    return heapq.merge(*parts, held) if parts else iter(held)


def _spilled(part: Iterable[Words]) -> Iterator[Words]:
    file = tempfile.TemporaryFile("w+", encoding="ascii")  # noqa: SIM115 closed when it is read
    file.writelines(json.dumps(item) + "\n" for item in part)
    file.seek(0)
    return _read_back(file)


def _read_back(file: IO[str]) -> Iterator[Words]:
    with file:
        for line in file:
            yield tuple(json.loads(line))
