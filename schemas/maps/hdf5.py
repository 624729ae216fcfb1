"""Arrays in HDF5 files from elsewhere (MATLAB's .mat since 7.3 is one): sizes are checked before memory is taken.

Chunks are unpacked here and not by the HDF5 library, which lets a packed chunk grow without a bound. Links and data in
other files are not followed. What is left to the library is the file's directory.
"""

from __future__ import annotations

import itertools
import math
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, BinaryIO

import numpy as np

from ..errors import Refused, error_text

DEFLATE, SHUFFLE, CHECKSUM = 1, 2, 3  # filters, by HDF5's numbers
CHECKSUM_BYTES = 4
MOST_CHUNKS = 100_000
MAX_CHUNK = 256 * 1024 * 1024  # bytes


@contextmanager
def open_array(file: BinaryIO, name: str) -> Iterator[Any]:
    """A dataset of an HDF5 file, which has numbers of its own in that file.

    Raises:
        Refused: not_an_image, where it is no such file; wrong_kind, where it has no such dataset.
    """
    import h5py

    try:
        opened = h5py.File(file, "r")
    except Exception as error:
        raise Refused("not_an_image", f"not an HDF5 file that can be read: {error_text(error)}") from error
    with opened:
        found: Any = None
        try:
            found = opened[name] if isinstance(opened.get(name, getlink=True), h5py.HardLink) else None
            usable = isinstance(found, h5py.Dataset) and not found.is_virtual and not found.external
            usable = usable and found.dtype.kind in "fiu" and bool(found.shape) and min(found.shape) > 0
        except Exception as error:
            raise Refused("not_an_image", f"a damaged HDF5 file: {error_text(error)}") from error
        if not usable:
            raise Refused("wrong_kind", f"no array of numbers {name} in it")
        yield found


def read_array(found: Any, max_numbers: int, first: int | None = None) -> np.ndarray:
    """The numbers of a dataset, or of one entry of its first axis.

    Raises:
        Refused: too_many_pixels, truncated, unsupported_mode.
    """
    shape = found.shape if first is None else found.shape[1:]
    if math.prod(shape) > max_numbers:
        raise Refused("too_many_pixels", f"{' x '.join(map(str, shape))} numbers; the cap is {max_numbers}")
    try:
        if found.chunks is None:
            return np.asarray(found[()] if first is None else found[first])
        return _from_chunks(found, first)
    except Refused:
        raise
    except Exception as error:  # the library's errors are of many types
        raise Refused("truncated", f"its numbers cannot be read: {error_text(error)}") from error


def _from_chunks(found: Any, first: int | None) -> np.ndarray:
    shape, chunks = found.shape, found.chunks
    size = math.prod(chunks) * found.dtype.itemsize
    starts = [range(0, side, step) for side, step in zip(shape, chunks, strict=True)]
    if first is not None:
        starts[0] = range(first - first % chunks[0], first + 1, chunks[0])
    if math.prod(map(len, starts)) > MOST_CHUNKS or size > MAX_CHUNK:
        raise Refused("unsupported_mode", f"chunks of {' x '.join(map(str, chunks))} numbers")
    plan = found.id.get_create_plist()
    filters = [plan.get_filter(number)[0] for number in range(plan.get_nfilters())]
    if set(filters) - {DEFLATE, SHUFFLE, CHECKSUM}:
        raise Refused("unsupported_mode", f"filters {filters}; DEFLATE and shuffle are read")
    whole = np.empty(shape if first is None else (1, *shape[1:]), found.dtype)
    for start in itertools.product(*starts):
        skipped, data = found.id.read_direct_chunk(start)
        part = _unpacked(data, filters, skipped, size, found.dtype.itemsize)
        chunk = np.frombuffer(part, found.dtype).reshape(chunks)
        if first is not None:
            chunk = chunk[first - start[0] :][:1]
        corner = start if first is None else (0, *start[1:])
        target = tuple(slice(at, at + step) for at, step in zip(corner, chunk.shape, strict=True))
        there = whole[target]
        whole[target] = chunk[tuple(slice(0, side) for side in there.shape)]
    return whole if first is None else whole[0]


def _unpacked(data: bytes, filters: list[int], skipped: int, size: int, itemsize: int) -> bytes:
    for number in reversed(range(len(filters))):
        if skipped >> number & 1:
            continue
        if filters[number] == CHECKSUM:
            data = data[:-CHECKSUM_BYTES]
        elif filters[number] == DEFLATE:
            data = zlib.decompressobj().decompress(data, size + CHECKSUM_BYTES + 1)
        elif len(data) == size:
            data = np.frombuffer(data, np.uint8).reshape(itemsize, -1).T.tobytes()
    if len(data) != size:
        raise Refused("truncated", f"a chunk of {len(data)} bytes instead of {size}")
    return data
