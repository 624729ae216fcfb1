"""Sixteen bits have the white that their file says, and are never a black picture."""

from __future__ import annotations

import struct
from typing import Any

import numpy as np
import pytest
from PIL import Image

from tests.schemas.images.encodings import encoded, png, read, reason


def grey16(most: int = 65535) -> np.ndarray:
    return np.tile(np.linspace(0, most, 64).astype(np.uint16), (32, 1))


def tiff(values: np.ndarray, **tags: Any) -> bytes:
    return encoded(Image.fromarray(values), "TIFF", tiffinfo={int(tag[1:]): value for tag, value in tags.items()})


WANTED = np.dstack([np.tile(np.linspace(0, 255, 64), (32, 1))] * 3)


@pytest.mark.parametrize(
    ("data", "white"),
    [
        (png(16, 0, grey16()), None),
        (png(16, 0, grey16(4095), (b"sBIT", b"\x0c")), None),
        (png(16, 0, grey16(4095) << 4, (b"sBIT", b"\x0c")), None),  # scaled when it was written, as PNG wants it
        (png(16, 0, grey16(4095)), 4095),
        (tiff(grey16()), None),
        (tiff(grey16(4095), t281=4095), None),
        (tiff(grey16(1023), t281=1023), 4095),  # the file is asked first
        (tiff(grey16(4095)), 4095),
        (tiff(65535 - grey16(), t262=0), None),
        (tiff(4095 - grey16(4095), t262=0, t281=4095), None),
        (png(16, 4, np.dstack([grey16(), np.full_like(grey16(), 65535)]).reshape(32, -1)), None),
        (png(16, 2, np.repeat(grey16(), 3, axis=1)), None),
        (encoded(Image.fromarray(grey16().astype(np.int32)), "PPM"), None),
    ],
)
def test_sixteen_bits_have_the_white_that_their_file_says(data: bytes, white: int | None) -> None:
    assert np.abs(read(data, white) - WANTED).max() <= 1.5


@pytest.mark.parametrize(
    "data",
    [
        png(16, 0, grey16(4095)),
        tiff(grey16(4095)),
        png(16, 0, grey16(8000)),
        png(16, 2, np.repeat(grey16(4095), 3, axis=1)),
    ],
)
def test_sixteen_bits_of_unknown_white_are_not_taken_for_a_black_picture(data: bytes) -> None:
    assert reason(data) == "unsupported_mode"


def test_what_is_clear_in_sixteen_bits_is_white() -> None:
    values = grey16()
    key = int(values[0, 32])
    grey = read(png(16, 0, values, (b"tRNS", struct.pack(">H", key))))
    colour = read(png(16, 2, np.repeat(values, 3, axis=1), (b"tRNS", struct.pack(">HHH", key, key, key))))
    low = read(png(16, 0, values // 16, (b"sBIT", b"\x0c"), (b"tRNS", struct.pack(">H", key // 16))))
    for found in (grey, colour, low):
        assert (found[:, 32] == 255).all()
        assert np.abs(np.delete(found - WANTED, 32, axis=1)).max() <= 1.5
