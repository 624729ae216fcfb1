"""Distances between two sets of features, and between pictures and their texts. Pure functions of arrays.

Features of a set are float (N, D), a row for each picture; computed with in float64.
"""

from __future__ import annotations

from typing import Any

import numpy as np

CMMD_SIGMA, CMMD_SCALE = 10.0, 1000.0  # Jayasumana et al. 2024
BLOCK = 1024  # rows of a kernel matrix that are held at once


def fid(found: np.ndarray, true: np.ndarray) -> float:
    """Fréchet distance between the Gaussians of two sets (Heusel et al. 2017); 0 and more, lower is better.

    With covariances AᵀA and BᵀB, tr √(AᵀA BᵀB) is the sum of the singular values of ABᵀ. So no root of a matrix is
    taken that is singular where there are fewer pictures than dimensions. Such a distance is biased upwards, by more
    the fewer pictures there are: compare equal numbers of pictures only.

    Args:
        found: (N, D), at least 2 rows.
        true: (M, D), at least 2 rows.

    Raises:
        ValueError: fewer rows, another D, or values that are not finite.
    """
    found, true = _checked(found, true)
    difference = found.mean(0) - true.mean(0)
    one, other = _root_of_covariance(found), _root_of_covariance(true)
    common = np.linalg.svd(one @ other.T, compute_uv=False).sum()
    return float(max(0.0, difference @ difference + (one**2).sum() + (other**2).sum() - 2 * common))


def kid(found: np.ndarray, true: np.ndarray, subsets: int = 100, size: int = 1000, seed: int = 0) -> float:
    """Kernel distance (Bińkowski et al. 2018): unbiased MMD² with the kernel (x·y / D + 1)³, a mean over subsets.

    Where neither set has more than ``size`` rows and both have the same number, all subsets are the whole sets and one
    is enough.

    Args:
        found: (N, D), at least 2 rows.
        true: (M, D), at least 2 rows.
        subsets: how many are drawn, without replacement.
        size: rows of each, or those of the smaller set.
        seed: of the draws.

    Raises:
        ValueError: see :func:`fid`.
    """
    found, true = _checked(found, true)
    size = min(size, len(found), len(true))
    rng = np.random.default_rng(seed)
    values = []
    for _ in range(1 if size == len(found) == len(true) else subsets):
        one = found[rng.choice(len(found), size, replace=False)]
        other = true[rng.choice(len(true), size, replace=False)]
        within = [_cubic(rows, rows) for rows in (one, other)]
        unbiased = sum((kernel.sum() - np.trace(kernel)) / (size * (size - 1)) for kernel in within)
        values.append(unbiased - 2 * _cubic(one, other).mean())
    return float(np.mean(values))


def cmmd(found: np.ndarray, true: np.ndarray) -> float:
    """CLIP maximum mean discrepancy (Jayasumana et al. 2024): biased MMD², Gaussian kernel of width 10, times 1,000.

    Args:
        found: (N, D) embeddings of CLIP ViT-L/14 at 336, of length 1 (``clip_336``).
        true: (M, D) likewise.

    Raises:
        ValueError: see :func:`fid`.
    """
    found, true = _checked(found, true)
    return float(CMMD_SCALE * (_gaussian(found, found) + _gaussian(true, true) - 2 * _gaussian(found, true)))


def clip_score(pictures: np.ndarray, texts: np.ndarray) -> np.ndarray:
    """100 × the cosine between each picture and its text (Hessel et al. 2021), where it is positive; else 0.

    Args:
        pictures: (N, D) embeddings of CLIP, of any length but 0.
        texts: (N, D) of the same model.

    Returns:
        float64 (N,), 0 to 100.
    """
    one, other = (rows / np.linalg.norm(rows, axis=1, keepdims=True) for rows in map(_float64, (pictures, texts)))
    return np.maximum(100.0 * (one * other).sum(1), 0.0)


def _root_of_covariance(rows: np.ndarray) -> np.ndarray:
    """A with AᵀA = the covariance of rows (N, D), divided by N − 1; of min(N, D) rows."""
    centred = (rows - rows.mean(0)) / np.sqrt(len(rows) - 1)
    if len(rows) <= rows.shape[1]:
        return centred
    root: Any = np.linalg.qr(centred, mode="r")
    return np.asarray(root)


def _cubic(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    return (one @ other.T / one.shape[1] + 1) ** 3


def _gaussian(one: np.ndarray, other: np.ndarray) -> float:
    """The mean of the kernel over all pairs, in blocks: a kernel matrix of 30,000 rows takes 7 GB."""
    squares = (other**2).sum(1)
    total = 0.0
    for first in range(0, len(one), BLOCK):
        rows = one[first : first + BLOCK]
        apart = (rows**2).sum(1)[:, None] + squares - 2 * rows @ other.T
        total += np.exp(-apart / (2 * CMMD_SIGMA**2)).sum()
    return total / (len(one) * len(other))


def _checked(found: np.ndarray, true: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    found, true = _float64(found), _float64(true)
    if found.ndim != 2 or true.ndim != 2 or found.shape[1] != true.shape[1]:
        raise ValueError(f"features are of shapes {found.shape} and {true.shape}")
    if min(len(found), len(true)) < 2:
        raise ValueError(f"{len(found)} and {len(true)} pictures: a distance between sets takes 2 of each at least")
    if not (np.isfinite(found).all() and np.isfinite(true).all()):
        raise ValueError("features are not finite")
    return found, true


def _float64(values: np.ndarray) -> np.ndarray:
    return np.asarray(values, np.float64)
