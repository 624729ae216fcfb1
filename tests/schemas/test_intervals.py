"""Intervals: scipy's bootstrap, the same for the same seed, and as wide as they say where there are few rows."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from controlmill.schemas.intervals import mean_interval

SCORES = np.random.default_rng(0).gamma(2.0, size=200)


def test_the_interval_of_a_mean_is_scipys() -> None:
    found = mean_interval(SCORES.tolist(), resamples=20_000)
    expected = stats.bootstrap(
        (SCORES,), np.mean, n_resamples=20_000, method="percentile", rng=np.random.default_rng(1)
    )
    width = expected.confidence_interval.high - expected.confidence_interval.low
    assert found.value == pytest.approx(SCORES.mean())
    assert found.low == pytest.approx(expected.confidence_interval.low, abs=0.03 * width)
    assert found.high == pytest.approx(expected.confidence_interval.high, abs=0.03 * width)


def test_the_same_seed_gives_the_same_interval() -> None:
    assert mean_interval(SCORES.tolist(), seed=3) == mean_interval(SCORES.tolist(), seed=3)
    assert mean_interval(SCORES.tolist(), seed=3) != mean_interval(SCORES.tolist(), seed=4)


@pytest.mark.parametrize("rows", [5, 10, 40])
def test_an_interval_of_few_rows_holds_the_true_mean_as_often_as_it_says(rows: int) -> None:
    rng = np.random.default_rng(2)
    found = [mean_interval(rng.beta(2, 3, rows).tolist(), resamples=400) for _ in range(400)]
    held = [one.low is not None and one.high is not None and one.low <= 0.4 <= one.high for one in found]
    assert np.mean(held) > 0.9
