"""Does it learn? Condition gain, benefit, fidelity between floor and ceiling, and when control was gained."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

TIMES = (50, 250, 450, 650, 850, 950)  # of 1,000: the loss is dominated by the first, the condition acts on the later
HALF = 0.5
HELD_FOR = 2  # evaluations
CLEAR = 3.0  # standard errors that a gain is above zero


@dataclass(frozen=True)
class Estimate:
    """A mean over held-out rows and its standard error."""

    mean: float
    error: float


def relative(worse: np.ndarray, better: np.ndarray, base: np.ndarray) -> Estimate:
    """Mean over times of (worse − better) / base(t), paired by row.

    Args:
        worse, better: losses, float (rows, times), with the same picture, noise and caption.
        base: losses of the base alone, (rows, times); its mean at each time is the unit.
    """
    rows = ((worse - better) / base.mean(axis=0)).mean(axis=1)
    error = float(rows.std(ddof=1) / np.sqrt(len(rows))) if len(rows) > 1 else float("nan")
    return Estimate(float(rows.mean()), error)


def condition_gain(shuffled: np.ndarray, true: np.ndarray, base: np.ndarray) -> Estimate:
    """How much worse the loss gets with another row's map. It includes the price of trusting a wrong map."""
    return relative(shuffled, true, base)


def benefit(true: np.ndarray, base: np.ndarray) -> Estimate:
    """How much better the loss is with the map than without a ControlNet."""
    return relative(base, true, base)


def fraction(fidelity: float, floor: float, ceiling: float, lower_is_better: bool = False) -> float:
    """f: 0 at the floor (no control), 1 at the ceiling (the true picture through the VAE).

    NaN where the ceiling is not better than the floor: the measure does not tell control from none.
    """
    better = floor > ceiling if lower_is_better else ceiling > floor
    return (fidelity - floor) / (ceiling - floor) if better else float("nan")


@dataclass(frozen=True)
class Convergence:
    """Evaluations that follow the map: what was measured, not how it came about.

    ``step`` is the first of ``HELD_FOR`` evaluations in a row with a gain above ``CLEAR`` standard errors and f of at
    least a half. ``rise`` are the steps at which f crossed 10 % and 90 % of the level that it then kept, known no
    better than the evaluations are apart; None where a crossing was not seen.
    """

    step: int
    rise: tuple[float, float] | None


def find_convergence(
    steps: Sequence[int], fractions: Sequence[float], gains: Sequence[float], errors: Sequence[float]
) -> Convergence | None:
    """When control was gained, if it was.

    f alone does not tell: a base that sees pictures of another kind than its own draws more edges after a few steps,
    some of which agree with any map. Between evaluations f is taken as a straight line, its level is the median from
    convergence on; evaluations at which f is NaN are left out.

    Args:
        steps, fractions: of the evaluations, and f at each.
        gains, errors: condition gain at each, and its standard error.
    """
    known = np.isfinite(np.asarray(fractions, float))
    f, gain, error = (np.asarray(values, float)[known] for values in (fractions, gains, errors))
    steps = np.asarray(steps)[known].tolist()
    good = (f >= HALF) & (gain > CLEAR * error)
    first = next((i for i in range(len(f) - HELD_FOR + 1) if good[i : i + HELD_FOR].all()), None)
    if first is None:
        return None
    level = float(np.median(f[first:]))
    tops = _crossings(steps, f, 0.9 * level)
    if f[first] >= 0.9 * level:
        end = next((step for step in reversed(tops) if step <= steps[first]), None)  # the last: spikes fell again
    else:
        end = next((step for step in tops if step > steps[first]), None)
    starts = [step for step in _crossings(steps, f, 0.1 * level) if end is not None and step <= end]
    return Convergence(int(steps[first]), (float(starts[-1]), float(end)) if starts and end is not None else None)


def _crossings(steps: Sequence[int], f: np.ndarray, level: float) -> list[float]:
    """The steps at which ``f`` crossed ``level`` upwards."""
    return [
        steps[i] + (steps[i + 1] - steps[i]) * (level - f[i]) / (f[i + 1] - f[i])
        for i in range(len(f) - 1)
        if f[i] < level <= f[i + 1]
    ]
