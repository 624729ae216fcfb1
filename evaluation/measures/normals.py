"""Surface normals: the angle between two, stored as 127.5 + 127.5 n. Where the true map is black nothing is known."""

from __future__ import annotations

import numpy as np


def mean_angle(found: np.ndarray, true: np.ndarray) -> float:
    """Mean angle in degrees over the pixels whose true normal is known; NaN where none is."""
    angles = _angles(found, true)
    return float(angles.mean()) if len(angles) else float("nan")


def median_angle(found: np.ndarray, true: np.ndarray) -> float:
    """Median angle in degrees over the pixels of this picture whose true normal is known; NaN where none is."""
    angles = _angles(found, true)
    return float(np.median(angles)) if len(angles) else float("nan")


def _angles(found: np.ndarray, true: np.ndarray) -> np.ndarray:
    """Degrees, float64 (known pixels,)."""
    known = true.any(axis=2)
    a, b = (array[known].astype(np.float64) / 127.5 - 1 for array in (found, true))
    norms = np.linalg.norm(a, axis=1) * np.linalg.norm(b, axis=1)
    cosine = (a * b).sum(axis=1) / np.maximum(norms, 1e-6)
    angles: np.ndarray = np.degrees(np.arccos(cosine.clip(-1, 1)))
    return angles
