"""Gain, benefit, fraction and convergence: on numbers whose answer is known, and on nets that learn other things."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from controlmill.evaluation.convergence import (
    TIMES,
    Estimate,
    benefit,
    condition_gain,
    find_convergence,
    fraction,
    other_rows,
)

NONE, CLEAR = Estimate(0.01, 0.02), Estimate(0.2, 0.02)


@given(st.integers(2, 40))
def test_other_rows_are_others_and_each_comes_once(count: int) -> None:
    others = other_rows(count)
    assert sorted(others.tolist()) == list(range(count))
    assert not np.any(others == np.arange(count))
    np.testing.assert_array_equal(others, other_rows(count))


def test_gain_and_benefit_are_relative_to_the_base_at_each_time() -> None:
    base = np.array([[1.0, 0.01]] * 4)
    true, deranged = base * 0.9, base * 1.2
    gain, helped = condition_gain(deranged, true, base), benefit(true, base)
    assert gain.mean == pytest.approx(0.3)
    assert helped.mean == pytest.approx(0.1)
    assert gain.error == pytest.approx(0)


@settings(max_examples=30, deadline=None)
@given(st.integers(2, 32), st.floats(0.05, 0.6), st.integers(0, 99))
def test_benefit_of_the_kind_of_picture_is_no_gain(rows: int, learned: float, seed: int) -> None:
    """A base far out of its domain, and a net that learns the domain and ignores its map: any map gives one loss."""
    base = np.random.default_rng(seed).uniform(0.5, 1.5, (rows, len(TIMES)))
    true = deranged = base * (1 - learned)
    gain, own, others = condition_gain(deranged, true, base), benefit(true, base), benefit(deranged, base)
    assert own.mean == pytest.approx(learned, rel=0.2)
    assert others == own
    assert gain.mean == 0
    assert not gain.is_clear


@settings(max_examples=30, deadline=None)
@given(st.integers(3, 32), st.integers(0, 99))
def test_benefit_of_own_maps_less_that_of_others_is_the_gain(rows: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    base, true, deranged = (rng.uniform(0.5, 1.5, (rows, len(TIMES))) for _ in range(3))
    assert benefit(true, base).mean - benefit(deranged, base).mean == pytest.approx(
        condition_gain(deranged, true, base).mean
    )


def test_an_estimate_is_clear_above_three_standard_errors() -> None:
    assert Estimate(0.031, 0.01).is_clear
    for unclear in (Estimate(0.029, 0.01), Estimate(-1.0, 0.01), Estimate(1.0, float("nan")), Estimate(0.0, 0.0)):
        assert not unclear.is_clear


def test_what_is_not_known_of_a_row_counts_for_nothing() -> None:
    assert Estimate.of(np.array([1.0, np.nan, 3.0])) == Estimate(2.0, 1.0)
    alone, none = Estimate.of(np.array([1.0])), Estimate.of(np.array([np.nan]))
    assert alone.mean == 1.0
    assert np.isnan([alone.error, none.mean, none.error]).all()


def test_fraction_works_in_both_directions() -> None:
    assert fraction(0.5, 0.2, 0.8) == pytest.approx(0.5)
    assert fraction(30.0, 40.0, 20.0, lower_is_better=True) == pytest.approx(0.5)


def test_fraction_is_not_known_where_the_ceiling_is_no_better_than_the_floor() -> None:
    for floor, ceiling, lower in ((0.5, 0.45, False), (20.0, 40.0, True), (0.5, 0.5, False), (0.5, 0.5, True)):
        assert np.isnan(fraction(0.2, floor, ceiling, lower))
    assert np.isnan(fraction(0.2, float("nan"), 0.5))


@pytest.mark.parametrize(
    ("gains", "fidelity", "step"),
    [
        ([NONE, NONE, CLEAR, CLEAR, CLEAR], [NONE, CLEAR, CLEAR, CLEAR, CLEAR], 200),
        ([NONE, CLEAR, NONE, CLEAR, CLEAR], [CLEAR] * 5, 300),  # a spike is no convergence
        ([CLEAR] * 5, [NONE, NONE, NONE, CLEAR, CLEAR], 300),  # nor is gain, where pictures ignore their maps
        ([NONE] * 5, [CLEAR] * 5, None),  # a caption tells of its row's map; pictures follow it without control
        ([CLEAR] * 5, [NONE] * 5, None),
        ([CLEAR] * 5, [Estimate(0.9, float("nan"))] * 5, None),  # one picture
        ([NONE] * 4 + [CLEAR], [CLEAR] * 5, None),  # one evaluation
        ([], [], None),
    ],
)
def test_convergence_needs_both_gains_at_two_evaluations(
    gains: list[Estimate], fidelity: list[Estimate], step: int | None
) -> None:
    assert find_convergence(list(range(0, 100 * len(gains), 100)), gains, fidelity) == step
