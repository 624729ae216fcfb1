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
