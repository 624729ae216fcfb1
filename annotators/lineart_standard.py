"""Line drawing without weights: what is darker than its blurred surroundings (controlnet-aux lineart_standard)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import cv2
import numpy as np

from .base import Annotation, Annotator


@dataclass(frozen=True)
class LineartStandard(Annotator):
    """White lines on black; a flat picture is black."""

    sigma: float = 6.0
    threshold: float = 8.0

    condition: ClassVar[str] = "cartoon"
    variant: ClassVar[str] = "standard"

    def annotate(self, image: np.ndarray, output: Any, drawn: Mapping[str, Any]) -> Annotation:
        """gray8 map."""
        pixels = image.astype(np.float32)
        difference = cv2.GaussianBlur(pixels, (0, 0), self.sigma) - pixels
        red, green, blue = cv2.split(difference)  # NumPy's minimum over the last axis takes ten times as long
        darker = cv2.min(cv2.min(red, green), blue).clip(0, 255)
        lines = darker[darker > self.threshold]
        scale = max(16.0, float(np.median(lines))) if lines.size else 16.0
        return Annotation((darker / np.float32(scale) * 127).clip(0, 255).astype(np.uint8))
