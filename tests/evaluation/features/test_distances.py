"""Distances between sets of features, against reference implementations and closed forms."""

from __future__ import annotations

import numpy as np
import pytest

from controlmill.evaluation.features.distances import clip_score, cmmd, fid, kid


def sets(rows: int, dimensions: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Two sets of features that overlap, float32."""
    rng = np.random.default_rng(seed)
    mix = rng.normal(size=(dimensions, dimensions)) / np.sqrt(dimensions)
    found, true = rng.normal(size=(2, rows, dimensions))
    return (found @ mix + 0.3).astype(np.float32), true.astype(np.float32)


def test_fid_is_clean_fids() -> None:
    reference = pytest.importorskip("cleanfid.fid")
    found, true = sets(200, 24)
    assert fid(found, true) == pytest.approx(reference.fid_from_feats(found, true), rel=1e-3)


def test_fid_is_that_of_a_root_of_a_matrix() -> None:
    linalg = pytest.importorskip("scipy.linalg")
    found, true = (rows.astype(np.float64) for rows in sets(200, 24))
    covariances = [np.cov(rows, rowvar=False) for rows in (found, true)]
    apart = found.mean(0) - true.mean(0)
    root = linalg.sqrtm(covariances[0] @ covariances[1])
    expected = apart @ apart + np.trace(covariances[0] + covariances[1] - 2 * root.real)
    assert fid(found, true) == pytest.approx(expected, rel=1e-6)


def test_fid_of_gaussians_in_one_dimension() -> None:
    rng = np.random.default_rng(1)
    found, true = rng.normal(2.0, 3.0, (50, 1)), rng.normal(0.0, 1.0, (80, 1))
    expected = (found.mean() - true.mean()) ** 2 + (found.std(ddof=1) - true.std(ddof=1)) ** 2
    assert fid(found, true) == pytest.approx(expected, rel=1e-9)


def test_fid_with_fewer_pictures_than_dimensions() -> None:
    """Dimensions that say nothing change nothing, though covariances are singular then."""
    found, true = sets(30, 8)
    wider = [np.hstack([rows, np.zeros((30, 100))]) for rows in (found, true)]
    assert fid(*wider) == pytest.approx(fid(found, true), rel=1e-9)
    assert fid(found, found) == pytest.approx(0, abs=1e-9)


def test_kid_is_clean_fids() -> None:
    reference = pytest.importorskip("cleanfid.fid")
    found, true = sets(60, 24)
    assert kid(found, true) == pytest.approx(reference.kernel_distance(found, true), rel=1e-4)


def test_kid_is_torchmetrics() -> None:
    torch = pytest.importorskip("torch")
    from torchmetrics.image.kid import poly_mmd

    found, true = sets(60, 24)
    expected = float(poly_mmd(torch.from_numpy(true).double(), torch.from_numpy(found).double()))
    assert kid(found, true) == pytest.approx(expected, rel=1e-6)


def test_kid_of_subsets_varies_little_and_with_the_seed_alone() -> None:
    found, true = sets(60, 24)
    parts = [kid(found, true, subsets=50, size=40, seed=seed) for seed in (0, 0, 1)]
    assert parts[0] == parts[1] != parts[2]
    assert parts[0] == pytest.approx(kid(found, true), rel=0.1)


def test_cmmd_is_its_definition() -> None:
    """In blocks the same as a mean over all pairs."""
    found, true = sets(1100, 6)

    def kernel(one: np.ndarray, other: np.ndarray) -> float:
        apart = ((one[:, None].astype(float) - other[None]) ** 2).sum(-1)
        return float(np.exp(-apart / 200).mean())

    expected = 1000 * (kernel(found, found) + kernel(true, true) - 2 * kernel(found, true))
    assert cmmd(found, true) == pytest.approx(expected, rel=1e-9)


def test_clip_score_is_a_cosine() -> None:
    pictures = np.array([[1.0, 0.0], [0.0, 2.0], [1.0, 1.0]])
    texts = np.array([[3.0, 0.0], [0.0, -1.0], [1.0, 0.0]])
    assert clip_score(pictures, texts) == pytest.approx([100, 0, 100 / np.sqrt(2)])


@pytest.mark.parametrize("distance", [fid, kid, cmmd])
def test_sets_that_cannot_be_compared(distance: object) -> None:
    assert callable(distance)
    found, true = sets(4, 3)
    for wrong, words in ((true[:, :2], "shapes"), (true[:1], "2 of each"), (true * np.nan, "not finite")):
        with pytest.raises(ValueError, match=words):
            distance(found, wrong)
