"""A verdict on a claim, from what each seed gave."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np

LEVEL = 0.95
FEWEST = 3  # seeds that an interval is computed from

Verdict = Literal["reproduced", "not reproduced", "undecided"]


@dataclass(frozen=True)
class Interval:
    """A mean over seeds and the ends of its interval, None where there are too few seeds."""

    mean: float
    low: float | None
    high: float | None


def interval_of(seeds: Mapping[int, float]) -> Interval | None:
    """Student's t interval, 95 %, of the mean over seeds: what other seeds would have given. None of no seed."""
    values = np.array(list(seeds.values()), float)
    if not len(values):
        return None
    mean = float(values.mean())
    if len(values) < FEWEST:
        return Interval(mean, None, None)
    from scipy.stats import t

    reach = float(t.ppf((1 + LEVEL) / 2, len(values) - 1) * values.std(ddof=1) / np.sqrt(len(values)))
    return Interval(mean, mean - reach, mean + reach)


def verdict_of(interval: Interval | None) -> Verdict:
    """Of a claim that says that a quantity is above zero: the whole interval has to lie on one side."""
    if interval is None or interval.low is None or interval.high is None:
        return "undecided"
    if interval.low > 0:
        return "reproduced"
    return "not reproduced" if interval.high < 0 else "undecided"
