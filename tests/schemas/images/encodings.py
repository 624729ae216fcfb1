"""Pictures as files, and how tests read them."""

from __future__ import annotations

import io
import struct
import zlib
from typing import Any

import numpy as np
import pytest
from PIL import Image

from controlmill.schemas.errors import Refused
from controlmill.schemas.images.formats import Limits
from controlmill.schemas.images.pictures import open_picture

LIMITS = Limits(max_pixels=4_000_000, min_side=8)


def encoded(picture: Image.Image, kind: str = "PNG", **options: Any) -> bytes:
    out = io.BytesIO()
    picture.save(out, kind, **options)
    return out.getvalue()


def read(data: bytes, white: int | None = None) -> np.ndarray:
    return np.asarray(open_picture(data, LIMITS).picture(white).convert("RGB")).astype(int)


def reason(data: bytes, limits: Limits = LIMITS) -> str:
    with pytest.raises(Refused) as refused:
        open_picture(data, limits).picture()
    return refused.value.reason


def png(bits: int, kind: int, samples: np.ndarray, *chunks: tuple[bytes, bytes]) -> bytes:
    """A PNG of any depth and colour type; ``samples`` (H, W·channels) as they are stored."""

    def chunk(name: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    width = samples.shape[1] // {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}[kind]
    header = struct.pack(">IIBBBBB", width, samples.shape[0], bits, kind, 0, 0, 0)
    rows = b"".join(b"\0" + row.tobytes() for row in samples.astype(">u2" if bits == 16 else np.uint8))
    parts = [(b"IHDR", header), *chunks, (b"IDAT", zlib.compress(rows)), (b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunk(*part) for part in parts)
