"""From the tables to batches: only the needed columns, each row group read about once, decoded in threads.

A reader follows its share of the order, keeps the bytes of a row from when its row group is read until it is taken, and
gives batches in order. Where it may not keep so much, it keeps what is due soonest and reads row groups more than once.
What is drawn for a sample is a function of (seed, epoch, row) alone, so neither threads nor readers change a batch.
"""

from __future__ import annotations

import itertools
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..schemas.caches import EMBEDDINGS, LATENTS, unpack
from ..schemas.codecs import decode_image, decode_map
from ..schemas.conditions import Condition
from ..schemas.dataset import Dataset, shard_file
from ..schemas.errors import MillError
from ..schemas.shardfile import read_table
from .caches import NONE, Caches
from .order import LANES, Order, Schedule, Turns, readers_of_a_lane, share
from .selection import Selection
from .transforms import Augment, augment

CACHE_BYTES = 1024**3  # that a reader keeps
AHEAD = 2  # batches decoded ahead


@dataclass(frozen=True)
class Sample:
    """One decoded row. ``image`` is uint8 (H, W, 3) RGB; ``maps`` are as their kinds say; ``row`` is (shard, row).

    From caches come ``moments``, float32 (2, C, h, w) of the picture or its mirror image, which is then not decoded
    (``image`` is empty); and ``text``, float32 (tokens, width), None for the empty prompt's.
    """

    epoch: int
    row: tuple[int, int]
    image: np.ndarray
    maps: dict[str, np.ndarray]
    caption: str
    columns: dict[str, Any]
    moments: np.ndarray | None = None
    text: np.ndarray | None = None


def draws(seed: int, epoch: int, row: tuple[int, int], use: str) -> np.random.Generator:
    """The random numbers of one sample. ``use`` keeps crops, noise and dropout apart."""
    return np.random.default_rng((seed, epoch, *row, int.from_bytes(use.encode()[:8], "big")))


class RowReader:
    """Reads rows by (shard, row group, row); the bytes of a group's other rows are kept until they are taken.

    ``due`` says which rows of a group are yet to be taken, and when. Of more than ``cache_bytes`` those that are due
    last are dropped, and their groups are read again. ``columns`` asks for scalar columns of the condition's table
    beside its map: what was drawn for the row.
    """

    def __init__(
        self,
        dataset: Dataset,
        conditions: dict[str, Condition],
        due: Callable[[int, int], dict[int, float]],
        cache_bytes: int = CACHE_BYTES,
        columns: Sequence[str] = (),
        caches: Caches = NONE,
    ):
        self.caches = caches
        self.dataset, self.conditions, self.columns = dataset, conditions, tuple(columns)
        self.captions = "captions" if dataset.index("captions") else "images"
        self.due, self.cache_bytes = due, cache_bytes
        self.group_reads = 0
        self._rows: dict[tuple[int, int], dict[str, Any]] = {}
        self._held = 0

    def take(self, location: np.void) -> dict[str, Any]:
        """The stored bytes of one row; they are forgotten once taken."""
        row = int(location["shard"]), int(location["row"])
        if row not in self._rows:
            for number, found in self.read(row[0], int(location["group"])).items():
                if (row[0], number) not in self._rows:
                    self._rows[row[0], number] = found
                    self._held += found["size"]
        taken = self._rows.pop(row)
        self._held -= taken["size"]
        if self._held > self.cache_bytes:
            self._drop()
        return taken

    def _drop(self) -> None:
        for row in sorted(self._rows, key=lambda row: self._rows[row]["due"], reverse=True):
            self._held -= self._rows.pop(row)["size"]
            if self._held <= self.cache_bytes:
                break

    def read(self, shard: int, group: int) -> dict[int, dict[str, Any]]:
        """What is due of a row group, by row."""
        self.group_reads += 1
        image_columns = ["key"] if self.caches.latents else ["key", "image.bytes"]
        tables = {"images": image_columns, **{name: ["key", "map.bytes"] for name in self.conditions}}
        tables.update({table: ["key", "shape", *CACHED[table]] for table in self.caches.tables})
        if self.caches.latents and self.caches.mirrored:
            tables[LATENTS].append("mirrored")
        for name in self.conditions:
            tables[name] += self.columns
        tables.setdefault(self.captions, ["key"]).append("caption")
        parts: dict[str, dict[str, list[Any]]] = {}
        for table, columns in tables.items():
            with self.dataset.parquet(table, shard) as parquet:
                read = read_table(parquet, columns, group)
                first = sum(parquet.metadata.row_group(g).num_rows for g in range(group))
                parts[table] = {name: read.column(name).to_pylist() for name in read.column_names}
            if parts[table]["key"] != parts["images"]["key"]:
                raise MillError(f"{shard_file(table, shard)}, row group {group}: its keys are not those of the images")
        rows: dict[int, dict[str, Any]] = {}
        for row, due in self.due(shard, group).items():
            i = row - first
            maps = {name: (parts[name]["map"][i] or {}).get("bytes") for name in self.conditions}
            image = b"" if self.caches.latents else parts["images"]["image"][i]["bytes"]
            cached = {table: {name: values[i] for name, values in parts[table].items()} for table in self.caches.tables}
            rows[row] = {
                "due": due,
                "image": image,
                "cached": cached,
                "maps": maps,
                "caption": parts[self.captions]["caption"][i] or "",
                "columns": {name: parts[table][name][i] for table in self.conditions for name in self.columns},
                "size": len(image) + sum(len(data or b"") for data in maps.values()) + _bytes_of(cached),
            }
        return rows

    def decode(self, location: np.void, stored: dict[str, Any], epoch: int, seed: int, change: Augment) -> Sample:
        """Decode and augment; safe in threads.

        Raises:
            MillError: the stored bytes are damaged, or are not of the size that the row says.
        """
        row = int(location["shard"]), int(location["row"])
        try:
            moments, text = self._cached(stored["cached"])
            size = int(location["height"]), int(location["width"])
            image = np.zeros((0, 0, 3), np.uint8) if moments else decode_image(stored["image"])
            size = size if moments else image.shape[:2]
            maps = {name: decode_map(self.conditions[name].kind, data) for name, data in stored["maps"].items()}
        except (ValueError, OSError) as error:
            raise MillError(f"shard {row[0]}, row {row[1]} cannot be decoded: {error}") from error
        for name, array in maps.items():
            if array.shape[:2] != size:
                raise MillError(f"shard {row[0]}, row {row[1]}: the {name} map is not of its image's size")
        window = change.draw(draws(seed, epoch, row, "augment"), *size)
        image, maps = augment(image, maps, self.conditions, window)
        side = moments[window[-1]] if moments else None
        return Sample(epoch, row, image, maps, stored["caption"], stored["columns"], side, text)

    def _cached(self, stored: dict[str, dict[str, Any]]) -> tuple[dict[bool, np.ndarray] | None, np.ndarray | None]:
        """(moments by whether mirrored, embedding), as far as there are caches."""
        moments, text = None, None
        if LATENTS in stored:
            row, kind = stored[LATENTS], self.caches.stored[LATENTS]
            sides = {False: row["moments"], True: row.get("mirrored")}
            moments = {side: unpack(data, row["shape"], kind) for side, data in sides.items() if data is not None}
        if EMBEDDINGS in stored and stored[EMBEDDINGS]["embedding"] is not None:
            row = stored[EMBEDDINGS]
            text = unpack(row["embedding"], row["shape"], self.caches.stored[EMBEDDINGS])
        return moments, text


CACHED = {LATENTS: ["moments"], EMBEDDINGS: ["embedding"]}


def _bytes_of(cached: dict[str, dict[str, Any]]) -> int:
    return sum(len(value) for row in cached.values() for value in row.values() if isinstance(value, bytes))


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
                raise MillError(f"--crop {side}: the dataset has pictures of {small[0][1]}x{small[0][0]}")
            self.streams = [rows]
        else:
            self.streams = [rows[(rows["height"] == h) & (rows["width"] == w)] for h, w in shapes]
        self.groups = [_groups(stream) for stream in self.streams]
        sizes = [[rows.stop - rows.start for rows in groups.values()] for groups in self.groups]
        self.orders = [Order(groups, config.seed + i) for i, groups in enumerate(sizes)]
        self.schedule = Schedule(tuple(len(stream) for stream in self.streams), config.seed)

    def _first(self, step: int) -> tuple[int, int]:
        """(stream, number of its first sample) of the batch of a step, which all readers share."""
        stream = self.schedule.stream(step) if len(self.streams) > 1 else 0
        return stream, self._earlier(step)[stream] * self.config.batch_size

    def _earlier(self, step: int) -> list[int]:
        return self.schedule.earlier(step) if len(self.streams) > 1 else [step]

    def reader(self, turns: Turns) -> RowReader:
        """Reads what is due by ``turns``."""

        def due(shard: int, group: int) -> dict[int, float]:
            found: dict[int, float] = {}
            for i, groups in enumerate(self.groups):
                rows = groups.get((shard, group), slice(0))
                pairs = zip(self.streams[i]["row"][rows].tolist(), turns.due(i, rows).tolist(), strict=True)
                found.update((row, when) for row, when in pairs if when < np.inf)
            return found

        return RowReader(self.dataset, self.conditions, due, self.cache_bytes, caches=self.caches)

    def turns(self, first_step: int = 0, reader: int = 0, readers: int = 1) -> Turns:
        """When rows are due from ``first_step`` on at a reader."""
        size = self.config.batch_size
        return Turns(self.orders, [count * size for count in self._earlier(first_step)], size, reader, readers)

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
        rows = self.reader(self.turns()).read(*next(iter(groups)))
        size = sum(row["size"] for row in rows.values()) / len(rows)
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
        turns = self.turns(first_step, reader, readers)
        rows = self.reader(turns)
        reading = ThreadPoolExecutor(1, thread_name_prefix="read")
        decoding = ThreadPoolExecutor(self.threads, thread_name_prefix="decode")

        def start(step: int) -> list[Future[Sample]]:
            stream, first = self._first(step)
            samples = enumerate(self.orders[stream].samples(first, self.config.batch_size), first)
            futures = []
            for number, (epoch, index) in share(list(samples), reader, readers):
                location = self.streams[stream][index]
                turns.now[stream] = number
                taken = rows.take(location)
                turns.now[stream] = number + 1
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


def _groups(rows: np.ndarray) -> dict[tuple[int, int], slice]:
    """(shard, row group) → its rows, which are one after another."""
    found, starts = np.unique(rows[["shard", "group"]], return_index=True)
    ends = [*starts[1:].tolist(), len(rows)]
    return {place: slice(start, end) for place, start, end in zip(found.tolist(), starts.tolist(), ends, strict=True)}


def held_out_samples(
    dataset: Dataset, conditions: dict[str, Condition], rows: np.ndarray, columns: Sequence[str] = ()
) -> list[Sample]:
    """Decoded rows as they are stored, in the order of their hashes."""
    rows = np.sort(rows, order=["shard", "row"])
    groups, numbers = _groups(rows), rows["row"].tolist()

    def due(shard: int, group: int) -> dict[int, float]:
        return {number: float(number) for number in numbers[groups[shard, group]]}

    reader = RowReader(dataset, conditions, due, columns=columns)
    samples = [reader.decode(row, reader.take(row), 0, 0, Augment()) for row in rows]
    return [samples[i] for i in np.argsort(rows["rank"], kind="stable")]
