"""Errors of depth: torchmetrics' and scipy's numbers, and what each forgives."""

from __future__ import annotations

import numpy as np
import pytest

from controlmill.evaluation.measures.depth import LEAST_TRUE, abs_rel, rmse, rmse_by_maximum


def depths() -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    true = np.add.outer(np.linspace(0, 40000, 40), np.linspace(0, 20000, 32))
    found = (0.6 * true + 4000 + rng.normal(0, 2000, true.shape)).clip(0, 65535)
    return found.astype(np.uint16), true.astype(np.uint16)


def stretched(array: np.ndarray) -> np.ndarray:
    low, high = array.min().astype(float), array.max().astype(float)
    return (array - low) / (high - low) * 255


def test_rmse_is_that_of_torchmetrics_on_stretched_maps() -> None:
    torch = pytest.importorskip("torch")
    functional = pytest.importorskip("torchmetrics.functional.regression")
    found, true = depths()
    tensors = [torch.from_numpy(stretched(array)).ravel() for array in (found, true)]
    assert rmse(found, true) == pytest.approx(float(functional.mean_squared_error(*tensors, squared=False)))


def test_rmse_by_maximum_takes_what_the_network_said_over_its_maximum() -> None:
    torch = pytest.importorskip("torch")
    functional = pytest.importorskip("torchmetrics.functional.regression")
    raw = np.random.default_rng(1).uniform(3.0, 21.0, (40, 32))
    stored = np.rint((raw - raw.min()) / (raw.max() - raw.min()) * 65535).astype(np.uint16)
    _, true = depths()
    tensors = [torch.from_numpy(array).ravel() for array in (raw / raw.max() * 255, stretched(true))]
    expected = float(functional.mean_squared_error(*tensors, squared=False))
    assert rmse_by_maximum(stored, true, raw.min(), raw.max()) == pytest.approx(expected, rel=1e-5)
    assert rmse_by_maximum(stored, true, 0.0, raw.max()) == pytest.approx(rmse(stored, true))
    assert rmse_by_maximum(stored * 0, true, 0.0, 0.0) == pytest.approx(rmse(stored * 0, true))


def test_abs_rel_is_that_of_torchmetrics_after_scipys_fit() -> None:
    torch = pytest.importorskip("torch")
    functional = pytest.importorskip("torchmetrics.functional.regression")
    stats = pytest.importorskip("scipy.stats")
    found, true = depths()
    truth = stretched(true) / 255
    known = truth >= LEAST_TRUE
    fit = stats.linregress(found[known].astype(float), truth[known])
    tensors = [torch.from_numpy(array) for array in (fit.slope * found[known] + fit.intercept, truth[known])]
    assert abs_rel(found, true) == pytest.approx(float(functional.mean_absolute_percentage_error(*tensors)), rel=1e-6)


def test_relative_depth_has_no_scale_and_no_zero() -> None:
    depth = np.arange(16, dtype=np.uint16).reshape(4, 4)
    assert rmse(depth * 3 + 7, depth) == pytest.approx(0)
    assert abs_rel(depth * 3 + 7, depth) == pytest.approx(0)
    assert rmse(depth * 0, depth) == pytest.approx(255 * np.sqrt(np.mean(np.linspace(0, 1, 16) ** 2)))
    assert rmse(depth[::-1, ::-1], depth) > rmse(depth * 0, depth)
    assert abs_rel(depth * 0, depth) > 0.5, "a flat map explains nothing"
    assert abs_rel(15 - depth, depth) == pytest.approx(abs_rel(depth * 0, depth)), "near taken for far explains nothing"
    near = np.where(depth > 7, 100, 0).astype(np.uint16)
    assert np.isnan([abs_rel(depth, depth * 0), abs_rel(depth, near)]).all(), (
        "a flat truth asks for nothing, which nothing found answers well"
    )
