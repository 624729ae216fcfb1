"""Scribbles as users draw them: HED boundaries with strokes drawn anew for each row.

The paper (section 4 and its supplement, "user scribbles") combines HED with "random thresholds, randomly masking out a
random percentage of scribbles, random morphological transformations, and random non-maximum suppression"; neither code
nor ranges were published. The ranges here are ours, but for the strokes of up to 24 pixels on 512, which are the model
card's of ControlNet 1.1.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import cv2
import numpy as np

from .base import Annotation, Annotator, Network
from .hed import HED, soft_map
from .runtime.upstream import controlnet_aux

CANVAS = 512  # stroke widths are pixels at this shorter side
PATCHES = 12  # the mask that erases has this many cells a side, smoothed


@dataclass(frozen=True)
class RandomScribble(Annotator):
    """Strokes of a width, cut at a threshold and with a share erased, all drawn for each row and stored."""

    threshold_range: tuple[int, int] = (48, 160)
    width_range: tuple[int, int] = (1, 24)
    erase_range: tuple[float, float] = (0.0, 0.5)
    ridge_chance: float = 0.5

    condition: ClassVar[str] = "scribble"
    variant: ClassVar[str] = "random"
    network: ClassVar[type[Network] | None] = HED
    columns: ClassVar[Mapping[str, str]] = {
        "threshold": "int32",
        "ridges": "bool",
        "sigma": "float32",
        "width": "float32",
        "erased": "float32",
        "erase_seed": "int64",
    }

    def draw(self, rng: np.random.Generator) -> dict[str, Any]:
        """threshold uniform; ridges (non-maximum suppression or not) by chance; sigma, its smoothing, uniform from 1
        to 4; width log-uniform, so that thin strokes are as frequent as thick ones; erased, the share, uniform.
        """
        low, high = np.log(self.width_range)
        return {
            "threshold": int(rng.integers(*self.threshold_range, endpoint=True)),
            "ridges": bool(rng.random() < self.ridge_chance),
            "sigma": float(np.float32(rng.uniform(1.0, 4.0))),
            "width": float(np.float32(np.exp(rng.uniform(low, high)))),
            "erased": float(np.float32(rng.uniform(*self.erase_range))),
            "erase_seed": int(rng.integers(2**62)),
        }

    def annotate(self, image: np.ndarray, output: np.ndarray, drawn: Mapping[str, Any]) -> Annotation:
        """Binary map, 255 on strokes."""
        soft = soft_map(output)
        width = drawn["width"] * min(image.shape[:2]) / CANVAS
        if drawn["ridges"]:
            strokes = controlnet_aux("util").nms(soft, drawn["threshold"], drawn["sigma"])
            natural = 1.0
        else:
            strokes = (soft > drawn["threshold"]).astype(np.uint8) * 255
            natural = mean_width(strokes)
        strokes = erase(strokes, drawn["erased"], drawn["erase_seed"])
        return Annotation(thicken(strokes, width - natural))


def mean_width(strokes: np.ndarray) -> float:
    """Mean width of strokes in pixels: across a stripe the mean distance to its edge is a quarter of its width."""
    distance = cv2.distanceTransform(strokes, cv2.DIST_L2, cv2.DIST_MASK_PRECISE)[strokes > 0]
    return 4 * float(distance.mean()) - 1 if distance.size else 0.0


def thicken(strokes: np.ndarray, pixels: float) -> np.ndarray:
    """Strokes wider by ``pixels``, or narrower where it is negative."""
    if pixels < 0:
        distance = cv2.distanceTransform(strokes, cv2.DIST_L2, cv2.DIST_MASK_PRECISE)
        return (distance > -pixels / 2).astype(np.uint8) * 255
    side = round(pixels) + 1
    return cv2.dilate(strokes, cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (side, side)))


def erase(strokes: np.ndarray, share: float, seed: int) -> np.ndarray:
    """The same without ``share`` of the stroke pixels, in patches, where a smooth noise is lowest."""
    noise = np.random.default_rng(seed).random((PATCHES, PATCHES), dtype=np.float32)
    smooth = cv2.resize(noise, strokes.shape[::-1], interpolation=cv2.INTER_CUBIC)
    drawn = smooth[strokes > 0]
    if not drawn.size:
        return strokes
    return np.where(smooth < np.quantile(drawn, share), np.uint8(0), strokes)
