"""Convergence, gain and benefit on curves whose answer is known."""

from __future__ import annotations

import numpy as np
import pytest

from controlmill.evaluation.convergence import Estimate, benefit, condition_gain, find_convergence, fraction

STEPS = list(range(0, 2001, 100))


def curve(name: str) -> list[float]:
    x = np.array(STEPS)
    rng = np.random.default_rng(0)
    return {
        "step": np.where(x < 1000, 0.02, 0.95),
        "ramp": x / 2000,
        "flat": np.full(len(x), 0.05),
        "noisy flat": 0.1 + 0.1 * rng.standard_normal(len(x)),
        "noisy step": np.where(x < 1000, 0.05, 0.9) + 0.05 * rng.standard_normal(len(x)),
        "spike": np.where(x == 500, 0.9, 0.0),
        "low plateau": np.where(x < 1000, 0.0, 0.6),
        "spike before a ramp": np.where(x == 100, 0.95, x / 2000),
    }[name].tolist()


CLEAR = [0.5] * len(STEPS), [0.1] * len(STEPS)  # a gain that leaves no doubt, and its error


@pytest.mark.parametrize(
    ("name", "step", "rise"),
    [
        ("step", 1000, (908, 991)),
        ("ramp", 1000, (150, 1350)),
        ("flat", None, None),
        ("noisy flat", None, None),
        ("noisy step", 1000, (910, 990)),
        ("spike", None, None),
        ("low plateau", 1000, (910, 990)),
        ("spike before a ramp", 1000, (8, 1350)),
    ],
)
def test_convergence_is_found_where_it_is_with_what_was_measured(
    name: str, step: int | None, rise: tuple[int, int] | None
) -> None:
    found = find_convergence(STEPS, curve(name), *CLEAR)
    assert (found.step if found else None) == step
    if rise:
        assert found.rise == pytest.approx(rise, abs=5)


def test_a_rise_is_the_same_whenever_it_comes() -> None:
    for onset in (200, 500, 900, 1500):
        f = 1 / (1 + np.exp(-(np.array(STEPS) - onset) / 40))
        low, high = find_convergence(STEPS, f, *CLEAR).rise
        assert 150 < high - low < 220  # 176 of the curve itself


def test_fidelity_that_rises_without_gain_is_no_convergence() -> None:
    """Real photographs on a base of shapes: it learns to draw edges, which agree by chance with any map."""
    f = [0, 0.45, 0.58, 0.68, 0.58, 0.66]
    gain, error = [0, 0, 0.001, 0.009, 0.016, 0.018], [0.001, 0.001, 0.001, 0.003, 0.004, 0.004]
    steps = [0, 25, 75, 150, 210, 280]
    assert find_convergence(steps, f, gain, error).step == 210  # at 150 the gain is three errors and no more
    assert find_convergence(steps[:5], f[:5], gain[:5], error[:5]) is None
    assert find_convergence(steps, f, gain, [np.nan] * 6) is None
    assert find_convergence(steps, f, [-1.0] * 6, error) is None


def test_gain_and_benefit_are_relative_to_the_base_at_each_time() -> None:
    base = np.array([[1.0, 0.01]] * 4)
    true, shuffled = base * 0.9, base * 1.2
    gain, helped = condition_gain(shuffled, true, base), benefit(true, base)
    assert gain.mean == pytest.approx(0.3)
    assert helped.mean == pytest.approx(0.1)
    assert gain.error == pytest.approx(0)
    assert isinstance(gain, Estimate)


def test_fraction_works_in_both_directions() -> None:
    assert fraction(0.5, 0.2, 0.8) == pytest.approx(0.5)
    assert fraction(30.0, 40.0, 20.0, lower_is_better=True) == pytest.approx(0.5)


def test_fraction_is_not_known_where_the_ceiling_is_no_better_than_the_floor() -> None:
    for floor, ceiling, lower in ((0.5, 0.45, False), (20.0, 40.0, True), (0.5, 0.5, False), (0.5, 0.5, True)):
        assert np.isnan(fraction(0.2, floor, ceiling, lower))


def test_convergence_leaves_out_what_is_not_known() -> None:
    holes = [np.nan if i % 3 == 1 else f for i, f in enumerate(curve("step"))]
    assert find_convergence(STEPS, holes, *CLEAR).step == 1100  # 1000 is a hole
    assert find_convergence(STEPS, [np.nan] * len(STEPS), *CLEAR) is None
