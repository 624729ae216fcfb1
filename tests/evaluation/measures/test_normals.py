"""Angles between normals: those of PyTorch's cosine similarity; black is unknown."""

from __future__ import annotations

import numpy as np
import pytest

from controlmill.evaluation.measures.normals import mean_angle, median_angle


def normals(seed: int) -> np.ndarray:
    vectors = np.random.default_rng(seed).normal(size=(20, 24, 3))
    vectors /= np.linalg.norm(vectors, axis=2, keepdims=True)
    return np.rint(vectors * 127.5 + 127.5).astype(np.uint8)


def test_angles_are_those_of_torchs_cosine_similarity() -> None:
    torch = pytest.importorskip("torch")
    found, true = normals(0), normals(1)
    true[:5] = 0
    tensors = [torch.from_numpy(array[5:].astype(np.float64) / 127.5 - 1) for array in (found, true)]
    angles = torch.rad2deg(torch.arccos(torch.cosine_similarity(*tensors, dim=2)))
    assert mean_angle(found, true) == pytest.approx(float(angles.mean()))
    assert median_angle(found, true) == pytest.approx(float(angles.quantile(0.5)))


def test_known_angles() -> None:
    up, right = np.full((2, 2, 3), 127, np.uint8), np.full((2, 2, 3), 127, np.uint8)
    up[..., 2], right[..., 0] = 255, 255
    assert mean_angle(up, right) == pytest.approx(90, abs=1)
    assert mean_angle(up, up) == median_angle(up, up) == pytest.approx(0, abs=0.1)
    half = np.concatenate([up, right, up])
    assert mean_angle(half, np.concatenate([up, up, up])) == pytest.approx(30, abs=1)
    assert median_angle(half, np.concatenate([up, up, up])) == pytest.approx(0, abs=0.1)
    assert np.isnan([mean_angle(up, up * 0), median_angle(up, up * 0)]).all(), "nothing is asked for"
