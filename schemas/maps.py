"""Users' own maps: a decoded picture as a map of the kind that it is said to be."""

from __future__ import annotations

import numpy as np
from PIL import Image

from .conditions import Kind
from .errors import Refused
from .pictures import to_rgb

BINARY_SHARE = 0.25  # of a pixel that must be white: keeps 1-px lines alive down to a quarter of their size


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
