"""Pixels to bytes and back, as a dataset stores them. Maps are lossless PNG, by kind; pictures are JPEG 95 4:4:4.

OpenCV at level 1 with run-length encoding writes a map 5 to 10 times faster than the usual PNG settings at about the
same size. Labels go through Pillow: a palette PNG whose ids are the truth and whose colours only paint them.
"""

from __future__ import annotations

import io

import cv2
import numpy as np
from PIL import Image

from ..errors import Refused
from ..kinds import Kind
from ..maps.labels import label_palette
from .colour import to_srgb
from .formats import STORED_FORMATS, Limits
from .pictures import Opened, check_size, open_picture
from .scaling import scaled

PNG = (cv2.IMWRITE_PNG_COMPRESSION, 1, cv2.IMWRITE_PNG_STRATEGY, cv2.IMWRITE_PNG_STRATEGY_RLE)
BILEVEL = (*PNG, cv2.IMWRITE_PNG_BILEVEL, 1)
JPEG_QUALITY = 95
KEPT_FORMATS = {"JPEG": "jpg", "PNG": "png", "WEBP": "webp"}
KEPT_BYTES_PER_PIXEL, KEPT_BYTES = 4, 65536  # a file far larger than its pixels carries something else
DRAFT_FACTOR = 1.5  # reduced JPEG decoding stays this much above the target; an exact one costs 10 dB
STORED = Limits(max_pixels=128_000_000, min_side=1)  # of what a dataset holds, whoever made it
MODES = {"binary": ("1", "L"), "gray8": ("L",), "gray16": ("I;16",), "rgb": ("RGB",), "labels": ("P", "L", "1")}
Box = tuple[int, int, int, int]  # x, y, width, height
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


def decode_map(kind: Kind, data: bytes, size: tuple[int, int] | None = None) -> np.ndarray:
    """The array that :func:`encode_map` was given.

    Args:
        kind: what the map is.
        data: the stored bytes, a PNG.
        size: (height, width) that it must have, compared with the header before anything is decoded.

    Raises:
        ValueError: the bytes are no PNG, damaged, of another size, or of another kind.
    """
    opened = _open_stored(data, size, ("PNG",))
    if opened.image.mode not in MODES[kind] or (kind == "rgb" and opened.is_deep()):
        raise ValueError(f"is a picture of mode {opened.image.mode}, not a {kind} map")
    if kind == "labels":
        array = np.asarray(_decoded(opened))
    else:
        decoded = cv2.imdecode(np.frombuffer(opened.data, np.uint8), cv2.IMREAD_UNCHANGED)
        if decoded is None:
            raise ValueError("cannot be decoded by OpenCV")
        array = cv2.cvtColor(decoded, cv2.COLOR_BGR2RGB) if kind == "rgb" and decoded.ndim == 3 else decoded
    check_map(kind, array)
    return array


def stored_picture(
    opened: Opened, box: Box, size: tuple[int, int], white: int | None = None, lossless: bool = False
) -> tuple[bytes, str]:
    """A window of a picture as a dataset stores it, and the file ending. Bytes that need no change are kept.

    Args:
        opened: the picture, not decoded yet.
        box: x, y, width, height of the window, in pixels of the upright picture.
        size: (width, height) that it is scaled to, by Lanczos.
        white: the value of white in 16-bit greys whose file does not say it.
        lossless: whether what is not kept becomes a PNG instead of a JPEG.

    Raises:
        Refused: truncated, unsupported_mode, out_of_memory; too_many_pixels, for more than a dataset may hold.
    """
    check_size(size, STORED)
    image, profile = opened.image, opened.profile()
    keep = (
        image.format in KEPT_FORMATS
        and image.mode == "RGB"
        and "transparency" not in image.info
        and getattr(image, "n_frames", 1) == 1
        and opened.turn == 1
        and opened.is_srgb()
        and len(opened.data) <= KEPT_BYTES_PER_PIXEL * image.width * image.height + KEPT_BYTES
        and (*size, 0, 0) == (*opened.size, *box[:2])
    )
    decoded = opened.picture(white)  # of what is kept as well: a truncated file shows here
    if keep:
        return opened.data, KEPT_FORMATS[str(image.format)]
    picture = to_srgb(cut(decoded, opened.size, box, size), profile)
    return (encode_map("rgb", np.asarray(picture)), "png") if lossless else (encode_image(picture), "jpg")


def centred(width: int, height: int, size: tuple[int, int]) -> Box:
    """The largest window of the aspect of ``size`` (width, height) around the middle of a picture."""
    scale = min(width / size[0], height / size[1])
    w, h = min(width, max(1, round(size[0] * scale))), min(height, max(1, round(size[1] * scale)))
    return (width - w) // 2, (height - h) // 2, w, h


def draft_factor(box: Box, size: tuple[int, int]) -> float:
    """How much of its sides a picture may lose while it is decoded, where a window is scaled to ``size`` afterwards."""
    return DRAFT_FACTOR * max(size[0] / box[2], size[1] / box[3])


def cut(image: Image.Image, original: tuple[int, int], box: Box, size: tuple[int, int]) -> Image.Image:
    """The window ``box``, given in pixels of the ``original`` size, scaled to ``size`` by Lanczos."""
    x, y, w, h = box
    if image.size == original == size:
        return image
    fx, fy = image.width / original[0], image.height / original[1]
    window = (x * fx, y * fy, min((x + w) * fx, image.width), min((y + h) * fy, image.height))
    return scaled(image, window, size)


def map_picture(kind: Kind, data: bytes, size: tuple[int, int] | None = None) -> Image.Image:
    """A stored map as it looks, RGB: labels in their palette's colours, 16 bits as their upper 8.

    Raises:
        ValueError: as :func:`decode_map`.
    """
    if kind == "labels":
        return _decoded(_open_stored(data, size, ("PNG",))).convert("RGB")
    array = decode_map(kind, data, size)
    return Image.fromarray((array >> 8).astype(np.uint8) if kind == "gray16" else array).convert("RGB")


def encode_image(picture: Image.Image) -> bytes:
    """An RGB picture as JPEG, quality 95, 4:4:4, without metadata."""
    out, bare = io.BytesIO(), picture.copy()
    bare.info.clear()
    bare.save(out, "JPEG", quality=JPEG_QUALITY, subsampling=0)
    return out.getvalue()


def decode_image(data: bytes, size: tuple[int, int] | None = None) -> np.ndarray:
    """Stored picture bytes as uint8 (H, W, 3), RGB. ``size`` is (height, width) that the header must say.

    Raises:
        ValueError: no picture that a dataset stores, damaged, or of another size.
    """
    opened = _open_stored(data, size, STORED_FORMATS)
    if opened.image.mode != "RGB":
        raise ValueError(f"is a picture of mode {opened.image.mode}, not RGB")
    return np.asarray(_decoded(opened))


def _open_stored(data: bytes, size: tuple[int, int] | None, formats: tuple[str, ...]) -> Opened:
    """The header of what a dataset holds; ValueError where it cannot be, or is not of (height, width) ``size``."""
    try:
        opened = open_picture(data, STORED, formats)
    except Refused as refused:
        raise ValueError(f"cannot be decoded: {refused.error}") from refused
    if size is not None and opened.size != (size[1], size[0]):
        raise ValueError(f"is {opened.size[0]}x{opened.size[1]}, not {size[1]}x{size[0]}")
    if opened.turn != 1:  # readers differ in what they make of it
        raise ValueError(f"is to be turned (EXIF orientation {opened.turn}), which nothing that is stored is")
    return opened


def _decoded(opened: Opened) -> Image.Image:
    try:
        return opened.decode()
    except Refused as refused:
        raise ValueError(f"cannot be decoded: {refused.error}") from refused
