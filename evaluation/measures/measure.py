"""What a measure is: what it takes of one picture, and how pictures' parts become the number of a set."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

Part = Sequence[float] | np.ndarray  # what a measure takes of one picture
Over = Literal["row", "set"]


def mean(parts: Sequence[Part]) -> float:
    """Mean of parts of one number; NaN of none. What is NaN counts for nothing."""
    scores = np.array([part[0] for part in parts], float)
    known = scores[~np.isnan(scores)]
    return float(known.mean()) if len(known) else float("nan")


@dataclass(frozen=True)
class Measure:
    """A measure of pictures whose true map is known.

    Two steps, so that parts can be stored and added up in any order: ``part`` takes of one picture all that the number
    needs of it, and ``value`` makes a number of the parts of several. For most, the part is the picture's score and the
    value its mean; a measure that is pooled counts first (intersections, unions) and divides once.

    Args:
        name: its column in the table of scores.
        title: for people; ``{tolerance}`` stands for pixels, see :meth:`label`.
        fidelity: the conditions whose maps it compares (``Condition.fidelity``).
        part: (found, true) to the part of a picture. Both are arrays as the condition's table stores them or, with
            ``columns``, mappings that hold the array as ``map`` and what the annotator stored beside it by its name.
        value: what several pictures' parts come to.
        over: what ``value`` is taken of: the pictures of each row, and then the mean over rows; or the whole set.
        columns: which columns beside the found map are read.
        lower_is_better: of errors.
        least_side: pixels that the shorter side of a map must have.
        only_named: whether it is a protocol's own, and not among a condition's measures unless it is named.
    """

    name: str
    title: str
    fidelity: str
    part: Callable[[Any, Any], Part]
    value: Callable[[Sequence[Part]], float] = mean
    over: Over = "row"
    columns: tuple[str, ...] = ()
    lower_is_better: bool = False
    least_side: int = 1
    only_named: bool = False

    @classmethod
    def of_score(cls, name: str, title: str, fidelity: str, score: Callable[[Any, Any], float], **more: Any) -> Measure:
        """One whose part is the picture's score and whose value is the mean of scores."""
        return cls(name, title, fidelity, lambda found, true: (score(found, true),), **more)

    def score(self, found: Any, true: Any) -> float:
        """The number of one picture alone."""
        return self.value([self.part(found, true)])

    @property
    def is_pooled(self) -> bool:
        """Whether a picture's part is more than its score."""
        return self.value is not mean

    def label(self, height: int, width: int) -> str:
        """The title, with pixels of maps of this size."""
        return self.title.format(tolerance=tolerance(height, width))

    def notes(self, sizes: Iterable[tuple[int, int]]) -> list[str]:
        """What is to be known of it for maps of these heights and widths: its tolerance, and what is too small."""
        sizes = list(sizes)
        labels = list(dict.fromkeys(self.label(*size) for size in sorted(sizes)))
        found = [" or ".join(labels)] if "{tolerance}" in self.title and labels else []
        if any(min(size) < self.least_side for size in sizes):
            found.append(f"not taken of pictures with a side below {self.least_side} pixels")
        return found

    def of_set(self, rows: Mapping[Any, Sequence[Part]]) -> float:
        """The number of a set, from the parts of each row's pictures; NaN where there is nothing to measure."""
        if self.over == "row":
            return mean([(self.value(parts),) for parts in rows.values() if len(parts)])
        return self.value([part for parts in rows.values() for part in parts])


TOLERANCE_PIXELS = 2
TOLERANCE_SIDE = 512


def tolerance(height: int, width: int) -> int:
    """Pixels by which an edge may be off in a map of this size: 2 where the longer side is 512, at least one."""
    return max(1, round(TOLERANCE_PIXELS * max(height, width) / TOLERANCE_SIDE))
