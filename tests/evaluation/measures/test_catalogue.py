"""Every condition has measures, and each tells the same map from another."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from controlmill.evaluation.measures.catalogue import BESIDE, MEASURES, beside, measures_of
from controlmill.evaluation.measures.measure import Measure
from controlmill.schemas.conditions import CONDITIONS, imported


def test_every_condition_that_is_annotated_has_measures() -> None:
    assert [c.name for c in CONDITIONS.values() if c.fidelity and not measures_of(c)] == []
    assert [c.name for c in CONDITIONS.values() if not measures_of(c)] == ["caption"]
    assert measures_of(imported("mine", "gray8")) == ()
    assert {m.fidelity for m in MEASURES.values()} == {c.fidelity for c in CONDITIONS.values() if c.fidelity}


def test_what_only_protocols_ask_for_is_not_among_a_conditions_measures() -> None:
    usual = {measure.name for condition in CONDITIONS.values() for measure in measures_of(condition)}
    assert set(MEASURES) - usual == {"f1_of_row", "ms_ssim_uint8", "rmse_by_maximum"}


def stored(measure: Measure, seed: int) -> Any:
    """A map (or what is compared in its place) as some annotator stores it."""
    rng = np.random.default_rng(seed)
    size = (176, 184, 3) if measure.fidelity == "mean-angle" else (176, 184)
    array = rng.integers(0, 2 if measure.fidelity != "rmse" else 255, size).astype(np.uint8)
    array = array if measure.fidelity == "miou" else array * (200 if measure.fidelity == "ssim" else 255)
    columns = {"keypoints": rng.uniform(20, 150, 36).tolist(), "scores": [0.5] * 18, "raw_min": 0.5, "raw_max": 2.0}
    return {"map": array, **columns} if measure.columns else array


@pytest.mark.parametrize("name", sorted(MEASURES))
def test_the_direction_of_a_measure_is_right(name: str) -> None:
    measure = MEASURES[name]
    true, other = stored(measure, 0), stored(measure, 1)
    same = measure.score(true, true)
    if name not in ("rmse_by_maximum", "ms_ssim_uint8"):  # their two sides are not treated alike
        assert same == pytest.approx(0.0 if measure.lower_is_better else 1.0, abs=1e-6)
    different = measure.score(other * 0 if name == "stroke_recall" else other, true)
    assert same < different if measure.lower_is_better else same > different


def test_what_is_reported_beside_a_measure_is_of_the_same_conditions() -> None:
    for name in BESIDE:
        assert {other.fidelity for other in beside(MEASURES[name])} == {MEASURES[name].fidelity}
    assert [measure.name for measure in beside(measures_of(CONDITIONS["canny"])[0])] == ["f1"]
    assert beside(MEASURES["ssim"]) == ()


@pytest.mark.parametrize(("side", "label"), [(64, "F1 within 1 px"), (512, "F1 within 2 px"), (1024, "F1 within 4 px")])
def test_a_tolerance_is_said_in_pixels_of_the_picture_at_hand(side: int, label: str) -> None:
    assert MEASURES["f1_within"].label(side, side // 2) == label
