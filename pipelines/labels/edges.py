"""Edges that people drew: BSDS500's .mat files, with the boundaries of several annotators (Arbeláez et al. 2011)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from PIL import Image

from controlmill.schemas.errors import Refused
from controlmill.schemas.images.formats import Limits
from controlmill.schemas.maps.matlab import load_variables
from controlmill.schemas.maps.meaning import Plane

from .folder import FolderLabels
from .options import Annotators
from .source import MapSource, Parts


@dataclass(frozen=True)
class BsdsEdges(FolderLabels, MapSource):
    """``annotators``: the first one's edges, those of any (union), both binary; or the share that drew each (mean)."""

    annotators: Annotators

    def made_by(self) -> dict[str, Any]:
        """See :meth:`LabelSource.made_by`."""
        return {**super().made_by(), "params": {"layout": self.layout.name, "annotators": self.annotators}}

    def plane(self, parts: Parts, limits: Limits) -> Plane:
        """See :meth:`MapSource.plane`."""
        drawn = boundaries(parts[0], limits)
        if self.annotators == "mean":
            share = np.mean(drawn, axis=0, dtype=np.float32)
            return Plane(Image.fromarray(np.rint(share * 255).astype(np.uint8)))
        edges = drawn[0] if self.annotators == "first" else np.any(drawn, axis=0)
        return Plane(Image.fromarray(edges.astype(np.uint8) * np.uint8(255)))


def boundaries(data: bytes, limits: Limits) -> np.ndarray:
    """The boundaries that each annotator drew, bool (annotators, H, W).

    Raises:
        Refused: as :func:`matlab.load_variables`; wrong_kind, too_many_pixels.
    """
    cells = load_variables(data, limits.max_bytes).get("groundTruth")
    if not isinstance(cells, list) or not cells or not all(isinstance(cell, dict) for cell in cells):
        raise Refused("wrong_kind", "no groundTruth of annotators in it")
    drawn = [cell.get("Boundaries") for cell in cells]
    if not all(isinstance(array, np.ndarray) and array.ndim == 2 and array.size for array in drawn):
        raise Refused("wrong_kind", "an annotator without Boundaries, (H, W)")
    if len({array.shape for array in drawn}) > 1:
        raise Refused("wrong_kind", "the annotators' Boundaries are of several sizes")
    if drawn[0].size > limits.max_pixels:
        raise Refused("too_many_pixels", f"{drawn[0].size} pixels; the cap is {limits.max_pixels}")
    return np.stack(drawn) > 0
