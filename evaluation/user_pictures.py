"""A user's own pictures and maps: read, fitted to the size that a run trains at, annotated as the run's maps were."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from controlmill.schemas.conditions import Condition
from controlmill.schemas.errors import MillError, Refused
from controlmill.schemas.images.codecs import centred, decode_image, draft_factor, stored_picture
from controlmill.schemas.images.formats import Limits
from controlmill.schemas.images.pictures import Opened, open_picture
from controlmill.schemas.maps.meaning import Plane, Reading
from controlmill.schemas.maps.planes import file_size, read_map
from controlmill.schemas.maps.transforms import control_picture
from controlmill.schemas.maps.user_maps import scaled_map
from controlmill.schemas.provenance import Provenance

from .annotating import PictureAnnotator
from .fidelity import FidelityMetric, find_annotator
from .rows import Sample, draws

OWN_LIMITS = Limits(min_side=1)
WHITE = 127.5  # a mask's pixels above it are white
OWN = 2**31 - 1  # stands for the shard of what is of none


@contextmanager
def reading(path: Path) -> Iterator[None]:
    """What is refused in the block, as a MillError that names the file."""
    try:
        yield
    except OSError as error:
        raise MillError(f"{path} cannot be read as a picture: {error.strerror}") from error
    except Refused as refused:
        raise MillError(f"{path} cannot be read as a picture: {refused.reason}: {refused.error}") from refused


def opened(path: Path) -> Opened:
    """A picture whose header was read.

    Raises:
        OSError, Refused: it cannot be.
    """
    with path.open("rb") as file:
        return open_picture(file.read(OWN_LIMITS.max_bytes + 1), OWN_LIMITS)


def picture_size(path: Path) -> tuple[int, int]:
    """(width, height) of a picture or map, from its header; raises MillError where it cannot be read."""
    with reading(path), path.open("rb") as file:
        return file_size(file.read(OWN_LIMITS.max_bytes + 1), OWN_LIMITS)


def shape_of(path: Path, side: int, multiple: int) -> tuple[int, int]:
    """(height, width) in multiples, with the aspect ratio of a picture or map and ``side`` as the shorter one."""
    width, height = picture_size(path)
    scale = side / min(width, height)
    tall, wide = (max(1, round(length * scale / multiple)) * multiple for length in (height, width))
    return tall, wide


def nearest_shape(path: Path, shapes: Sequence[Sequence[int]]) -> tuple[int, int]:
    """That of ``shapes`` (height, width) whose aspect ratio is nearest to a picture's or map's; of equals the first."""
    width, height = picture_size(path)
    ratio = math.log(height / width)
    tall, wide = min(shapes, key=lambda shape: abs(math.log(shape[0] / shape[1]) - ratio))
    return tall, wide


def fitted(path: Path, size: tuple[int, int]) -> np.ndarray:
    """A photo cut around its middle and scaled to ``size`` (width, height), as ingest stores it: uint8 (H, W, 3).

    Raises:
        MillError: it cannot be read.
    """
    with reading(path):
        picture = opened(path)
        box = centred(*picture.size, size)
        picture.reduce(draft_factor(box, size))
        return decode_image(stored_picture(picture, box, size)[0])


def white_region(path: Path, size: tuple[int, int]) -> np.ndarray:
    """Where a mask is white rather than black, cut and scaled as a photo of its size: bool (H, W)."""
    region: np.ndarray = fitted(path, size).mean(axis=2) > WHITE
    return region


def annotated(pixels: np.ndarray, by: PictureAnnotator, seed: int) -> np.ndarray:
    """The map of a photo; what its annotator draws is drawn from ``seed``."""
    return by.map_of(pixels, by.annotator.draw(draws(seed, 0, (0, 0), "sample")))


def given_plane(path: Path, condition: Condition) -> tuple[Plane, Reading]:
    """A finished map at its own size, read as the files of the condition's table were, and how that is.

    Raises:
        MillError: it cannot be read, or is no such map.
    """
    how = Reading.of(condition)
    with reading(path), path.open("rb") as file:
        return read_map(file.read(OWN_LIMITS.max_bytes + 1), how, OWN_LIMITS), how


def given_map(path: Path, condition: Condition, size: tuple[int, int]) -> np.ndarray:
    """A finished map scaled and cut around its middle to ``size`` (width, height), as its kind is stored.

    Raises:
        MillError: it cannot be read, or is no map of that kind.
    """
    plane, how = given_plane(path, condition)
    scale = max(size[0] / plane.size[0], size[1] / plane.size[1])
    width, height = size[0] / scale, size[1] / scale
    left, top = (plane.size[0] - width) / 2, (plane.size[1] - height) / 2
    with reading(path):
        return scaled_map(plane, how, size, (left, top, left + width, top + height))[0]


def check_user_pictures(paths: Sequence[str], condition: Condition, provenance: Provenance, folder: str) -> None:
    """Raise MillError where ``--evaluation-image`` cannot be used; no network is loaded.

    ``folder`` is looked for weights in first, where one is given.
    """
    for path in paths:
        if provenance.made_by.is_imported:
            given_plane(Path(path), condition)
        else:
            fitted(Path(path), (8, 8))
    found = find_annotator(condition, provenance, folder) if paths and not provenance.made_by.is_imported else None
    if isinstance(found, str):
        raise MillError(f"--evaluation-image cannot be annotated: {found}")


def user_samples(
    paths: Sequence[str], condition: Condition, metric: FidelityMetric | str, size: tuple[int, int], seed: int
) -> list[Sample]:
    """A user's own pictures as samples with their maps and without captions, at ``size`` (width, height).

    Where nothing here annotates as the table was (``check_user_pictures``: it is imported), each file is the map
    itself, and is shown in the place of its picture too.
    """
    if isinstance(metric, str):
        maps = [given_map(Path(path), condition, size) for path in paths]
        pictures = [control_picture(condition, array) for array in maps]
    else:
        pictures = [fitted(Path(path), size) for path in paths]
        maps = [annotated(picture, metric, seed) for picture in pictures]
    return [
        Sample(0, (OWN, i), picture, {condition.table: array}, "", {})
        for i, (picture, array) in enumerate(zip(pictures, maps, strict=True))
    ]
