"""How sudden control came: a logistic curve is fitted to the condition gain, with intervals."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from .convergence import HELD_FOR, Estimate

SUDDEN = 0.5  # of the time before
TEN_TO_NINETY = 2 * np.log(9)  # the width of a logistic curve of scale 1, from 10 % to 90 % of its level
CHI2 = 3.84  # 95 % of chi-squared with one degree of freedom
PARAMETERS = 3
NOISE = 0.02  # of the largest gain: the least error that a look is taken to have
WIDTHS = 60  # that are tried, and tried again where they fit
NARROWEST = 0.1  # of the shortest time between two looks
WIDEST = 8.0  # times the steps looked at
FINE = 33  # onsets that are tried around the best, so many times:
REFINED = 3
MOST = 200  # looks that are fitted at once

Sudden = Literal["yes", "no", "not known"]


@dataclass(frozen=True)
class Bounds:
    """A fitted value and its 95 % interval; ``high`` is None where nothing bounds it from above."""

    value: float
    low: float
    high: float | None


@dataclass(frozen=True)
class Rise:
    """The logistic curve that fits the condition gain best.

    ``onset``: the step at half of its level. ``width``: steps from 10 % to 90 % of its level. ``ratio``: width / onset,
    which does not depend on the learning rate where that only stretches time. ``sudden``: "yes" where the ratio's whole
    interval is below ``SUDDEN``, "no" where it is above. What is never gradual at first, such as a straight line
    (ratio 1.6) or a square (0.9), is above.
    """

    onset: Bounds
    width: Bounds
    ratio: Bounds
    sudden: Sudden


def find_rise(steps: Sequence[int], gains: Sequence[Estimate]) -> Rise | None:
    """When the condition gain rose and how fast, from every look at it; None where it was not seen to rise.

    Least squares, each look weighted by its standard error. An interval holds every value at which some logistic curve
    has a chi-squared within 3.84 of the least one (profile likelihood), times chi-squared per degree of freedom where
    the best curve fits worse than the errors allow. A rise between two looks has a width of 0 up to what they allow.

    Args:
        steps: of the looks; of several at one step the last counts.
        gains: condition gain at each; those that are not finite count for nothing.
    """
    looks = {step: gain for step, gain in zip(steps, gains, strict=True) if np.isfinite([gain.mean, gain.error]).all()}
    at = np.array(sorted(looks), float)
    clear = [looks[step].is_clear for step in sorted(looks)]
    if len(at) <= PARAMETERS + 1 or not any(all(clear[i : i + HELD_FOR]) for i in range(len(clear) - HELD_FOR + 1)):
        return None
    gain = np.array([looks[step].mean for step in sorted(looks)])
    error = np.hypot([looks[step].error for step in sorted(looks)], NOISE * gain.max())
    if len(at) > MOST:
        kept = _around(at, _fit(*(values[_evenly(np.arange(len(at)))] for values in (at, gain, error))))
        at, gain, error = at[kept], gain[kept], error[kept]
    return _fit(at, gain, error)


def _evenly(numbers: np.ndarray) -> np.ndarray:
    """At most half of ``MOST`` of them, the first and the last among them."""
    places = np.linspace(0, len(numbers) - 1, min(len(numbers), MOST // 2))
    return np.asarray(numbers[np.unique(places.round().astype(int))])


def _around(at: np.ndarray, rise: Rise) -> np.ndarray:
    """Which looks to keep of many: some of all, and some of those around a rise that these showed."""
    reach = 2 * (rise.width.high or at[-1])
    near = np.flatnonzero(np.abs(at - rise.onset.value) <= reach)
    return np.union1d(_evenly(np.arange(len(at))), _evenly(near))


def _fit(at: np.ndarray, gain: np.ndarray, error: np.ndarray) -> Rise:
    ends = NARROWEST * np.diff(at).min(), WIDEST * (at[-1] - at[0])
    widths = np.geomspace(*ends, WIDTHS)
    onsets, misfits = _fitted(at, gain, error, widths)
    near = np.flatnonzero(_allowed(misfits, len(at)).any(axis=1))
    unbounded, from_zero = near[-1] == WIDTHS - 1, near[0] == 0
    widths = np.geomspace(widths[max(0, near[0] - 1)], widths[min(WIDTHS - 1, near[-1] + 1)], WIDTHS)
    onsets, misfits = _fitted(at, gain, error, widths)
    allowed = _allowed(misfits, len(at))
    best = np.unravel_index(misfits.argmin(), misfits.shape)

    def bounds(values: np.ndarray, from_zero: bool, unbounded: bool) -> Bounds:
        found = values[allowed]
        low, high = 0.0 if from_zero else float(found.min()), None if unbounded else float(found.max())
        return Bounds(float(values[best]), low, high)

    of_width = np.broadcast_to(widths[:, None], onsets.shape)
    onset = bounds(onsets, False, bool((onsets[allowed] >= at[-1]).any()))
    width, ratio = (bounds(values, bool(from_zero), bool(unbounded)) for values in (of_width, of_width / onsets))
    return Rise(onset, width, ratio, _sudden(ratio))


def _fitted(at: np.ndarray, gain: np.ndarray, error: np.ndarray, widths: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Onsets that were tried for each width, closer to each other around the best; and chi-squared, (widths, onsets).

    Where a rise is narrower than looks are apart, only onsets within a fraction of its width from a look fit that look.
    """
    coarse = np.sort(np.concatenate([at[1:], (at[1:] + at[:-1]) / 2]))
    onsets, misfits = [], []
    for width in widths:
        tried, misfit = coarse, _misfit(at, gain, error, coarse, width)
        for _ in range(REFINED):
            best = int(misfit.argmin())
            closer = np.linspace(tried[max(0, best - 1)], tried[min(len(tried) - 1, best + 1)], FINE)
            tried, misfit = np.append(tried, closer), np.append(misfit, _misfit(at, gain, error, closer, width))
            order = np.argsort(tried, kind="stable")
            tried, misfit = tried[order], misfit[order]
        onsets.append(tried)
        misfits.append(misfit)
    return np.stack(onsets), np.stack(misfits)


def _misfit(at: np.ndarray, gain: np.ndarray, error: np.ndarray, onsets: np.ndarray, width: float) -> np.ndarray:
    """Chi-squared of the logistic curves of one width, each at its best level, float64 (onsets,)."""
    scaled = np.clip(TEN_TO_NINETY * (at - onsets[:, None]) / width, -60, 60)
    curve, measured = 1 / (1 + np.exp(-scaled)) / error, gain / error
    level = np.maximum(0, curve @ measured) / np.maximum((curve**2).sum(axis=1), 1e-30)
    return np.asarray(((measured - level[:, None] * curve) ** 2).sum(axis=1))


def _allowed(misfits: np.ndarray, looks: int) -> np.ndarray:
    """Which curves are within the interval; the best one always is."""
    best = misfits.min()
    return np.asarray(misfits <= best + CHI2 * max(1.0, best / (looks - PARAMETERS)))


def _sudden(ratio: Bounds) -> Sudden:
    if ratio.high is not None and ratio.high < SUDDEN:
        return "yes"
    return "no" if ratio.low > SUDDEN else "not known"
