"""Depth maps: inverse and relative, so two of them agree only up to a scale and, between estimators, a shift."""

from __future__ import annotations

import numpy as np

FULL = 255.0  # what errors are said in
LEAST_TRUE = 0.05  # of the true map's range


def rmse(found: np.ndarray, true: np.ndarray) -> float:
    """Root mean square error, 0 to 255, each map stretched from its minimum and maximum to 0 to 255 first."""
    return _error(_stretched(found), _stretched(true))


def rmse_by_maximum(found: np.ndarray, true: np.ndarray, raw_min: float, raw_max: float) -> float:
    """The error as ControlNet++ takes it (``eval/eval.py``), which scales the two sides differently.

    What the judge's network found is divided by its maximum; the true map is stretched from its minimum and maximum.
    Where the network's minimum is 0 this is :func:`rmse`.

    Args:
        found: as it is stored, stretched from its minimum and maximum.
        raw_min, raw_max: the network's minimum and maximum, which are stored beside the map.
    """
    low = raw_min / raw_max if raw_max > 0 else 0.0
    return _error(low * FULL + (1 - low) * _stretched(found), _stretched(true))


def abs_rel(found: np.ndarray, true: np.ndarray) -> float:
    """Mean of |found − true| / true after the scale and shift of the found map that fit best (least squares).

    Both are inverse depth, which is what the fit is made in (Ranftl et al. 2020, section 5). The scale is 0 or more: a
    map in which near is far is no good one. Pixels whose true value is below a twentieth of the way from the true map's
    minimum to its maximum are left out of fit and mean: farther than 20 times the nearest point, and a division by
    almost nothing. NaN where what is left is flat: it asks for nothing.
    """
    truth = _stretched(true) / FULL
    known = truth >= LEAST_TRUE
    a, b = found.astype(np.float64)[known], truth[known]
    if not len(b) or b.min() == b.max():
        return float("nan")
    spread = a - a.mean()
    square = float(spread @ spread)
    scale = max(0.0, float(spread @ b) / square) if square else 0.0
    return float(np.mean(np.abs(scale * spread + b.mean() - b) / b))


def _error(a: np.ndarray, b: np.ndarray) -> float:
    return float(np.sqrt(np.mean((a - b) ** 2)))


def _stretched(array: np.ndarray) -> np.ndarray:
    """float64 (H, W) from 0 to 255; zeros where all is equal."""
    low, high = float(array.min()), float(array.max())
    return (array.astype(np.float64) - low) / (high - low) * FULL if high > low else np.zeros(array.shape)
