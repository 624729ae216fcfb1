"""Verdicts are computed from intervals over seeds."""

from __future__ import annotations

import pytest

from recipes.reproduce.verdicts import interval_of, verdict_of


@pytest.mark.parametrize(
    ("values", "verdict"),
    [
        ([], "undecided"),
        ([5.0], "undecided"),
        ([5.0, 5.1], "undecided"),
        ([5.0, 5.1, 4.9], "reproduced"),
        ([-5.0, -5.1, -4.9], "not reproduced"),
        ([5.0, 0.1, 3.0], "undecided"),
        ([0.0, 0.0, 0.0], "undecided"),
    ],
)
def test_an_interval_on_one_side_of_zero_decides(values: list[float], verdict: str) -> None:
    assert verdict_of(interval_of(dict(enumerate(values)))) == verdict


def test_the_interval_is_students() -> None:
    interval = interval_of({0: 1.0, 1: 2.0, 4: 3.0})
    assert interval is not None
    assert interval.low is not None
    assert interval.high is not None
    assert (interval.mean, interval.low, interval.high) == pytest.approx(
        (2.0, 2 - 4.3027 / 3**0.5, 2 + 4.3027 / 3**0.5), 1e-4
    )
