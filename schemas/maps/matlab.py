"""MATLAB's .mat files of version 5 from elsewhere: numbers, cells, structs; sizes are checked before memory is taken.

Source: MathWorks, "MAT-File Format", 2019. Files of version 7.3 are HDF5 (:mod:`maps.hdf5`).
"""

from __future__ import annotations

import math
import struct
import zlib
from typing import Any

import numpy as np

from ..errors import Refused

HEADER = 128
MATRIX, COMPRESSED = 14, 15
TYPES = {1: "i1", 2: "u1", 3: "i2", 4: "u2", 5: "i4", 6: "u4", 7: "f4", 9: "f8", 12: "i8", 13: "u8"}
CELL, STRUCT = 1, 2
NUMBERS = range(6, 16)  # classes of arrays of numbers
NAME_BYTES = 64  # the longest name of a field, with its end
DEEPEST = 8
MOST_ENTRIES = 10_000  # of a cell


def load_variables(data: bytes, max_bytes: int) -> dict[str, Any]:
    """Name → value of each variable: an array of numbers, a list for a cell, a dict for a struct (of one entry).

    Args:
        data: the file.
        max_bytes: that it may unfold to.

    Raises:
        Refused: not_an_image, where it is no such file, or damaged; too_many_bytes; wrong_kind, where it holds objects.
    """
    if len(data) < HEADER or data[124:128] != b"\x00\x01IM":
        raise Refused("not_an_image", "not a .mat file of version 5")
    found, at, left = {}, HEADER, max_bytes
    try:
        while at < len(data):
            kind, body, at = _element(data, at, len(data))
            if kind == COMPRESSED:
                whole = zlib.decompressobj().decompress(body, left + 1)
                if len(whole) > left:
                    raise Refused("too_many_bytes", f"it unfolds to more than {max_bytes} bytes, the cap")
                left -= len(whole)
                kind, body, _ = _element(whole, 0, len(whole))
            if kind == MATRIX:
                name, value = _matrix(body, 0)
                found[name] = value
    except (struct.error, zlib.error, ValueError, IndexError, KeyError) as error:
        raise Refused("not_an_image", f"a damaged .mat file: {error}") from error
    return found


def _element(data: bytes, at: int, end: int) -> tuple[int, bytes, int]:
    """(type, contents, where the next one begins)."""
    first, size = struct.unpack_from("<II", data, at)
    if first >> 16:  # a small one: size and contents within its 8 bytes
        return first & 0xFFFF, data[at + 4 : at + 4 + min(first >> 16, 4)], at + 8
    if at + 8 + size > end:
        raise ValueError("an element is longer than what it is in")
    padded = 0 if first == COMPRESSED else -size % 8
    return first, data[at + 8 : at + 8 + size], at + 8 + size + padded


def _matrix(body: bytes, depth: int) -> tuple[str, Any]:
    """(name, value) of an array."""
    if depth > DEEPEST:
        raise ValueError("nested too deep")
    if not body:
        return "", np.zeros((0, 0))
    _, flags, at = _element(body, 0, len(body))
    _, sizes, at = _element(body, at, len(body))
    _, name, at = _element(body, at, len(body))
    kind, shape = flags[0], struct.unpack(f"<{len(sizes) // 4}i", sizes)
    text = name.decode("ascii", "replace")
    if len(shape) < 2 or min(shape) < 0:
        raise ValueError(f"an array of {shape}")
    if kind == CELL:
        return text, _entries(body, at, math.prod(shape), depth)
    if kind == STRUCT:
        _, length, at = _element(body, at, len(body))
        (size,) = struct.unpack("<i", length)
        _, names, at = _element(body, at, len(body))
        if not 0 < size <= NAME_BYTES or math.prod(shape) != 1:
            raise ValueError("a struct of several entries, or with long names")
        fields = [names[i : i + size].split(b"\0")[0].decode("ascii", "replace") for i in range(0, len(names), size)]
        return text, dict(zip(fields, _entries(body, at, len(fields), depth), strict=True))
    if kind not in NUMBERS:
        raise Refused("wrong_kind", f"it holds something of class {kind}, no numbers")
    stored, values, _ = _element(body, at, len(body))
    array = np.frombuffer(values, f"<{TYPES[stored]}")
    return text, array.reshape(shape, order="F")  # ValueError where they are not as many


def _entries(body: bytes, at: int, count: int, depth: int) -> list[Any]:
    if count > MOST_ENTRIES:
        raise ValueError(f"{count} entries")
    found = []
    for _ in range(count):
        _, entry, at = _element(body, at, len(body))
        found.append(_matrix(entry, depth + 1)[1])
    return found
