"""Binary maps, edges and strokes: how many are found again, exactly or within a tolerance.

A shift of one pixel costs an exact F1 of thin edges two thirds of its value, hence the tolerance.
"""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np

from .measure import Part, tolerance


def near(array: np.ndarray, pixels: int) -> np.ndarray:
    """Where an edge's centre is at most ``pixels`` away: bool (H, W)."""
    offset = np.arange(-pixels, pixels + 1)
    disc = np.add.outer(offset**2, offset**2) <= pixels**2  # OpenCV's ellipse reaches farther from a size of 5 on
    return cv2.dilate((array > 0).astype(np.uint8), disc.astype(np.uint8)) > 0


def counts(found: np.ndarray, true: np.ndarray) -> Part:
    """Pixels that are edge in both maps, in the found one alone, and in the true one alone."""
    a, b = found > 0, true > 0
    return float((a & b).sum()), float((a & ~b).sum()), float((b & ~a).sum())


def f1_of_counts(parts: Sequence[Part]) -> float:
    """F1 of :func:`counts` that are added up; maps without any edge agree: 1."""
    both, found_alone, true_alone = np.sum(np.asarray(parts, float).reshape(-1, 3), axis=0)
    edges = 2 * both + found_alone + true_alone
    return float(2 * both / edges) if edges else 1.0


def f1(found: np.ndarray, true: np.ndarray) -> float:
    """F1 of pixels, 0 to 1. Two empty maps agree: 1."""
    return f1_of_counts([counts(found, true)])


def f1_within(found: np.ndarray, true: np.ndarray, pixels: int | None = None) -> float:
    """F1 of edges that match within a tolerance, 0 to 1. Two empty maps agree: 1.

    Precision is the share of found pixels near a true one, recall that of true pixels near a found one; a pixel may be
    matched more than once, as in the boundary F1 of Csurka et al. 2013.

    Args:
        pixels: the tolerance; None for that of the map's size (:func:`measure.tolerance`).
    """
    pixels = tolerance(*true.shape[:2]) if pixels is None else pixels
    a, b = found > 0, true > 0
    if not a.any() or not b.any():
        return float(a.any() == b.any())
    precision = float((a & near(b, pixels)).sum() / a.sum())
    recall = float((b & near(a, pixels)).sum() / b.sum())
    return 2 * precision * recall / (precision + recall) if precision + recall else 0.0


def stroke_recall(found: np.ndarray, true: np.ndarray) -> float:
    """Share of the drawn strokes that were followed, within the tolerance: what is drawn must appear, more may.

    NaN where nothing is drawn.
    """
    strokes = true > 0
    reach = near(found, tolerance(*true.shape[:2]))
    return float((strokes & reach).sum() / strokes.sum()) if strokes.any() else float("nan")
