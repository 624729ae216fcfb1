"""What can be read as a picture, and what the modes of a decoded one mean: upright, and as RGB."""

from __future__ import annotations

import functools
import importlib.util

import numpy as np
from PIL import Image

from .errors import Refused

ENDINGS = frozenset(
    (
        *(".jpg", ".jpeg", ".jpe", ".jfif", ".mpo", ".png", ".webp", ".bmp", ".gif"),
        *(".tif", ".tiff", ".avif", ".ppm", ".pgm"),
    )
)
HEIF_ENDINGS = frozenset((".heic", ".heif", ".hif"))
ORIENTATION = 0x0112
TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


@functools.cache
def reads_heif() -> bool:
    """Whether the package that reads HEIF (the extra ``heif``) is installed."""
    return importlib.util.find_spec("pillow_heif") is not None


def picture_endings() -> frozenset[str]:
    """The endings, in lower case, of files that can be read as pictures here."""
    return ENDINGS | HEIF_ENDINGS if reads_heif() else ENDINGS


def orientation(image: Image.Image) -> int:
    """The EXIF orientation, 1 to 8; 1 where there is none or its metadata is damaged."""
    try:
        value = image.getexif().get(ORIENTATION, 1)
    except Exception:  # metadata parsers raise nearly anything; the picture itself may be whole
        return 1
    return value if value in range(1, 9) else 1


def upright(image: Image.Image) -> Image.Image:
    """The picture, turned as its EXIF says; the rest of its metadata, which may be damaged, is not touched."""
    turn = TURNS.get(orientation(image))
    return image if turn is None else image.transpose(turn)


def to_rgb(image: Image.Image, ground: str = "white") -> Image.Image:
    """8 bits a channel, alpha over ``ground``; RGB, or L and CMYK where a profile may still be applied.

    Raises:
        Refused: unsupported_mode, where the range of the values is not known.
    """
    if image.mode in ("RGB", "L", "CMYK") and "transparency" not in image.info:
        return image
    if image.mode in ("I;16", "I;16B", "I;16L", "I;16N"):
        return _high_byte(image)
    if image.mode in ("1", "YCbCr", "HSV") and "transparency" not in image.info:
        return image.convert("RGB")
    if image.mode in ("P", "PA", "LA", "La", "RGBA", "RGBa", "RGBX", "RGB", "L", "1"):
        if image.mode in ("P", "RGBX") and "transparency" not in image.info:
            return image.convert("RGB")
        rgba = image.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", rgba.size, ground), rgba).convert("RGB")
    raise Refused("unsupported_mode", f"mode {image.mode}: the range of its values is not known")


def _high_byte(image: Image.Image) -> Image.Image:
    """16-bit grey to 8-bit (Pillow's own conversion saturates)."""
    return Image.fromarray((np.asarray(image).astype(np.uint16) >> 8).astype(np.uint8))
