"""Bootstrap intervals over rows: what a measure might have been with other rows of the same kind.

Rows are resampled, never pictures: the pictures of a row share its map and its prompt, so they are not independent, and
an interval over pictures would be too narrow. Percentile bootstrap (Efron 1979), seeded, its ends moved outward for few
rows (the expanded interval of Hesterberg 2015): as it is, one of 5 rows holds the truth 83 times in 100 and one of 10
rows 90 times, so 92 and 95.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from .measure import Measure, Part

RESAMPLES = 1000
LEVEL = 0.95
FEWEST = 5  # rows: fewer cannot say how far others lie apart
AT_ONCE = 2**22  # indices that are drawn at once


@dataclass(frozen=True)
class Interval:
    """A value over ``rows`` rows and the ends of its 95 % interval; None where fewer than ``FEWEST`` have a value."""

    value: float | None
    low: float | None
    high: float | None
    rows: int


def bootstrap(
    measure: Measure, rows: Mapping[Any, Sequence[Part]], seed: int = 0, resamples: int = RESAMPLES
) -> Interval:
    """The interval of a measure from the parts of each row's pictures.

    A row whose value is NaN, or that has no pictures, counts for nothing; of a measure over the set, all rows with
    pictures count.
    """
    if measure.over == "row":
        return mean_interval([measure.value(parts) for parts in rows.values() if len(parts)], seed, resamples)
    pictures = _arrays(rows.values())

    def of_drawn(drawn: Sequence[int]) -> float:
        return measure.of_set({i: pictures[row] for i, row in enumerate(drawn)})

    return _of_set(of_drawn, len(pictures), seed, resamples)


def bootstrap_gain(
    measure: Measure,
    rows: Mapping[Any, Sequence[Part]],
    others: Mapping[Any, Sequence[Part]],
    seed: int = 0,
    resamples: int = RESAMPLES,
) -> Interval:
    """The interval of how much better a measure is than with other parts of the same rows, above zero where it is.

    Paired: a resample has the same rows on both sides. A row that lacks either counts for nothing.
    """
    sign = -1.0 if measure.lower_is_better else 1.0
    both = [row for row, parts in rows.items() if len(parts) and len(others.get(row, ()))]
    if measure.over == "row":
        gains = [sign * (measure.value(rows[row]) - measure.value(others[row])) for row in both]
        return mean_interval(gains, seed, resamples)
    sides = _arrays(rows[row] for row in both), _arrays(others[row] for row in both)

    def gain(drawn: Sequence[int]) -> float:
        own, other = (measure.of_set({i: side[row] for i, row in enumerate(drawn)}) for side in sides)
        return sign * (own - other)

    return _of_set(gain, len(both), seed, resamples)


def _arrays(rows: Iterable[Sequence[Part]]) -> list[list[np.ndarray]]:
    """Of the rows that have pictures."""
    return [[np.asarray(part, float) for part in parts] for parts in rows if len(parts)]


def _of_set(value: Callable[[Sequence[int]], float], rows: int, seed: int, resamples: int = RESAMPLES) -> Interval:
    """The interval of a value of a set, which is taken of numbers of its rows."""
    found = value(range(rows))
    if np.isnan(found):
        return Interval(None, None, None, rows)
    rng = np.random.default_rng(seed)
    values = [value(rng.integers(0, rows, rows).tolist()) for _ in range(resamples if rows >= FEWEST else 0)]
    return _interval(found, values, rows)


def mean_interval(values: Sequence[float], seed: int = 0, resamples: int = RESAMPLES) -> Interval:
    """The interval of the mean of rows' values; those that are NaN count for nothing."""
    known = np.asarray(values, float)
    known = known[~np.isnan(known)]
    if not len(known):
        return Interval(None, None, None, 0)
    rng, means = np.random.default_rng(seed), np.empty(0)
    while len(known) >= FEWEST and len(means) < resamples:
        count = min(resamples - len(means), max(1, AT_ONCE // len(known)))
        means = np.append(means, known[rng.integers(0, len(known), (count, len(known)))].mean(axis=1))
    return _interval(float(known.mean()), means, len(known))


def _interval(value: float, values: Sequence[float] | np.ndarray, rows: int) -> Interval:
    known = np.asarray(values, float)
    known = known[~np.isnan(known)]
    if not len(known):
        return Interval(value, None, None, rows)
    beyond = _beyond(rows)
    low, high = np.quantile(known, [beyond, 1 - beyond])
    return Interval(value, float(low), float(high), rows)


def _beyond(rows: int) -> float:
    """The share of resamples beyond either end: near .025 for many rows, less for few.

    It is the normal distribution's beyond Student's t, widened by √(n / (n − 1)): resamples of n rows vary by that less
    than means of n rows do.
    """
    from scipy.stats import norm, t

    return float(norm.cdf(-np.sqrt(rows / (rows - 1)) * t.ppf((1 + LEVEL) / 2, rows - 1)))
