"""PCK: the share of true keypoints that are found again, people being matched first.

A keypoint is found if it is within α · max(h, w) of the true one, h and w being the sides of the box around the
person's true keypoints, α = 0.1 (Yang & Ramanan 2013, "Articulated human detection with flexible mixtures of parts").
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

PARTS = 18  # COCO-18, as the pose table stores
ALPHA = 0.1
LEAST_PIXELS = 1.0  # a person of whom one point is seen has a box without sides


def people_of(flat: Sequence[float] | None) -> np.ndarray:
    """The stored column ``keypoints`` as float64 (people, 18, 2): x and y in pixels, NaN for a part not seen."""
    points = np.asarray([] if flat is None else flat, np.float64).reshape(-1, PARTS, 2)
    return np.where((points < 0).any(axis=2, keepdims=True), np.nan, points)


def within(flat: Sequence[float] | None, left: int, top: int, side: int) -> list[float]:
    """Stored keypoints in the pixels of a square window; those outside it become parts that are not seen."""
    points = people_of(flat) - (left, top)
    inside = ((points >= 0) & (points < side)).all(axis=2, keepdims=True)
    found: list[float] = np.where(inside, points, -1).ravel().tolist()
    return found


def pck(found: Sequence[float] | None, true: Sequence[float] | None) -> float:
    """PCK@0.1 of two stored lists of keypoints, 0 to 1.

    Found people are given to true ones so that the most keypoints are right (Hungarian method), each to one at most; a
    true person who is left over has none. Found people who are left over cost nothing, as in COCO's recall. NaN
    where nobody is in the true map.
    """
    from scipy.optimize import linear_sum_assignment

    ours, theirs = people_of(found), people_of(true)
    there = ~np.isnan(theirs).any(axis=2)
    theirs, there = theirs[there.any(axis=1)], there[there.any(axis=1)]
    if not len(theirs):
        return float("nan")
    sides = np.nanmax(theirs, axis=1) - np.nanmin(theirs, axis=1)
    reach = np.maximum(ALPHA * sides.max(axis=1), LEAST_PIXELS)
    distance = np.linalg.norm(theirs[:, None] - ours[None], axis=3)  # (true, found, 18); NaN where either is not seen
    right = (np.nan_to_num(distance, nan=np.inf) <= reach[:, None, None]).sum(axis=2)
    pairs = linear_sum_assignment(right, maximize=True)
    return float(right[pairs].sum() / there.sum())
