"""Canny edges (Canny 1986; paper, "Canny edge": random thresholds, range not published)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import cv2
import numpy as np

from .base import Annotation, Annotator

HIGHEST = 2040  # the largest L1 gradient of a 3x3 Sobel on 8 bits


@dataclass(frozen=True)
class Canny(Annotator):
    """Edges of the RGB picture (not of its grey copy), L1 gradient, 3x3 Sobel, thresholds fixed for all rows."""

    low: int = 100
    high: int = 200

    condition: ClassVar[str] = "canny"
    variant: ClassVar[str] = "fixed"
    columns: ClassVar[Mapping[str, str]] = {"low": "int32", "high": "int32"}

    def __post_init__(self) -> None:
        """Check the thresholds."""
        if not 0 <= self.low <= self.high <= HIGHEST:
            raise ValueError(
                f"canny thresholds are LOW:HIGH with 0 <= LOW <= HIGH <= {HIGHEST}: {self.low}:{self.high}"
            )

    def draw(self, rng: np.random.Generator) -> dict[str, Any]:
        """The fixed thresholds, stored in each row like drawn ones."""
        return {"low": self.low, "high": self.high}

    def annotate(self, image: np.ndarray, output: Any, drawn: Mapping[str, Any]) -> Annotation:
        """Binary map, 255 on edges."""
        return Annotation(cv2.Canny(image, drawn["low"], drawn["high"]))


@dataclass(frozen=True)
class RandomCanny(Annotator):
    """Thresholds drawn for each row, around the usual 100 and 200 (the ranges of T2I-Adapter: 100±50 and 200±50)."""

    low_range: tuple[int, int] = (50, 150)
    high_range: tuple[int, int] = (150, 250)

    condition: ClassVar[str] = "canny"
    variant: ClassVar[str] = "random"
    columns: ClassVar[Mapping[str, str]] = Canny.columns

    def draw(self, rng: np.random.Generator) -> dict[str, Any]:
        """Both thresholds, uniform over their ranges, ends included."""
        low, high = (int(rng.integers(*bounds, endpoint=True)) for bounds in (self.low_range, self.high_range))
        return {"low": low, "high": high}

    annotate = Canny.annotate
