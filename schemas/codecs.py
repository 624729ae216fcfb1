"""Pixels to bytes and back, by kind of map. Maps are lossless PNG; pictures are JPEG 95 4:4:4.

OpenCV at level 1 with run-length encoding writes a map 5 to 10 times faster than the usual PNG settings at about the
same size. Labels go through Pillow: a palette PNG whose ids are the truth and whose colours only paint them.
"""

from __future__ import annotations

import io

import cv2
import numpy as np
from PIL import Image

from .conditions import Kind

PNG = (cv2.IMWRITE_PNG_COMPRESSION, 1, cv2.IMWRITE_PNG_STRATEGY, cv2.IMWRITE_PNG_STRATEGY_RLE)
BILEVEL = (*PNG, cv2.IMWRITE_PNG_BILEVEL, 1)
JPEG_QUALITY = 95
LAYOUTS = {
    "binary": (np.uint8, 2),
    "gray8": (np.uint8, 2),
    "gray16": (np.uint16, 2),
    "rgb": (np.uint8, 3),
    "labels": (np.uint8, 2),
}


def encode_map(
    kind: Kind, array: np.ndarray, size: tuple[int, int] | None = None, palette: bytes | None = None
) -> bytes:
    """A map as PNG.

    Args:
        kind: which layout ``array`` must have: uint8 or uint16, (H, W), or (H, W, 3) in RGB order. Binary maps hold
            0 and 255 only.
        array: the map.
        size: (height, width) of the image that it belongs to.
        palette: 768 bytes of RGB for labels; by default :func:`label_palette`.

    Raises:
        ValueError: wrong dtype, shape or values.
    """
    check_map(kind, array, size)
    if kind == "labels":
        picture = Image.fromarray(array)
        picture.putpalette(palette or label_palette())
        out = io.BytesIO()
        picture.save(out, "PNG", compress_level=1)
        return out.getvalue()
    if kind == "rgb":
        array = cv2.cvtColor(array, cv2.COLOR_RGB2BGR)
    done, data = cv2.imencode(".png", array, BILEVEL if kind == "binary" else PNG)
    if not done:
        raise ValueError(f"OpenCV could not encode a {kind} map of shape {array.shape}")
    return data.tobytes()


def check_map(kind: Kind, array: np.ndarray, size: tuple[int, int] | None = None) -> None:
    """Raise ValueError where ``array`` is not a map of this kind and size."""
    dtype, dimensions = LAYOUTS[kind]
    if array.dtype != dtype or array.ndim != dimensions or (dimensions == 3 and array.shape[2] != 3):
        wanted = f"{np.dtype(dtype).name} with {'(H, W, 3)' if dimensions == 3 else '(H, W)'}"
        raise ValueError(f"a {kind} map is {wanted}, not {array.dtype} {array.shape}")
    if size is not None and array.shape[:2] != tuple(size):
        raise ValueError(f"the map is {array.shape[1]}x{array.shape[0]}, its image {size[1]}x{size[0]}")
    if kind == "binary" and int(np.count_nonzero(array)) != int(np.count_nonzero(array == 255)):
        raise ValueError("a binary map holds 0 and 255 only")


def decode_map(kind: Kind, data: bytes) -> np.ndarray:
    """The array that :func:`encode_map` was given.

    Raises:
        ValueError: the bytes are no picture, or one of another kind.
    """
    if kind == "labels":
        with Image.open(io.BytesIO(data), formats=("PNG",)) as picture:
            array = np.asarray(picture)
    else:
        decoded = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
        if decoded is None:
            raise ValueError("the map's bytes are not a picture")
        array = cv2.cvtColor(decoded, cv2.COLOR_BGR2RGB) if kind == "rgb" and decoded.ndim == 3 else decoded
    check_map(kind, array)
    return array


def encode_image(picture: Image.Image) -> bytes:
    """An RGB picture as JPEG, quality 95, 4:4:4, without metadata."""
    out = io.BytesIO()
    Image.fromarray(np.asarray(picture)).save(out, "JPEG", quality=JPEG_QUALITY, subsampling=0)
    return out.getvalue()


def decode_image(data: bytes) -> np.ndarray:
    """Stored picture bytes as uint8 (H, W, 3), RGB."""
    with Image.open(io.BytesIO(data)) as picture:
        return np.asarray(picture.convert("RGB"))


def label_palette() -> bytes:
    """256 distinct RGB colours by spreading the bits of the id over the channels (the PASCAL VOC scheme)."""
    ids = np.arange(256)
    colours = np.zeros((256, 3), np.uint8)
    for step in range(8):
        for channel in range(3):
            colours[:, channel] |= (((ids >> (3 * step + channel)) & 1) << (7 - step)).astype(np.uint8)
    return colours.tobytes()
