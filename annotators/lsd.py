"""Straight lines without weights: OpenCV's line segment detector (von Gioi et al. 2012), said as ``hough=lsd``."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import cv2
import numpy as np

from .base import Annotation, Annotator


@dataclass(frozen=True)
class LineSegments(Annotator):
    """Segments of at least ``min_length`` pixels, drawn white, one pixel wide, without anti-aliasing.

    A picture without lines is a valid empty map: ``n_lines`` is 0.
    """

    min_length: float = 20.0

    condition: ClassVar[str] = "hough"
    variant: ClassVar[str] = "lsd"
    columns: ClassVar[Mapping[str, str]] = {"n_lines": "int32"}

    def annotate(self, image: np.ndarray, output: Any, drawn: Mapping[str, Any]) -> Annotation:
        """Binary map, 255 on lines."""
        found = cv2.createLineSegmentDetector().detect(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY))[0]
        # OpenCV 4 returns (N, 1, 4), OpenCV 5 (N, 4), both None where nothing is found
        segments = np.zeros((0, 4), np.float32) if found is None else np.asarray(found, np.float32).reshape(-1, 4)
        lengths = np.hypot(segments[:, 2] - segments[:, 0], segments[:, 3] - segments[:, 1])
        segments = segments[lengths >= self.min_length]
        drawing = np.zeros(image.shape[:2], np.uint8)
        for x0, y0, x1, y1 in np.rint(segments).astype(int).tolist():
            cv2.line(drawing, (x0, y0), (x1, y1), 255, 1)
        return Annotation(drawing, {"n_lines": len(segments)})
