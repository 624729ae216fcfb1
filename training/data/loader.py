"""From the tables to batches: only the needed columns, each row group read about once, decoded in threads.

A reader follows its share of the order, keeps the bytes of a row from when its row group is read until it is taken, and
gives batches in order. Where it may not keep so much, it keeps what is due soonest and reads row groups more than once.
What is drawn for a sample is a function of (seed, epoch, row) alone, so neither threads nor readers change a batch.
"""

from __future__ import annotations

import itertools
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np

from controlmill.evaluation.rows import Sample
from controlmill.schemas.conditions import Condition
from controlmill.schemas.dataset import Dataset
from controlmill.schemas.errors import MillError
from controlmill.schemas.maps.transforms import Augment

from .cache_use import NONE, Caches
from .order import LANES, Order, Schedule, Turns, readers_of_a_lane, share
from .reader import CACHE_BYTES, RowReader
from .selection import Selection

AHEAD = 2  # batches decoded ahead


@dataclass(frozen=True)
class LoaderConfig:
    """What decides the batches: nothing else does."""

    seed: int = 0
    batch_size: int = 4
    augment: Augment = Augment()


class Loader:
    """Batches without end, from sample ``consumed`` on.

    Pictures of different shapes are separate streams; a batch comes from one of them.
    """

    def __init__(
        self,
        dataset: Dataset,
        conditions: dict[str, Condition],
        selection: Selection,
        config: LoaderConfig,
        threads: int = 1,
        cache_bytes: int = CACHE_BYTES,
        caches: Caches = NONE,
    ):
        self.dataset, self.conditions, self.config, self.caches = dataset, conditions, config, caches
        self.threads, self.cache_bytes = max(1, threads), cache_bytes
        rows = selection.train
        shapes = selection.shapes()
        if config.augment.crop:
            side = config.augment.crop
            small = [shape for shape in shapes if min(shape) < side]
            if small:
                raise MillError(f"--crop-size {side}: the dataset has pictures of {small[0][1]}x{small[0][0]}")
            self.streams = [rows]
        else:
            self.streams = [rows[(rows["height"] == h) & (rows["width"] == w)] for h, w in shapes]
        self.groups = [row_groups(stream) for stream in self.streams]
        sizes = [[rows.stop - rows.start for rows in groups.values()] for groups in self.groups]
        self.orders = [Order(groups, config.seed + i) for i, groups in enumerate(sizes)]
        self.schedule = Schedule(tuple(len(stream) for stream in self.streams), config.seed)

    def first_samples(self, step: int) -> list[int]:
        """The number of each stream's next sample when a step begins, for all readers together."""
        steps = self.schedule.earlier(step) if len(self.streams) > 1 else [step]
        return [count * self.config.batch_size for count in steps]

    def reader(self, turns: Turns) -> RowReader:
        """Reads what is due by ``turns``."""

        def due(shard: int, group: int, now: Sequence[int]) -> dict[int, float]:
            found: dict[int, float] = {}
            for i, groups in enumerate(self.groups):
                rows = groups.get((shard, group), slice(0))
                pairs = zip(self.streams[i]["row"][rows].tolist(), turns.due(i, rows, now[i]).tolist(), strict=True)
                found.update((row, when) for row, when in pairs if when < np.inf)
            return found

        return RowReader(self.dataset, self.conditions, due, self.cache_bytes, caches=self.caches)

    def turns(self, reader: int = 0, readers: int = 1) -> Turns:
        """When rows are due at a reader."""
        return Turns(self.orders, self.config.batch_size, reader, readers)

    def notes(self, readers: int) -> list[str]:
        """What is slow about reading with so many readers, in lines for people; one row group is read to tell."""
        found = []
        shared = readers_of_a_lane(self.config.batch_size, readers)
        if shared > 1:
            found.append(
                f"{readers} readers do not share the {LANES} lanes of the order evenly: each row group is read "
                f"{shared:.1f} times an epoch; take a power of two of --loader-workers, and such a --batch-size"
            )
        groups = self.groups[0]
        rows = self.reader(self.turns()).read(*next(iter(groups)), self.first_samples(0))
        size = sum(row.size for row in rows.values()) / len(rows)
        open_rows = min(LANES * max(part.stop - part.start for part in groups.values()), len(self.streams[0]))
        needed = open_rows * size / readers
        if needed > 2 * self.cache_bytes:  # about half of it is held at a time
            found.append(
                f"rows of {size / 1e6:.2g} MB: a reader would keep up to {needed / 2**30:.1f} GiB and may keep "
                f"{self.cache_bytes / 2**30:.1f}, so that each row group is read up to {needed / self.cache_bytes:.0f} "
                "times an epoch; more --loader-workers share it"
            )
        return found

    def batches(self, first_step: int = 0, reader: int = 0, readers: int = 1) -> Iterator[list[Sample]]:
        """Batches from ``first_step`` on; of each, a reader gives samples ``reader``, ``reader + readers``…

        One thread reads ahead, ``threads`` decode.
        """
        rows, firsts = self.reader(self.turns(reader, readers)), self.first_samples(first_step)
        reading = ThreadPoolExecutor(1, thread_name_prefix="read")
        decoding = ThreadPoolExecutor(self.threads, thread_name_prefix="decode")

        def start(step: int) -> list[Future[Sample]]:
            stream = self.schedule.stream(step) if len(self.streams) > 1 else 0
            now = tuple(firsts)
            firsts[stream] += self.config.batch_size  # counted on: to count anew takes as long as all steps before
            samples = enumerate(self.orders[stream].samples(now[stream], self.config.batch_size), now[stream])
            futures = []
            for number, (epoch, index) in share(list(samples), reader, readers):
                location = self.streams[stream][index]
                taken = rows.take(location, [*now[:stream], number, *now[stream + 1 :]])
                futures.append(
                    decoding.submit(rows.decode, location, taken, epoch, self.config.seed, self.config.augment)
                )
            return futures

        ahead: deque[Future[list[Future[Sample]]]] = deque()
        try:
            for step in itertools.count(first_step):
                ahead.append(reading.submit(start, step))
                if len(ahead) > AHEAD:
                    yield [future.result() for future in ahead.popleft().result()]
        finally:
            reading.shutdown(cancel_futures=True)
            decoding.shutdown(cancel_futures=True)


def row_groups(rows: np.ndarray) -> dict[tuple[int, int], slice]:
    """(shard, row group) → its rows, which are one after another."""
    found, starts = np.unique(rows[["shard", "group"]], return_index=True)
    ends = [*starts[1:].tolist(), len(rows)]
    return {place: slice(start, end) for place, start, end in zip(found.tolist(), starts.tolist(), ends, strict=True)}
