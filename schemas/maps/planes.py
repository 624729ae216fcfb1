"""What the values of a user's file mean: a decoded picture, or an array, as a map of its kind, or refused."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import numpy as np
from PIL import Image

from ..errors import Refused
from ..images.formats import Limits
from ..images.modes import to_rgb
from ..images.pictures import open_picture
from .labels import VOID, LabelSet
from .meaning import WHITE_FROM, Plane, Reading
from .npy import MAGIC, load_plane

DARK = 8  # a map whose brightest value is below so small a part of its range was meant in another one
LARGEST_DEPTH = 1e30  # and inverse depth: sums of such values are finite in 32 bits
INK_RANGE = 16  # values by which one colour of ink may differ from itself
LOSSY = ("JPEG", "MPO")
COLOURED = ("P", "PA", "LA", "RGB", "RGBA", "RGBa", "RGBX")
SAMPLES = {"1": 255, "L": 255, "I;16": 65535, "I;16B": 65535, "I;16L": 65535, "I;16N": 65535}
SAY_DEPTH = "; say what they mean: --depth metric:SCALE (values in a metre, 1000 for millimetres) or --depth inverse"


def read_map(
    data: bytes, reading: Reading, limits: Limits, hold: Callable[[int], AbstractContextManager[Any]] = nullcontext
) -> Plane:
    """A user's file as a map; ``hold`` is entered with the bytes that decoding takes.

    Raises:
        Refused: any reason of :func:`pictures.open_picture`, of :func:`npy.load_plane` and of :func:`map_plane`.
    """
    if data.startswith(MAGIC):
        return array_plane(load_plane(data, limits.max_pixels), reading)
    opened = open_picture(data, limits)
    with hold(opened.memory):
        return map_plane(opened.decode(), reading, opened.image.format or "")


def file_size(data: bytes, limits: Limits) -> tuple[int, int]:
    """(width, height) of a picture or an array, by its header.

    Raises:
        Refused: as :func:`read_map`.
    """
    if data.startswith(MAGIC):
        height, width = load_plane(data, limits.max_pixels).shape
        return width, height
    return open_picture(data, limits).size


def map_plane(picture: Image.Image, reading: Reading, stored_as: str) -> Plane:
    """A decoded picture, upright, as a map. ``stored_as`` is the format of its file.

    Raises:
        Refused: wrong_kind or unsupported_mode, where the file does not hold such a map.
    """
    if reading.kind == "labels":
        lossy = stored_as in LOSSY or picture.info.get("compression") in ("jpeg", "tiff_jpeg")
        return Plane(Image.fromarray(_labels(picture, reading.labels, lossy)))
    if reading.kind == "gray16":
        return _depth(*_numbers(picture), reading)
    if reading.kind == "binary":
        found = Image.fromarray(_binary(picture, reading.invert))
    elif reading.kind == "gray8":
        found = Image.fromarray(_gray8(picture, reading.invert))
    else:
        found = to_rgb(picture, "black").convert("RGB")
        _check_range(max(high for _, high in found.getextrema()), 255)  # type: ignore[misc]
    if is_constant(found) and not is_constant(picture):
        raise Refused("wrong_kind", f"it would come out as a {reading.kind} map of one value, though its file is not")
    return Plane(found)


def array_plane(array: np.ndarray, reading: Reading, valid: np.ndarray | None = None) -> Plane:
    """Numbers, (H, W), as a map; ``valid``, bool (H, W), says where they are known.

    Raises:
        Refused: wrong_kind.
    """
    if reading.kind != "gray16":
        raise Refused("wrong_kind", f"an array is read as depth, not as a {reading.kind} map")
    top = {1: 255, 2: 65535}.get(array.dtype.itemsize, 0) if array.dtype.kind == "u" else 0
    known = np.ones(array.shape, bool) if valid is None else valid
    with np.errstate(over="ignore"):  # what is beyond 32 bits is not known then
        return _depth(array.astype(np.float32), known, top, reading)


# what the values of a file are


def _labels(picture: Image.Image, known: LabelSet | None, lossy: bool) -> np.ndarray:
    if lossy:
        raise Refused("wrong_kind", "a JPEG cannot hold labels: its compression invents ids along every edge")
    coloured = known is not None and bool(known.colours or known.encoding == "ade20k")
    if picture.mode in ("RGB", "RGBA") and known is not None and coloured:
        values = np.asarray(picture)
        if values.shape[2] == 4 and values[..., 3].min() < 255:
            raise Refused("wrong_kind", "a label map in RGB has no transparent pixels")
        return known.classes_of(values[..., :3])
    if picture.mode not in ("L", "P", "1") or (known and known.encoding == "ade20k"):
        other = f", or RGB in the colours of {known.name}" if known and coloured else ""
        other = f" of three channels ({known.name})" if known and known.encoding == "ade20k" else other
        one = "" if known and known.encoding == "ade20k" else " of one channel of 8 bits"
        raise Refused("wrong_kind", f"a label map is a file{one}{other}, not {picture.mode}")
    ids = np.asarray(picture).astype(np.uint8)
    if known is None:
        return ids
    classes = known.classes_of(ids)
    if picture.mode == "P" and known.colours:
        _check_palette(picture, ids, classes, known)
    return classes


def _check_palette(picture: Image.Image, ids: np.ndarray, classes: np.ndarray, known: LabelSet) -> None:
    """A palette in the set's own colours that paints other classes than the ids: numbered by something else."""
    used = np.unique(ids)
    colours = np.array(picture.getpalette("RGB"), np.uint8).reshape(-1, 3)
    if len(colours) <= used[-1]:
        return
    try:
        painted = known.classes_of(colours[used][None])[0]
    except Refused:  # colours of another scheme only paint
        return
    at = np.array([classes[ids == value][0] for value in used])
    if (painted != at).any() and (painted != VOID).any():
        value = int(used[np.flatnonzero(painted != at)[0]])
        raise Refused("wrong_kind", f"id {value} has the colour of another class of {known.name}: save it as RGB")


def _numbers(picture: Image.Image) -> tuple[np.ndarray, np.ndarray, int]:
    """(values as float32, where they are not transparent, the largest value that the file could hold; 0: any)."""
    if picture.mode in ("I", "F"):
        return np.asarray(picture).astype(np.float32), np.ones(picture.size[::-1], bool), 0
    if picture.mode in SAMPLES:
        grey = picture.convert("L") if picture.mode == "1" else picture
        return np.asarray(grey).astype(np.float32), np.ones(picture.size[::-1], bool), SAMPLES[picture.mode]
    if picture.mode not in COLOURED:
        raise Refused("wrong_kind", f"depth is one channel, or three equal ones, not {picture.mode}")
    rgba = np.asarray(picture.convert("RGBA"))
    if (rgba[..., 0] != rgba[..., 1]).any() or (rgba[..., 1] != rgba[..., 2]).any():
        raise Refused("wrong_kind", f"depth is one channel, or three equal ones; this {picture.mode} is in colour")
    return rgba[..., 0].astype(np.float32), rgba[..., 3] > 0, 255


def _depth(values: np.ndarray, valid: np.ndarray, top: int, reading: Reading) -> Plane:
    """The values of a gray16 map, or inverse depth."""
    if not reading.meaning:
        low, high = float(values.min()), float(values.max())
        if not (0 <= low <= high <= 65535) or (top == 0 and (values % 1).any()):
            raise Refused("wrong_kind", f"values from {low:g} to {high:g} are not 16 bits{SAY_DEPTH}")
        _check_range(high, top or 65535, SAY_DEPTH)
        values *= (257 if top == 255 else 1) * valid  # values are a copy of the file's
        return Plane(Image.fromarray(values))
    known = valid & np.isfinite(values) & ~np.isin(values, np.asarray(reading.invalid, np.float32))
    if reading.meaning == "metric":
        known &= values > 0
        with np.errstate(over="ignore"):  # of what is refused below
            values = np.divide(reading.scale, values, out=np.zeros_like(values), where=known)
    values = np.where(known, values, 0).astype(np.float32)
    extreme = float(np.abs(values).max())
    if not extreme < LARGEST_DEPTH:
        raise Refused("wrong_kind", f"a value of {extreme:g}, which no depth has; --invalid-depth leaves a value out")
    return Plane(Image.fromarray(values), None if known.all() else Image.fromarray(known.astype(np.float32)))


def _gray8(picture: Image.Image, invert: bool) -> np.ndarray:
    values, top, ink = _intensity(picture, invert)
    if not top:
        raise Refused("unsupported_mode", f"mode {picture.mode}: the range of its values is not known")
    if values.max() == 1:
        values, top = white_where(values == 1), 255
    if invert and not ink:
        values = top - values
    _check_range(int(values.max()), top)
    return values if top == 255 else (values >> 8).astype(np.uint8)


def _binary(picture: Image.Image, invert: bool) -> np.ndarray:
    values, top, ink = _intensity(picture, invert)
    low, high = values.min().item(), values.max().item()
    white = values == high
    if low == high:
        white = np.full(values.shape, high > 0)
    elif np.count_nonzero(white) + np.count_nonzero(values == low) < values.size:
        if not top:
            raise Refused(
                "unsupported_mode", f"mode {picture.mode}, more than two values: which are white is not known"
            )
        if invert and not ink:
            values, high = top - values, top - low
        if high * 2 < top:
            raise Refused("wrong_kind", f"more than two values, and the brightest is {high} of {top}: none is white")
        white, ink = values >= WHITE_FROM * top, True  # turned already
    if invert and not ink:
        white = ~white
    share = np.count_nonzero(white) / white.size
    if share > 0.5:
        turn = "are its files light on dark? then without --invert" if invert else "black on white: --invert NAME"
        raise Refused("wrong_kind", f"{share:.1%} of a binary map is white, white on black is meant ({turn})")
    return white_where(white)


def _intensity(picture: Image.Image, invert: bool) -> tuple[np.ndarray, int, bool]:
    """(values (H, W), what white is, 0 if that is not known, whether they are ink on transparent: its alpha)."""
    if picture.mode in ("I", "F"):
        return np.asarray(picture), 0, False
    if SAMPLES.get(picture.mode, 0) > 255:
        return np.asarray(picture).astype(np.uint16), 65535, False
    if picture.mode in ("RGBA", "LA", "PA", "RGBa") or "transparency" in picture.info:
        rgba = np.asarray(picture.convert("RGBA"))
        alpha = rgba[..., 3]
        if alpha.size and alpha.min() < 255 and _is_ink(rgba):
            return alpha, 255, True
    return np.asarray(to_rgb(picture, "white" if invert else "black").convert("L")), 255, False


def _is_ink(rgba: np.ndarray) -> bool:
    """Whether all that is seen has one colour: then what is drawn is in the alpha."""
    alpha = rgba[..., 3]
    seen = alpha >= max(1, min(128, int(alpha.max())))
    bands = [rgba[..., band] for band in range(3)]
    spans = [int(band.max(where=seen, initial=0)) - int(band.min(where=seen, initial=255)) for band in bands]
    return max(spans) <= INK_RANGE


def _check_range(high: float, top: int, hint: str = "") -> None:
    if 0 < high * DARK < top:
        raise Refused("wrong_kind", f"the brightest value is {high:g} of {top}: it would be nearly black{hint}")


def is_constant(picture: Image.Image) -> bool:
    """Whether each band of a picture has one value."""
    extrema = picture.getextrema()
    bands = extrema if isinstance(extrema[0], tuple) else (extrema,)
    return all(low == high for low, high in bands)


def white_where(where: np.ndarray) -> np.ndarray:
    """255 there, else 0."""
    return where.astype(np.uint8) * np.uint8(255)
