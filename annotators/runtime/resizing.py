"""Pictures brought to the sizes that a network takes, and its outputs brought back."""

from __future__ import annotations

import cv2
import numpy as np

LONG = 2048  # pixels of a side that is enlarged, at most


def to_multiples(image: np.ndarray, multiple: int, short: int | None = None) -> np.ndarray:
    """The picture with both sides a multiple of ``multiple``, each rounded to the nearest one.

    With ``short`` its shorter side becomes that first, unless the longer one would pass 2048 (controlnet-aux makes
    512x20480 of 100x4000). Lanczos enlarges, area averaging shrinks: more or fewer pixels than before. The source,
    controlnet-aux 0.0.10 ``util.resize_image``, looks at the shorter side alone, which is another thing only where the
    other side is rounded the other way.
    """
    height, width = image.shape[:2]
    scale = 1.0 if short is None else min(short / min(height, width), LONG / max(height, width))
    size = tuple(max(1, round(side * scale / multiple)) * multiple for side in (height, width))
    if size == (height, width):
        return image
    enlarged = size[0] * size[1] > height * width
    return cv2.resize(image, size[::-1], interpolation=cv2.INTER_LANCZOS4 if enlarged else cv2.INTER_AREA)


def back_to(values: np.ndarray, image: np.ndarray) -> np.ndarray:
    """float32 (H, W) or (H, W, C) of a network, at the size of ``image``, bilinear; itself where it has that size."""
    height, width = image.shape[:2]
    if values.shape[:2] == (height, width):
        return values
    return cv2.resize(values, (width, height), interpolation=cv2.INTER_LINEAR)
