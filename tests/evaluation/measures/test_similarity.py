"""SSIM and MS-SSIM are those of torchmetrics on the same maps."""

from __future__ import annotations

import numpy as np
import pytest

from controlmill.evaluation.measures.similarity import LEAST_SIDE, ms_ssim, ms_ssim_uint8, ssim


def pair(height: int, width: int, share: float = 0.3) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    true = np.add.outer(np.linspace(0, 120, height), np.linspace(0, 120, width))
    return (true + share * rng.uniform(-40, 40, true.shape)).clip(0, 255).astype(np.uint8), true.astype(np.uint8)


def test_ssim_is_that_of_torchmetrics() -> None:
    torch = pytest.importorskip("torch")
    functional = pytest.importorskip("torchmetrics.functional.image")
    found, true = pair(60, 72)
    tensors = [torch.from_numpy(array.astype(np.float64))[None, None] for array in (found, true)]
    expected = float(functional.structural_similarity_index_measure(*tensors, data_range=255.0))
    assert ssim(found, true) == pytest.approx(expected, abs=1e-9)
    assert ssim(true, true) == pytest.approx(1)
    assert ssim(true[:8, :8], true[:8, :8]) == pytest.approx(1), "maps smaller than a window have a number too"


@pytest.mark.parametrize("share", [0.3, 3.0, -1.0])
def test_ms_ssim_is_that_of_torchmetrics(share: float) -> None:
    torch = pytest.importorskip("torch")
    functional = pytest.importorskip("torchmetrics.functional.image")
    found, true = pair(177, 192, abs(share))
    found = 255 - found if share < 0 else found  # contrasts disagree
    tensors = [torch.from_numpy(array / 255.0)[None, None] for array in (found, true)]
    expected = float(functional.multiscale_structural_similarity_index_measure(*tensors, data_range=1.0))
    assert ms_ssim(found, true) == pytest.approx(expected, abs=1e-6)


def test_ms_ssim_needs_five_scales() -> None:
    found, true = pair(LEAST_SIDE, LEAST_SIDE)
    assert 0 < ms_ssim(found, true) < 1
    with pytest.raises(ValueError, match="176 pixels"):
        ms_ssim(found[:-1], true[:-1])


def test_an_inversion_in_8_bits_wraps_the_two_brightest_levels() -> None:
    torch = pytest.importorskip("torch")
    found, true = pair(LEAST_SIDE, LEAST_SIDE)
    found[20:90, 30:60] = np.arange(226, 256)
    judged = torch.from_numpy(255 - found)  # dark lines, as the judge of ControlNet++ draws them
    wrapped = (1 - judged).numpy()
    assert (wrapped[20:90, 58:60] < 2).all()
    assert ms_ssim_uint8(found, true) == ms_ssim(wrapped, true) != ms_ssim(found, true)
