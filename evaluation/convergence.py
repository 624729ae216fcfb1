"""Does it learn? Condition gain, benefit, fidelity between its floor and ceiling, and when a map was first followed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

# shares of the base's times: the first dominates the loss, the others show the condition
TIMES = (0.05, 0.25, 0.45, 0.65, 0.85, 0.95)
HELD_FOR = 2  # evaluations
CLEAR = 3.0  # standard errors that a gain is above zero


@dataclass(frozen=True)
class Estimate:
    """A mean over held-out rows and its standard error, NaN where it is not known."""

    mean: float
    error: float

    @classmethod
    def of(cls, values: np.ndarray) -> Estimate:
        """Of one value for each row; those that are NaN count for nothing."""
        known = values[np.isfinite(values)]
        error = float(known.std(ddof=1) / np.sqrt(len(known))) if len(known) > 1 else float("nan")
        return cls(float(known.mean()) if len(known) else float("nan"), error)

    @property
    def is_clear(self) -> bool:
        """Whether it is above zero by more than ``CLEAR`` standard errors; not where these are not known."""
        return self.mean > CLEAR * self.error


def relative(worse: np.ndarray, better: np.ndarray, base: np.ndarray) -> Estimate:
    """Mean over times of (worse − better) / base(t), paired by row.

    Args:
        worse, better: losses, float (rows, times), with the same picture, noise and caption.
        base: losses of the base alone, (rows, times); its mean at each time is the unit.
    """
    return Estimate.of(((worse - better) / base.mean(axis=0)).mean(axis=1))


def condition_gain(deranged: np.ndarray, true: np.ndarray, base: np.ndarray) -> Estimate:
    """How much worse the loss gets with another row's map. It includes the price of trusting a wrong map."""
    return relative(deranged, true, base)


def benefit(with_map: np.ndarray, base: np.ndarray) -> Estimate:
    """How much better the loss is with a map than without a ControlNet.

    With other rows' maps it is what any map gives: the kind of picture is learned, and not the map. The benefit of the
    rows' own maps less that of other rows' is the condition gain.
    """
    return relative(base, with_map, base)


def other_rows(count: int) -> np.ndarray:
    """For each of ``count`` rows another one, int (count,): always the same, and each once."""
    return np.roll(np.arange(count), 1)


def fraction(fidelity: float, floor: float, ceiling: float, lower_is_better: bool = False) -> float:
    """f: 0 at the floor (other rows' maps), 1 at the ceiling (the true picture through the VAE).

    NaN where the ceiling is not better than the floor: the measure does not tell a row's map from another's.
    """
    better = floor > ceiling if lower_is_better else ceiling > floor
    return (fidelity - floor) / (ceiling - floor) if better else float("nan")


def find_convergence(steps: Sequence[int], gains: Sequence[Estimate], fidelity_gains: Sequence[Estimate]) -> int | None:
    """The first of ``HELD_FOR`` evaluations in a row at which maps are followed, if there are: its step.

    Both gains must be clear (:attr:`Estimate.is_clear`). Each compares a row's own map with another row's, so that what
    a ControlNet learns about the kind of picture counts for neither. The gain in fidelity alone does not tell, because
    a caption also says something about its row's map; the condition gain has the same caption on both sides.

    Args:
        steps: of the evaluations at which fidelity was measured.
        gains: condition gain at each.
        fidelity_gains: fidelity with rows' own maps less that with other rows', at each.
    """
    good = [gain.is_clear and fidelity.is_clear for gain, fidelity in zip(gains, fidelity_gains, strict=True)]
    return next((steps[i] for i in range(len(good) - HELD_FOR + 1) if all(good[i : i + HELD_FOR])), None)
