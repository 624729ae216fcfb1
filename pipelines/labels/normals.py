"""Surface normals of a dataset, whose frame is stated: PNGs, DIODE's arrays, Hypersim's HDF5."""

from __future__ import annotations

import io
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from controlmill.schemas.errors import Refused
from controlmill.schemas.fingerprint import package_versions
from controlmill.schemas.images.formats import Limits
from controlmill.schemas.images.pictures import open_picture
from controlmill.schemas.images.pixels import GATE
from controlmill.schemas.maps.frames import Frame
from controlmill.schemas.maps.hdf5 import open_array, read_array
from controlmill.schemas.maps.npy import load_vectors
from controlmill.schemas.maps.vectors import X_CHANNEL, stored_normals

from .folder import FolderLabels
from .source import VERSION, Parts, map_row, map_window


def _png(data: bytes, limits: Limits) -> np.ndarray:
    """8-bit RGB, 0 to 255 for -1 to 1; black is unknown."""
    opened = open_picture(data, limits)
    with GATE.hold(opened.memory):
        picture = opened.decode()
        if picture.mode != "RGB":
            raise Refused("wrong_kind", f"normals are RGB of 8 bits, not {picture.mode}")
        pixels = np.asarray(picture)
        return np.where(pixels.any(axis=2, keepdims=True), pixels.astype(np.float32) / 127.5 - 1, 0)


def _npy(data: bytes, limits: Limits) -> np.ndarray:
    return load_vectors(data, limits.max_pixels).astype(np.float32)


def _hdf5(data: bytes, limits: Limits) -> np.ndarray:
    with open_array(io.BytesIO(data), "dataset") as found:
        if len(found.shape) != 3 or found.shape[2] != 3:
            raise Refused("wrong_kind", f"an array of {found.shape}; normals are (H, W, 3)")
        return read_array(found, 3 * limits.max_pixels).astype(np.float32)


READERS: dict[str, Callable[[bytes, Limits], np.ndarray]] = {
    "normals-png": _png,
    "diode-normals": _npy,
    "hypersim-normals": _hdf5,
}
OWN_FRAMES: dict[str, Frame] = {"hypersim-normals": "opengl"}  # layouts whose documentation states it


@dataclass(frozen=True)
class FolderNormals(FolderLabels):
    """Normals in files of their own, in ``frame``."""

    frame: Frame

    def made_by(self) -> dict[str, Any]:
        """See :meth:`LabelSource.made_by`."""
        return {
            "condition": self.condition.name,
            "variant": "imported",
            "version": VERSION,
            "params": {"layout": self.layout.name, "frame": self.frame},
            "packages": package_versions("pillow", "numpy"),
            "x_channel": X_CHANNEL,
            "reading": {},
        }

    def row_of(self, parts: Parts, row: Mapping[str, Any], limits: Limits) -> dict[str, Any]:
        """See :meth:`LabelSource.row_of`."""
        vectors = READERS[self.layout.name](parts[0], limits)
        box = map_window((vectors.shape[1], vectors.shape[0]), row)
        return map_row(self.condition, stored_normals(vectors, self.frame, (row["width"], row["height"]), box), row)
