"""Bootstrap intervals of measures over rows: see :mod:`schemas.intervals`.

Rows are resampled, never pictures: the pictures of a row share its map and its prompt, so they are not independent, and
an interval over pictures would be too narrow.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from controlmill.schemas.intervals import FEWEST, RESAMPLES, Interval, interval_of, mean_interval

from .measure import Measure, Part


def bootstrap(measure: Measure, rows: Mapping[Any, Sequence[Part]], resamples: int = RESAMPLES) -> Interval:
    """The interval of a measure from the parts of each row's pictures.

    A row whose value is NaN, or that has no pictures, counts for nothing; of a measure over the set, all rows with
    pictures count.
    """
    if measure.over == "row":
        return mean_interval([measure.value(parts) for parts in rows.values() if len(parts)], resamples=resamples)
    pictures = _arrays(rows.values())

    def of_drawn(drawn: Sequence[int]) -> float:
        return measure.of_set({i: pictures[row] for i, row in enumerate(drawn)})

    return _of_set(of_drawn, len(pictures), resamples)


def bootstrap_gain(
    measure: Measure,
    rows: Mapping[Any, Sequence[Part]],
    others: Mapping[Any, Sequence[Part]],
    resamples: int = RESAMPLES,
) -> Interval:
    """The interval of how much better a measure is than with other parts of the same rows, above zero where it is.

    Paired: a resample has the same rows on both sides. A row that lacks either counts for nothing.
    """
    sign = -1.0 if measure.lower_is_better else 1.0
    both = [row for row, parts in rows.items() if len(parts) and len(others.get(row, ()))]
    if measure.over == "row":
        gains = [sign * (measure.value(rows[row]) - measure.value(others[row])) for row in both]
        return mean_interval(gains, resamples=resamples)
    sides = _arrays(rows[row] for row in both), _arrays(others[row] for row in both)

    def gain(drawn: Sequence[int]) -> float:
        own, other = (measure.of_set({i: side[row] for i, row in enumerate(drawn)}) for side in sides)
        return sign * (own - other)

    return _of_set(gain, len(both), resamples)


def _arrays(rows: Iterable[Sequence[Part]]) -> list[list[np.ndarray]]:
    """Of the rows that have pictures."""
    return [[np.asarray(part, float) for part in parts] for parts in rows if len(parts)]


def _of_set(value: Callable[[Sequence[int]], float], rows: int, resamples: int) -> Interval:
    """The interval of a value of a set, which is taken of numbers of its rows."""
    found = value(range(rows))
    if np.isnan(found):
        return Interval(None, None, None, rows)
    rng = np.random.default_rng(0)
    values = [value(rng.integers(0, rows, rows).tolist()) for _ in range(resamples if rows >= FEWEST else 0)]
    return interval_of(found, values, rows)
