"""In which order samples are seen: a pure function of (seed, epoch), the same for any number of readers.

Row groups are permuted, rows are permuted inside each, all are laid end to end and cut into 64 equal lanes; position
``i`` of the epoch is row ``i // 64`` of lane ``i % 64``. A batch mixes rows of 64 places. Where K readers divide 64,
each has 64 / K lanes to itself, reads hardly a row group that another reads, and needs about as many at a time.

The only state is a count: how many samples were consumed. Batches run over the end of an epoch into the next.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np

LANES = 64
GOLDEN = 0.6180339887498949
T = TypeVar("T")


def epoch_order(sizes: Sequence[int], seed: int, epoch: int, lanes: int = LANES) -> np.ndarray:
    """The order of one epoch.

    Args:
        sizes: rows of each row group; rows are numbered through, group by group.
        seed, epoch: what the order is a function of.
        lanes: how many places are read from in turn.

    Returns:
        int64 (sum(sizes),), a permutation of the rows.
    """
    rng = np.random.default_rng((seed, epoch, 0x0D))
    counts = np.asarray(sizes, np.int64)
    total = int(counts.sum())
    rank = rng.permutation(len(counts))
    line = np.lexsort((rng.random(total), np.repeat(rank, counts)))
    # the first total % lanes lanes are one row longer, so that position i is always row i // lanes of lane i % lanes
    lengths = np.full(lanes, total // lanes)
    lengths[: total % lanes] += 1
    starts = np.concatenate(([0], np.cumsum(lengths)[:-1]))
    position = np.arange(total)
    order: np.ndarray = line[starts[position % lanes] + position // lanes]
    return order


class Order:
    """The endless order of one stream of rows. ``sizes`` are the rows of each row group."""

    def __init__(self, sizes: Sequence[int], seed: int):
        self.sizes, self.seed = tuple(sizes), seed
        self.rows = sum(self.sizes)
        self._epochs: dict[int, tuple[np.ndarray, np.ndarray]] = {}

    def samples(self, first: int, count: int) -> list[tuple[int, int]]:
        """Samples ``first`` to ``first + count`` of the run as (epoch, row)."""
        numbers = (divmod(number, self.rows) for number in range(first, first + count))
        return [(epoch, int(self._epoch(epoch)[0][position])) for epoch, position in numbers]

    def positions(self, epoch: int) -> np.ndarray:
        """int64 (rows,): where in an epoch each row is."""
        return self._epoch(epoch)[1]

    def _epoch(self, epoch: int) -> tuple[np.ndarray, np.ndarray]:
        """(rows by position, positions by row)."""
        if epoch not in self._epochs:
            if len(self._epochs) > 2:
                del self._epochs[min(self._epochs)]
            order = epoch_order(self.sizes, self.seed, epoch)
            self._epochs[epoch] = order, np.argsort(order)
        return self._epochs[epoch]


@dataclass(frozen=True)
class Schedule:
    """Which stream (pictures of one shape) each batch comes from: by row counts, evenly spread, a function of the step.

    Step ``t`` falls on the point ``frac(offset + t · golden ratio)`` of the unit interval, which the streams share by
    their sizes; so every stream is met in proportion and no long stretch is without one.
    """

    rows: tuple[int, ...]
    seed: int

    def stream(self, step: int) -> int:
        """The stream of a step."""
        return int(self.streams(np.arange(step, step + 1))[0])

    def earlier(self, step: int) -> list[int]:
        """How many steps before ``step`` came from each stream."""
        return [int(count) for count in np.bincount(self.streams(np.arange(step)), minlength=len(self.rows))]

    def streams(self, steps: np.ndarray) -> np.ndarray:
        """The stream that each step's batch is of: int (steps,)."""
        bounds = np.cumsum(self.rows) / sum(self.rows)
        offset = np.random.default_rng((self.seed, 0x5C)).random()
        points = (offset + steps * GOLDEN) % 1.0
        return np.searchsorted(bounds[:-1], points, side="right")


def share(batch: Sequence[T], reader: int, readers: int) -> list[T]:
    """What reader ``reader`` of ``readers`` takes of a batch: every ``readers``-th sample."""
    return list(batch[reader::readers])


def readers_of_a_lane(batch_size: int, readers: int) -> float:
    """How many readers take rows of a lane, on average: so often is a row group read. 1 where they divide the lanes."""
    numbers = np.arange(math.lcm(batch_size, LANES))
    pairs = np.stack([numbers % LANES, numbers % batch_size % readers])
    return len(np.unique(pairs, axis=1).T) / LANES


@dataclass(frozen=True)
class Turns:
    """When rows are due at reader ``reader`` of ``readers``."""

    orders: Sequence[Order]
    batch_size: int
    reader: int = 0
    readers: int = 1

    def due(self, stream: int, rows: slice, now: int) -> np.ndarray:
        """When rows of a stream are due, from its sample ``now`` on.

        Returns:
            float64: in which epoch, and how far into it; infinite for rows that are past or another reader's.
        """
        order = self.orders[stream]
        epoch = now // order.rows
        numbers = epoch * order.rows + order.positions(epoch)[rows]
        due = (numbers >= now) & (numbers % self.batch_size % self.readers == self.reader)
        return np.where(due, numbers / order.rows, np.inf)
