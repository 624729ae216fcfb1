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


@dataclass(frozen=True)
class KorniaCanny(Annotator):
    """Edges as kornia 0.7 detects them, with which ControlNet++ was trained and evaluated.

    Other than OpenCV's: of the grey picture in 0 to 1, blurred (5x5, sigma 1), L2 gradient of a 3x3 Sobel. For
    photographs: at a step in a flat drawing both sides are equal, and rounding decides whether there is an edge (kornia
    0.9 has a rule for it). Source: ``kornia.filters.canny``.
    """

    low: float = 0.1
    high: float = 0.2

    condition: ClassVar[str] = "canny"
    variant: ClassVar[str] = "kornia"

    def annotate(self, image: np.ndarray, output: Any, drawn: Mapping[str, Any]) -> Annotation:
        """Binary map, 255 on edges."""
        grey = image.astype(np.float32) / np.float32(255) @ np.array((0.299, 0.587, 0.114), np.float32)
        blurred = cv2.GaussianBlur(grey, (5, 5), 1.0, borderType=cv2.BORDER_REFLECT_101)
        x, y = (
            cv2.Sobel(blurred, cv2.CV_32F, *axis, ksize=3, borderType=cv2.BORDER_REPLICATE) for axis in ((1, 0), (0, 1))
        )
        size = np.sqrt(x * x + y * y + np.float32(1e-6))
        ridge = np.where(_is_ridge(size, np.arctan2(y, x)), size, 0)
        _, parts = cv2.connectedComponents((ridge > self.low).astype(np.uint8), connectivity=8)
        kept = np.zeros(parts.max() + 1, bool)
        kept[parts[ridge > self.high]] = True
        kept[0] = False
        return Annotation(kept[parts].astype(np.uint8) * 255)


def _is_ridge(size: np.ndarray, angle: np.ndarray) -> np.ndarray:
    """Where a gradient is larger than both of its neighbours in its direction, which is rounded to 45 degrees."""
    steps = ((0, 1), (1, 1), (1, 0), (1, -1))  # down and right; the others are their opposites
    direction = np.rint(angle * np.float32(4 / np.pi)).astype(int) % 4
    height, width = size.shape
    padded, ridge = np.pad(size, 1), np.zeros(size.shape, bool)
    for number, (down, right) in enumerate(steps):
        ahead, behind = (
            padded[1 + sign * down : 1 + sign * down + height, 1 + sign * right : 1 + sign * right + width]
            for sign in (1, -1)
        )
        ridge |= (direction == number) & (size > ahead) & (size > behind)
    return ridge
