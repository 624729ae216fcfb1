"""How sudden control came, on curves whose answer is known: jumps at any onset, ramps, and what was not looked at."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from controlmill.evaluation.convergence import Estimate
from controlmill.evaluation.rise import SUDDEN, Rise, find_rise

Curve = Callable[[np.ndarray], np.ndarray]
LAST = 2000


def jump(onset: float, width: float) -> Curve:
    """From 10 % to 90 % within ``width`` steps."""
    return lambda at: 1 / (1 + np.exp(np.clip(-2 * np.log(9) * (at - onset) / width, -60, 60)))


def ramp(at: np.ndarray) -> np.ndarray:
    return at / LAST


def square(at: np.ndarray) -> np.ndarray:
    return (at / LAST) ** 2


def saturating(at: np.ndarray) -> np.ndarray:
    return 1 - np.exp(-at / 300)


def rise_of(curve: Curve, steps: np.ndarray, seed: int = 0, level: float = 0.4, noise: float = 0.03) -> Rise | None:
    """The rise of a gain with errors of ``noise`` of its level, looked at at ``steps``."""
    rng = np.random.default_rng(seed)
    gain = level * (curve(steps) + noise * curve(steps) * rng.standard_normal(len(steps)))
    return find_rise(steps.tolist(), [Estimate(mean, noise * mean + 1e-3) for mean in gain.tolist()])


def looks(onset: float, near: int = 5, far: int = 50) -> np.ndarray:
    """Every ``far`` steps, and every ``near`` within 100 steps of the onset."""
    every = np.arange(0, LAST + 1, far)
    dense = np.arange(onset - 100, onset + 101, near).round()
    return np.unique(np.concatenate([every, dense[(dense > 0) & (dense < LAST)]]).astype(int))


@settings(max_examples=10, deadline=None)
@given(st.floats(250, 1800), st.floats(5, 100), st.integers(0, 9))
def test_a_jump_is_sudden_whenever_it_comes(onset: float, width: float, seed: int) -> None:
    rise = rise_of(jump(onset, width), looks(onset), seed)
    assert rise is not None
    assert rise.onset.value == pytest.approx(onset, abs=20)
    assert rise.width.low <= 1.1 * width
    assert rise.width.high is not None
    assert 0.9 * width <= rise.width.high <= 1.5 * width + 20
    if width < 0.3 * onset:
        assert rise.sudden == "yes"


@settings(max_examples=8, deadline=None)
@given(st.floats(300, 1600), st.sampled_from([20, 50, 100]), st.integers(0, 9))
def test_one_jump_has_one_width_whenever_it_comes_and_however_it_is_looked_at(
    onset: float, far: int, seed: int
) -> None:
    rise = rise_of(jump(onset, 60), np.arange(0, LAST + 1, far), seed)
    assert rise is not None
    assert rise.width.low <= 63
    assert rise.width.high is not None
    assert 57 <= rise.width.high < 60 + 1.5 * far


@pytest.mark.parametrize("curve", [ramp, square, saturating, jump(600, 900)])
@settings(max_examples=4, deadline=None)
@given(st.sampled_from([20, 50, 100]), st.integers(0, 9))
def test_a_slow_ramp_is_gradual(curve: Curve, far: int, seed: int) -> None:
    rise = rise_of(curve, np.arange(0, LAST + 1, far), seed)
    assert rise is not None
    assert rise.sudden == "no"


@pytest.mark.parametrize("stretch", [1, 10, 100])
def test_a_curve_that_is_only_stretched_is_as_sudden_as_before(stretch: int) -> None:
    steps = np.arange(0, LAST + 1, 50)
    rise = find_rise((steps * stretch).tolist(), [Estimate(mean, 0.01) for mean in jump(800, 200)(steps).tolist()])
    assert rise is not None
    assert rise.ratio.value == pytest.approx(0.25, abs=0.02)
    assert rise.onset.value == pytest.approx(800 * stretch, rel=0.01)
    assert rise.sudden == "yes"


def test_what_was_not_looked_at_is_not_known() -> None:
    """A rise between the first two looks may have come at any step between them, in any time."""
    early = rise_of(jump(40, 20), np.arange(0, LAST + 1, 100))
    assert early is not None
    assert early.sudden == "not known"
    assert early.width.low == 0
    assert early.ratio.low == 0
    assert early.ratio.high is None or early.ratio.high > SUDDEN
    near = rise_of(jump(40, 10), np.arange(0, LAST + 1, 5))
    assert near is not None
    assert near.sudden == "yes"


def test_a_rise_that_has_only_begun_has_an_open_onset() -> None:
    begun = rise_of(jump(2100, 300), np.arange(0, LAST + 1, 50))
    assert begun is not None
    assert begun.onset.high is None


@pytest.mark.parametrize("mean", [0.0, -0.1])
def test_gain_that_does_not_rise_has_none(mean: float) -> None:
    steps = list(range(0, LAST + 1, 50))
    noise = np.random.default_rng(0).standard_normal(len(steps)) * 0.01
    assert find_rise(steps, [Estimate(mean + each, 0.01) for each in noise.tolist()]) is None
    spike = [Estimate(0.5 if step == 500 else 0.0, 0.01) for step in steps]
    assert find_rise(steps, spike) is None
    assert find_rise(steps, [Estimate(0.5, float("nan"))] * len(steps)) is None
    assert find_rise([], []) is None


def test_a_step_that_was_looked_at_twice_counts_once() -> None:
    steps = np.arange(0, 1001, 50).tolist()
    gains = [Estimate(mean, 0.01) for mean in jump(500, 100)(np.array(steps)).tolist()]
    once, wrong = find_rise(steps, gains), Estimate(9.0, 0.01)
    assert find_rise([500, *steps], [wrong, *gains]) == once


def test_errors_that_are_said_to_be_nothing_are_not_believed() -> None:
    """At step 0 of zero convolutions gain is 0 ± 0; and gain may vary more from look to look than rows differ."""
    steps = np.arange(0, LAST + 1, 20)
    curve = jump(800, 100)(steps)
    exact = find_rise(steps.tolist(), [Estimate(mean, 0.0) for mean in curve.tolist()])
    assert exact is not None
    assert exact.width.high is not None
    assert exact.width.low < 99
    assert exact.width.high > 101
    rough = curve + 0.1 * np.random.default_rng(0).standard_normal(len(steps))
    wider = find_rise(steps.tolist(), [Estimate(mean, 1e-3) for mean in rough.tolist()])
    assert wider is not None
    assert wider.width.high is not None
    assert wider.width.high - wider.width.low > 3 * (exact.width.high - exact.width.low)
    assert wider.width.low < 100 < wider.width.high


def test_of_many_looks_those_around_the_rise_are_fitted() -> None:
    rise = rise_of(jump(7_003, 20), np.arange(0, 20_001))
    assert rise is not None
    assert rise.onset.value == pytest.approx(7_003, abs=1)
    assert rise.width.high is not None
    assert 15 < rise.width.low < 20 < rise.width.high < 30
