"""A user's map at the size of its picture, as its kind is stored."""

from __future__ import annotations

import numpy as np
from PIL import Image

from ..errors import Refused
from ..kinds import Kind
from .labels import VOID
from .meaning import LINE_SHARE, WHITE_FROM, Plane, Reading
from .planes import is_constant, white_where


def scaled_map(
    plane: Plane, reading: Reading, size: tuple[int, int], box: tuple[float, ...]
) -> tuple[np.ndarray, dict[str, float]]:
    """A window of a plane at ``size`` (width, height), as its kind is stored; and what is measured of it.

    ``box`` is (left, top, right, bottom) in the plane's pixels. Labels keep their ids. A line of one pixel stays a line
    at any reduction. Of a gray16 map with a meaning, the known values are stretched to 1 to 65535, 0 is unknown, and
    raw_min and raw_max give them back: value = raw_min + map / 65535 * (raw_max - raw_min), of metric depth in 1/m.

    Raises:
        Refused: wrong_kind, where the window is not of one value and the map would be.
    """
    kind, picture = reading.kind, plane.values
    whole = picture.size == size and tuple(box) == (0, 0, *size)
    factor = max((box[2] - box[0]) / size[0], (box[3] - box[1]) / size[1])
    if kind == "gray16" and reading.meaning:
        return _stretched(*_known(plane, size, box, whole, factor < 1))
    if kind == "binary" and not whole and factor > 1:
        share = np.asarray(picture.convert("F").resize(size, Image.Resampling.BOX, box=box))  # type: ignore[arg-type]
        array = white_where(share >= 255 * min(WHITE_FROM, LINE_SHARE / factor))
    elif whole:
        array = np.asarray(picture)
    else:
        method = Image.Resampling.BILINEAR if factor < 1 else Image.Resampling.BOX
        method = Image.Resampling.NEAREST if kind in ("labels", "binary") else method
        array = np.asarray(picture.resize(size, method, box=box))  # type: ignore[arg-type]
    if kind == "gray16":
        array = np.rint(array).clip(0, 65535).astype(np.uint16)
    if kind != "labels" and _one_value(array) and not is_constant(_window(picture, box)):
        raise Refused("wrong_kind", f"at {size[0]}x{size[1]} nothing is left of what its {kind} map shows")
    return array, {}


def coverage(kind: Kind, array: np.ndarray) -> float:
    """The share of a stored map's pixels that say something: labels that are not void, else what is not zero."""
    if array.ndim == 3:
        array = np.asarray(array.any(axis=2))
    means_something = array != VOID if kind == "labels" else array
    return float(np.count_nonzero(means_something)) / array.size


def _one_value(array: np.ndarray) -> bool:
    return bool((array == array[:1, :1]).all())


def _window(picture: Image.Image, box: tuple[float, ...]) -> Image.Image:
    return picture.crop((int(box[0]), int(box[1]), int(-(-box[2] // 1)), int(-(-box[3] // 1))))


def _known(
    plane: Plane, size: tuple[int, int], box: tuple[float, ...], whole: bool, enlarged: bool
) -> tuple[np.ndarray, np.ndarray]:
    """(values, where any is known) at ``size``; what is not known takes no part in the means."""
    if whole:
        values = np.asarray(plane.values)
        return values, np.ones(values.shape, bool) if plane.valid is None else np.asarray(plane.valid) > 0
    method = Image.Resampling.BILINEAR if enlarged else Image.Resampling.BOX
    values = np.asarray(plane.values.resize(size, method, box=box))  # type: ignore[arg-type]
    if plane.valid is None:
        return values, np.ones(values.shape, bool)
    weight = np.asarray(plane.valid.resize(size, method, box=box))  # type: ignore[arg-type]
    known = weight > 1e-4  # rounding of the means
    return np.divide(values, weight, out=np.zeros_like(values), where=known), known


def _stretched(values: np.ndarray, known: np.ndarray) -> tuple[np.ndarray, dict[str, float]]:
    """uint16, 0 where nothing is known, 1 for the farthest to 65535; of one value: 65535."""
    array = np.zeros(values.shape, np.uint16)
    if not known.any():
        return array, {"raw_min": 0.0, "raw_max": 0.0}
    low, high = float(values[known].min()), float(values[known].max())
    if low == high:
        array[known] = 65535
        return array, {"raw_min": low, "raw_max": high}
    array[known] = 1 + np.rint((values[known].astype(np.float64) - low) / (high - low) * 65534).astype(np.uint16)
    return array, {"raw_min": low - (high - low) / 65534, "raw_max": high}
