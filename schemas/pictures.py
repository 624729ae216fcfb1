"""What the modes of a decoded picture mean: upright, as RGB, and as a map of each kind that a user may have."""

from __future__ import annotations

import numpy as np
from PIL import Image

from .conditions import Kind
from .errors import Refused

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
BINARY_SHARE = 0.25  # of a pixel that must be white: keeps 1-px lines alive down to a quarter of their size


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


def map_plane(picture: Image.Image, kind: Kind) -> Image.Image:
    """A user's map in the mode that its kind is resized in: RGB, F for 16 bits, L otherwise. Alpha is over black.

    Raises:
        Refused: wrong_kind or unsupported_mode, where the file cannot hold such a map.
    """
    picture.load()
    sixteen = picture.mode.startswith("I")
    if kind == "rgb":
        return to_rgb(picture, "black").convert("RGB")
    if kind == "gray16":
        if not sixteen and picture.mode not in ("L", "1"):
            raise Refused("wrong_kind", f"a gray16 map is one channel of 16 or 8 bits, not {picture.mode}")
        values = np.asarray(picture if sixteen else picture.convert("L")).astype(np.float32)
        if values.size and not 0 <= values.min() <= values.max() <= 65535:
            raise Refused("wrong_kind", f"values from {values.min():g} to {values.max():g} are not 16 bits")
        return Image.fromarray(values if sixteen else values * 257)
    if kind == "labels":
        if picture.mode not in ("L", "P", "1"):
            raise Refused("wrong_kind", f"a label map is one channel of 8 bits, not {picture.mode}")
        return Image.fromarray(np.asarray(picture).astype(np.uint8))
    return to_rgb(picture, "black").convert("L")


def scaled_map(plane: Image.Image, kind: Kind, size: tuple[int, int], box: tuple[float, ...]) -> np.ndarray:
    """A window of a plane of :func:`map_plane` at ``size`` (width, height), as its kind is stored.

    ``box`` is (left, top, right, bottom) in the plane's pixels. Labels keep their ids.
    """
    if plane.size == size and tuple(box) == (0, 0, *size):
        array = np.asarray(plane)
    else:
        enlarged = size[0] > box[2] - box[0] and kind not in ("labels", "binary")
        smooth = Image.Resampling.BILINEAR if enlarged else Image.Resampling.BOX
        method = Image.Resampling.NEAREST if kind == "labels" else smooth
        array = np.asarray(plane.resize(size, method, box=box))  # type: ignore[arg-type]
    if kind == "gray16":
        return np.rint(array).clip(0, 65535).astype(np.uint16)
    if kind == "binary":
        return np.where(array >= 255 * BINARY_SHARE, 255, 0).astype(np.uint8)
    return array
