"""Batches of one size: what bits a picture has depends on the size of its batch, so the last one is filled up."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    import numpy as np

BATCH = 8
T = TypeVar("T")


def parts(count: int, size: int) -> list[slice]:
    """``count`` rows in parts of at most ``size``."""
    return [slice(first, first + size) for first in range(0, count, size)]


def even_size(count: int, most: int) -> int:
    """The size of the fewest batches of at most ``most`` that hold ``count`` rows, with the least to fill up."""
    batches = max(1, -(-count // most))
    return max(1, -(-count // batches))


def filled(rows: Sequence[T], size: int) -> list[T]:
    """Rows of a part, filled up to ``size`` with the last of them."""
    return [*rows, *[rows[-1]] * (size - len(rows))]


def stacked(rows: Sequence[np.ndarray], size: int) -> np.ndarray:
    """(size, …) of a part, filled up."""
    import numpy as np

    return np.stack(filled(rows, size))
