"""Which files are read as pictures, and what is refused before they are. Light: nothing here needs an image library."""

from __future__ import annotations

import functools
import importlib.util
from dataclasses import dataclass
from typing import Literal

Fit = Literal["crop", "bucket", "none"]  # see pixels.fit_box
ENDINGS = frozenset(
    (
        *(".jpg", ".jpeg", ".jpe", ".jfif", ".mpo", ".png", ".webp", ".bmp", ".gif"),
        *(".tif", ".tiff", ".avif", ".ppm", ".pgm"),
    )
)
HEIF_ENDINGS = frozenset((".heic", ".heif", ".hif"))
HEIF_BRANDS = (b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"hevm", b"hevs")
FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "GIF", "TIFF", "AVIF", "PPM", "HEIF")  # an MPO is opened as a JPEG
HEAD_BYTES = 16  # that tell a picture's format
HEADS = (b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n", b"GIF8", b"BM", b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
STORED_FORMATS = ("JPEG", "PNG", "WEBP")
BOXED = ("AVIF", "HEIF")


@dataclass(frozen=True)
class Limits:
    """What is refused unseen."""

    max_pixels: int = 64_000_000
    max_bytes: int = 256 * 1024 * 1024
    min_side: int = 64


@functools.cache
def reads_heif() -> bool:
    """Whether the package that reads HEIF (the extra ``heif``) is installed."""
    return importlib.util.find_spec("pillow_heif") is not None


@functools.cache
def picture_endings() -> frozenset[str]:
    """The endings, in lower case, of files that can be read as pictures here."""
    return ENDINGS | HEIF_ENDINGS if reads_heif() else ENDINGS


def begins_like_a_picture(head: bytes) -> bool:
    """Whether the first :data:`HEAD_BYTES` of a file may be those of a format that is read, or that can be."""
    if head[:1] == b"P" and head[1:2] in b"123456" and head[2:3].isspace():
        return True
    boxed = head[4:8] == b"ftyp" or (head[:4] == b"RIFF" and head[8:12] == b"WEBP")
    return head.startswith(HEADS) or boxed
