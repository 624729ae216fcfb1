"""Users' own maps: a decoded picture (or array) as a map of the kind that it is said to be, or refused.

Reading is in two steps: :func:`map_plane` finds out what the file's values mean, at the file's own size;
:func:`scaled_map` brings a window of that to the size and form that its kind is stored in.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from PIL import Image

from .conditions import Condition, Kind
from .errors import Refused
from .formats import Limits
from .label_files import named_set
from .labels import VOID, LabelSet
from .modes import to_rgb
from .npy import MAGIC, load_plane
from .pictures import open_picture

WHITE_FROM = 0.25  # of white: a pixel of a binary map that has more than two values is white from there on
LINE_SHARE = (
    0.4  # of the share that a line of one pixel has of a pixel it crosses: half of it, less what rounding takes
)
DARK = 8  # a map whose brightest value is below so small a part of its range was meant in another one
INK_RANGE = 16  # values by which one colour of ink may differ from itself
LOSSY = ("JPEG", "MPO")
COLOURED = ("P", "PA", "LA", "RGB", "RGBA", "RGBa", "RGBX")
SAMPLES = {"1": 255, "L": 255, "I;16": 65535, "I;16B": 65535, "I;16L": 65535, "I;16N": 65535}
Meaning = Literal["", "metric", "inverse"]


@dataclass(frozen=True)
class Reading:
    """How the files of one table are read.

    Args:
        kind: of the map.
        invert: of binary and gray8: the files are dark on light.
        meaning: of gray16: ``metric``, distance; ``inverse``, inverse depth or disparity of any range; "", the map
            itself, 0 to 65535 (0 to 255 in files of 8 bits).
        scale: values in a metre, of ``metric``.
        invalid: values that mean that nothing is known, of ``metric`` and ``inverse``.
        labels: of labels; None: ids are taken as they are.
    """

    kind: Kind
    invert: bool = False
    meaning: Meaning = ""
    scale: float = 1.0
    invalid: tuple[float, ...] = ()
    labels: LabelSet | None = None

    @classmethod
    def of(cls, condition: Condition) -> Reading:
        """How files for the maps of a condition are read: as its table's were, else as they are stored."""
        said: Mapping[str, Any] = condition.reading
        depth, labels = said.get("depth", {}), said.get("label_set")
        known = named_set(condition.label_set).as_stored() if condition.label_set else None
        return cls(
            condition.kind,
            said.get("invert", False),
            depth.get("meaning", ""),
            depth.get("scale", 1.0),
            tuple(depth.get("invalid", ())),
            LabelSet.of(labels) if labels else known,
        )

    def described(self) -> str:
        """For people, in a few words."""
        if self.kind == "labels":
            known = self.labels
            return f"label set {known.name}, {len(known.classes)} classes" if known else "ids as they are, 255 is void"
        if not self.meaning:
            return "dark on light, inverted" if self.invert else f"{self.kind} as it is"
        what = f"metric depth, {self.scale:g} to the metre" if self.meaning == "metric" else "inverse depth"
        return ", ".join((what, *(f"{value:g} is unknown" for value in self.invalid)))

    def provenance(self) -> dict[str, Any]:
        """All that decides values."""
        if self.kind == "labels":
            return {"label_set": self.labels.provenance()} if self.labels else {}
        said: dict[str, Any] = {}
        if self.kind in ("binary", "gray8"):
            said["invert"] = self.invert
        if self.kind == "binary":
            said.update(white_from=WHITE_FROM, line_share=LINE_SHARE)
        if self.meaning:
            said["depth"] = {"meaning": self.meaning, "scale": self.scale, "invalid": list(self.invalid)}
        return said


@dataclass(frozen=True)
class Plane:
    """A map at its file's size, in the mode that its kind is resized in: RGB; F for gray16; L otherwise, binary 0 and
    255. ``valid`` is F, 1 where the value is known, else 0; None: everywhere.
    """

    values: Image.Image
    valid: Image.Image | None = None

    @property
    def size(self) -> tuple[int, int]:
        """(width, height)."""
        return self.values.size


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


def map_plane(picture: Image.Image, reading: Reading, stored_as: str = "") -> Plane:
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
    if _constant(found) and not _constant(picture):
        raise Refused("wrong_kind", f"it would come out as a {reading.kind} map of one value, though its file is not")
    return Plane(found)


def array_plane(array: np.ndarray, reading: Reading) -> Plane:
    """Numbers, (H, W), as a map.

    Raises:
        Refused: wrong_kind.
    """
    if reading.kind != "gray16":
        raise Refused("wrong_kind", f"an array is read as depth, not as a {reading.kind} map")
    top = {1: 255, 2: 65535}.get(array.dtype.itemsize, 0) if array.dtype.kind == "u" else 0
    return _depth(array.astype(np.float32), np.ones(array.shape, bool), top, reading)


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
        array = _white(share >= 255 * min(WHITE_FROM, LINE_SHARE / factor))
    elif whole:
        array = np.asarray(picture)
    else:
        method = Image.Resampling.BILINEAR if factor < 1 else Image.Resampling.BOX
        method = Image.Resampling.NEAREST if kind in ("labels", "binary") else method
        array = np.asarray(picture.resize(size, method, box=box))  # type: ignore[arg-type]
    if kind == "gray16":
        array = np.rint(array).clip(0, 65535).astype(np.uint16)
    if kind != "labels" and _one_value(array) and not _constant(_window(picture, box)):
        raise Refused("wrong_kind", f"at {size[0]}x{size[1]} nothing is left of what its {kind} map shows")
    return array, {}


def coverage(kind: Kind, array: np.ndarray) -> float:
    """The share of a stored map's pixels that say something: labels that are not void, else what is not zero."""
    said = array != (VOID if kind == "labels" else 0)
    return float(np.mean(said.any(axis=2) if said.ndim == 3 else said))


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
        values = np.divide(reading.scale, values, out=np.zeros_like(values), where=known)
    values = np.where(known, values, 0).astype(np.float32)
    return Plane(Image.fromarray(values), None if known.all() else Image.fromarray(known.astype(np.float32)))


SAY_DEPTH = "; say what they mean: --depth metric:SCALE (values in a metre, 1000 for millimetres) or --depth inverse"


def _gray8(picture: Image.Image, invert: bool) -> np.ndarray:
    values, top, ink = _intensity(picture, invert)
    if not top:
        raise Refused("unsupported_mode", f"mode {picture.mode}: the range of its values is not known")
    if values.max() == 1:
        values, top = _white(values == 1), 255
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
    return _white(white)


def _white(where: np.ndarray) -> np.ndarray:
    """255 there, else 0."""
    return where.astype(np.uint8) * np.uint8(255)


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


def _constant(picture: Image.Image) -> bool:
    extrema = picture.getextrema()
    bands = extrema if isinstance(extrema[0], tuple) else (extrema,)
    return all(low == high for low, high in bands)  # type: ignore[misc]


def _one_value(array: np.ndarray) -> bool:
    return bool((array == array[:1, :1]).all())


def _window(picture: Image.Image, box: tuple[float, ...]) -> Image.Image:
    return picture.crop((int(box[0]), int(box[1]), int(-(-box[2] // 1)), int(-(-box[3] // 1))))


# inverse depth


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
