"""Labels of small pictures, brought in without a job: what the step of a job makes of one row."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from controlmill.pipelines.engine.worker import this_worker
from controlmill.pipelines.labels.layouts import find_source
from controlmill.pipelines.labels.options import LabelOptions
from controlmill.pipelines.labels.source import LabelSource
from controlmill.pipelines.stages.import_maps import ImportStep
from controlmill.schemas.images.codecs import decode_map
from controlmill.schemas.images.formats import Limits

LIMITS = Limits(max_pixels=1 << 20, max_bytes=1 << 22, min_side=1)
_jobs = itertools.count()


def source_at(kind: str, place: Path, **options: Any) -> LabelSource:
    """The label source that the command would take."""
    return find_source(kind, str(place), LabelOptions(**options))


def label_of(
    source: LabelSource,
    picture: str,
    original: tuple[int, int] = (8, 8),
    crop: tuple[int, int, int, int] | None = None,
    size: tuple[int, int] | None = None,
) -> dict[str, Any]:
    """The row of a picture of ``original`` (width, height), cut to ``crop`` (x, y, w, h) and scaled to ``size``."""
    x, y, w, h = crop or (0, 0, *original)
    width, height = size or (w, h)
    row = {"key": "k", "source": picture, "width": width, "height": height}
    row |= {"original_width": original[0], "original_height": original[1]}
    row |= {"crop_x": x, "crop_y": y, "crop_w": w, "crop_h": h}
    with this_worker().shard(f"job {next(_jobs)}"):
        made: dict[str, Any] = ImportStep((source,), LIMITS).do(row)[source.condition.table]
        return made


def map_of(source: LabelSource, picture: str, *geometry: Any, **named: Any) -> np.ndarray:
    """The map of :func:`label_of`, which must be one."""
    row = label_of(source, picture, *geometry, **named)
    assert row.get("map"), row
    return decode_map(source.condition.kind, row["map"]["bytes"])


def reason_of(source: LabelSource, picture: str, *geometry: Any, **named: Any) -> str:
    """Why a picture has no label."""
    row = label_of(source, picture, *geometry, **named)
    assert row.get("map") is None and row.get("caption") is None, "it has one"
    return str(row["reason"])


def save(path: Path, array: np.ndarray) -> Path:
    """A picture file, in folders that are made."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(array).save(path)
    return path


def quarters(values: tuple[int, int, int, int], size: int = 8, dtype: type = np.uint8) -> np.ndarray:
    """A value in each quarter, in reading order."""
    return np.repeat(np.repeat(np.array(values, dtype).reshape(2, 2), size // 2, 0), size // 2, 1)
