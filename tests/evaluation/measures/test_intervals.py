"""Intervals of measures: over rows and not over pictures, of sets taken again of each resample."""

from __future__ import annotations

import numpy as np
import pytest

from controlmill.evaluation.measures.catalogue import MEASURES
from controlmill.evaluation.measures.intervals import bootstrap, bootstrap_gain
from controlmill.schemas.intervals import Interval, mean_interval

SCORES = np.random.default_rng(0).gamma(2.0, size=200)
SCORE = MEASURES["ssim"]


def test_rows_are_resampled_and_not_pictures() -> None:
    single = bootstrap(SCORE, {i: [(score,)] for i, score in enumerate(SCORES)})
    four = bootstrap(SCORE, {i: [(score,)] * 4 for i, score in enumerate(SCORES)})
    assert four == single, "four pictures that say the same make nothing surer"


def areas(iou: float) -> list[float]:
    """A map of one class, 100 pixels, of which a share is found."""
    return [0, 100 * iou, 100 * iou, 100]


def test_a_measure_over_the_set_is_taken_again_of_each_resample() -> None:
    measure = MEASURES["miou_of_set"]
    rows = {i: [areas(0.2 + 0.6 * (i % 2))] * 2 for i in range(40)}
    found = bootstrap(measure, rows, resamples=300)
    assert found.value == pytest.approx(0.5)
    assert found.rows == 40
    error = 0.3 / np.sqrt(40)  # of the mean of 40 shares, .2 or .8
    assert found.low is not None
    assert found.high is not None
    assert 0.5 - found.low == pytest.approx(1.96 * error, rel=0.25)
    assert found.high - 0.5 == pytest.approx(1.96 * error, rel=0.25)


@pytest.mark.parametrize("name", ["ssim", "rmse", "miou_of_set"])
def test_a_gain_is_paired_by_row_and_above_zero_where_it_is_better(name: str) -> None:
    measure, base = MEASURES[name], np.random.default_rng(1).uniform(0.2, 0.6, 40)
    worse, better = (base + 0.1, base) if measure.lower_is_better else (base, base + 0.1)
    part = areas if measure.over == "set" else lambda value: [value]
    own, others = ({i: [part(value)] for i, value in enumerate(values)} for values in (better, worse))
    found = bootstrap_gain(measure, own, {**others, "lone": [part(0.9)]}, resamples=100)
    assert found.value == pytest.approx(0.1)
    assert (found.low, found.high) == (pytest.approx(0.1), pytest.approx(0.1))  # every row is better by that
    assert found.rows == 40


def test_too_few_rows_have_no_interval() -> None:
    nothing = Interval(None, None, None, 0)
    assert mean_interval([0.1, 0.2, 0.3, 0.9]) == Interval(pytest.approx(0.375), None, None, 4)
    assert mean_interval([]) == mean_interval([float("nan")]) == bootstrap(SCORE, {"a": []}) == nothing
    assert mean_interval([0.5, float("nan")]) == Interval(0.5, None, None, 1)
    assert bootstrap(MEASURES["miou_of_set"], {"a": [areas(0.5)]}) == Interval(0.5, None, None, 1)
    assert bootstrap(MEASURES["miou_of_set"], {"a": [[]]}) == Interval(None, None, None, 1)
