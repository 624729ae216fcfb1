"""Files of users' maps, and how tests read them."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
from PIL import Image

from controlmill.schemas.images.formats import Limits
from controlmill.schemas.maps.label_files import named_set
from controlmill.schemas.maps.meaning import Reading
from controlmill.schemas.maps.planes import read_map
from controlmill.schemas.maps.user_maps import scaled_map

LIMITS = Limits(min_side=1)
INVERTED, BINARY, GRAY8, GRAY16, RGB = (
    Reading("binary", invert=True),
    *(Reading(kind) for kind in ("binary", "gray8", "gray16", "rgb")),  # type: ignore[arg-type]
)
SCENE = Reading("labels", labels=named_set("ade20k-150"))
METRIC = Reading("gray16", meaning="metric", scale=1000, invalid=(0,))


def file_of(picture: Image.Image | np.ndarray, ending: str = "PNG", **options: Any) -> bytes:
    out = io.BytesIO()
    (picture if isinstance(picture, Image.Image) else Image.fromarray(picture)).save(out, ending, **options)
    return out.getvalue()


def npy(array: np.ndarray) -> bytes:
    out = io.BytesIO()
    np.save(out, array)
    return out.getvalue()


def stored(data: bytes, reading: Reading, size: tuple[int, int] | None = None) -> np.ndarray:
    """The whole map at ``size``, (width, height), or its own."""
    plane = read_map(data, reading, LIMITS)
    return scaled_map(plane, reading, size or plane.size, (0, 0, *plane.size))[0]
