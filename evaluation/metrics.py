"""How well a picture follows its condition map: one metric for each fidelity name in ``schemas.conditions``.

Every metric takes (map of the sampled picture, true map) as stored and returns a number; that of poses takes the
keypoints stored beside the maps. Source of the protocol: ControlNet++ (Li et al. 2024), section 4; edges are matched
with a tolerance because a shift of one pixel costs an exact F1 two thirds of its value.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np

from controlmill.schemas.conditions import Condition
from controlmill.schemas.maps.labels import VOID

from .keypoints import pck

TOLERANCE_PIXELS = 2  # at 512 pixels; at least one
TOLERANCE_SIDE = 512


def tolerance(array: np.ndarray) -> int:
    """Pixels by which an edge may be off."""
    return max(1, round(TOLERANCE_PIXELS * max(array.shape[:2]) / TOLERANCE_SIDE))


def _near(array: np.ndarray, pixels: int) -> np.ndarray:
    size = 2 * pixels + 1
    kernel = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (size, size))
    return cv2.dilate((array > 0).astype(np.uint8), kernel) > 0


def edge_f1(found: np.ndarray, true: np.ndarray, pixels: int = 0) -> float:
    """F1 of binary maps, edges matching within ``pixels``; two empty maps agree: 1."""
    a, b = found > 0, true > 0
    if not a.any() or not b.any():
        return float(a.any() == b.any())
    precision = float((a & (_near(b, pixels) if pixels else b)).sum() / a.sum())
    recall = float((b & (_near(a, pixels) if pixels else a)).sum() / b.sum())
    return 2 * precision * recall / (precision + recall) if precision + recall else 0.0


def tolerant_f1(found: np.ndarray, true: np.ndarray) -> float:
    """F1 within 2 pixels at 512."""
    return edge_f1(found, true, tolerance(true))


def stroke_recall(found: np.ndarray, true: np.ndarray) -> float:
    """Share of the drawn strokes that were followed, within the tolerance: what is drawn must appear, more may."""
    strokes = true > 0
    return float((strokes & _near(found, tolerance(true))).sum() / strokes.sum()) if strokes.any() else 1.0


def ssim(found: np.ndarray, true: np.ndarray) -> float:
    """Structural similarity (Wang et al. 2004: Gaussian window of sigma 1.5, 8-bit range), mean over the map."""
    a, b = found.astype(np.float64), true.astype(np.float64)
    c1, c2 = (0.01 * 255) ** 2, (0.03 * 255) ** 2

    def blur(array: np.ndarray) -> np.ndarray:
        return cv2.GaussianBlur(array, (11, 11), 1.5)

    mean_a, mean_b = blur(a), blur(b)
    var_a, var_b, cov = blur(a * a) - mean_a**2, blur(b * b) - mean_b**2, blur(a * b) - mean_a * mean_b
    value = (2 * mean_a * mean_b + c1) * (2 * cov + c2) / ((mean_a**2 + mean_b**2 + c1) * (var_a + var_b + c2))
    return float(value.mean())


def miou(found: np.ndarray, true: np.ndarray) -> float:
    """Mean intersection over union of the labels that occur in the true map; what is void there counts for nothing.

    A map that is all void asks for nothing: 1.
    """
    known = true != VOID
    found, true = found[known], true[known]
    scores = [
        ((found == label) & (true == label)).sum() / ((found == label) | (true == label)).sum()
        for label in np.unique(true)
    ]
    return float(np.mean(scores)) if scores else 1.0


def rmse(found: np.ndarray, true: np.ndarray) -> float:
    """Root mean square error of depth, each map stretched to 0 to 255 first (relative depth has no scale)."""
    return float(np.sqrt(np.mean((_stretched(found) - _stretched(true)) ** 2)))


def _stretched(array: np.ndarray) -> np.ndarray:
    low, high = float(array.min()), float(array.max())
    return (array.astype(np.float64) - low) / (high - low) * 255 if high > low else np.zeros(array.shape)


def mean_angle(found: np.ndarray, true: np.ndarray) -> float:
    """Mean angle in degrees between normals stored as 127.5 + 127.5 n."""
    a, b = (array.astype(np.float64) / 127.5 - 1 for array in (found, true))
    norms = np.linalg.norm(a, axis=2) * np.linalg.norm(b, axis=2)
    cosine = (a * b).sum(axis=2) / np.maximum(norms, 1e-6)
    return float(np.degrees(np.arccos(cosine.clip(-1, 1))).mean())


@dataclass(frozen=True)
class Metric:
    """A metric of two maps or, where ``column`` says so, of what the annotator stored beside them.

    ``others`` are reported beside it. ``lower_is_better`` of errors; others are better the higher they are.
    """

    name: str
    score: Callable[[Any, Any], float]
    others: tuple[tuple[str, Callable[[Any, Any], float]], ...] = ()
    column: str = ""
    lower_is_better: bool = False


METRICS: dict[str, Metric] = {
    "edge-f1": Metric("F1 within 2 px at 512", tolerant_f1, (("F1 exact", edge_f1),)),
    "stroke-recall": Metric("recall of strokes", stroke_recall),
    "ssim": Metric("SSIM", ssim),
    "miou": Metric("mIoU", miou),
    "rmse": Metric("RMSE of depth", rmse, lower_is_better=True),
    "mean-angle": Metric("mean angle", mean_angle, lower_is_better=True),
    "pck": Metric("PCK within 0.1 of the person's box", pck, column="keypoints"),
}


def metric_of(condition: Condition) -> Metric | None:
    """How maps of a condition are compared; None for imported ones, which no annotator could make again."""
    return METRICS.get(condition.fidelity or "")
