"""Structural similarity of grey maps, at one scale (Wang et al. 2004) and at five (Wang et al. 2003)."""

from __future__ import annotations

import cv2
import numpy as np

WINDOW = 11  # pixels, of a Gaussian of
SIGMA = 1.5
RANGE = 255.0
WEIGHTS = (0.0448, 0.2856, 0.3001, 0.2363, 0.1333)  # of the scales, the finest first
LEAST_SIDE = WINDOW * 2 ** (len(WEIGHTS) - 1)  # a window in the coarsest scale


def ssim(found: np.ndarray, true: np.ndarray) -> float:
    """Mean SSIM of grey maps in 0 to 255, at most 1; beyond its border a map is mirrored, as in torchmetrics."""
    return _terms(found.astype(np.float64), true.astype(np.float64))[0]


def ms_ssim(found: np.ndarray, true: np.ndarray) -> float:
    """Multi-scale SSIM of grey maps in 0 to 255, at most 1.

    The scales are halved by the mean of 2×2 pixels. As in torchmetrics 1.9, contrasts are of windows within the map,
    the coarsest scale's similarity is of the whole map, and a mean below zero is taken as 0 (``normalize="relu"``).

    Raises:
        ValueError: a side is below ``LEAST_SIDE``, 176 pixels.
    """
    if min(true.shape) < LEAST_SIDE:
        raise ValueError(f"multi-scale SSIM needs sides of at least {LEAST_SIDE} pixels, not {true.shape}")
    a, b, product = found.astype(np.float64), true.astype(np.float64), 1.0
    for scale, weight in enumerate(WEIGHTS):
        similarity, contrast = _terms(a, b)
        product *= max(0.0, similarity if scale == len(WEIGHTS) - 1 else contrast) ** weight
        a, b = _halved(a), _halved(b)
    return product


def ms_ssim_uint8(found: np.ndarray, true: np.ndarray) -> float:
    """Multi-scale SSIM of line drawings as ControlNet++ takes it (``eval/eval_edge.py``), which inverts in 8 bits.

    The judge's dark lines are made bright by 1 − x modulo 256 in the place of 255 − x: all is two levels brighter, but
    the two brightest levels, lines without doubt, become the darkest.

    Args:
        found, true: bright lines on black, as the table stores them.
    """
    return ms_ssim(found.astype(np.uint8) + np.uint8(2), true)


def _terms(a: np.ndarray, b: np.ndarray) -> tuple[float, float]:
    """Means of SSIM over the map, and of its contrast and structure alone where windows lie within the map."""
    c1, c2 = (0.01 * RANGE) ** 2, (0.03 * RANGE) ** 2

    def blur(array: np.ndarray) -> np.ndarray:
        return cv2.GaussianBlur(array, (WINDOW, WINDOW), SIGMA)

    mean_a, mean_b = blur(a), blur(b)
    var_a, var_b, cov = blur(a * a) - mean_a**2, blur(b * b) - mean_b**2, blur(a * b) - mean_a * mean_b
    contrast = (2 * cov + c2) / (var_a + var_b + c2)
    similarity = contrast * (2 * mean_a * mean_b + c1) / (mean_a**2 + mean_b**2 + c1)
    edge = WINDOW // 2
    return float(similarity.mean()), float(contrast[edge:-edge, edge:-edge].mean()) if min(a.shape) > WINDOW else 0.0


def _halved(array: np.ndarray) -> np.ndarray:
    """Means of 2×2 pixels; an odd last row or column is left out."""
    height, width = array.shape[0] // 2, array.shape[1] // 2
    blocks: np.ndarray = array[: 2 * height, : 2 * width].reshape(height, 2, width, 2).mean(axis=(1, 3))
    return blocks
