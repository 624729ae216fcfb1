"""Which rows are trained on, which are held out, which are left out and why: found without reading a picture."""

from __future__ import annotations

import hashlib
import math
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from controlmill.schemas.conditions import Condition
from controlmill.schemas.dataset import Dataset
from controlmill.schemas.errors import MillError
from controlmill.schemas.files.shardfile import read_table
from controlmill.schemas.names import shard_file

from .filters import Filter, check_filters

LOCATION = np.dtype(  # rank: a hash of the row; caption: one of its text, 0 where there is none
    [
        *(("shard", "i4"), ("group", "i4"), ("row", "i4"), ("height", "i4"), ("width", "i4")),
        *(("rank", "u8"), ("caption", "u8")),
    ]
)
FEW_CAPTIONS = 0.5  # of the rows
READERS = 4


@dataclass
class Selection:
    """Rows as a structured array: where each is (shard, row group, row in the file), its size and hashes.

    ``left_out`` counts rows by reason: nulls of a condition by theirs, ``where`` and ``limit``. ``two_from`` is a share
    to hold out that has two rows at least, where fewer are held out; None: there is none.
    """

    train: np.ndarray
    held_out: np.ndarray
    left_out: Counter[str] = field(default_factory=Counter)
    two_from: float | None = None

    def shapes(self) -> list[tuple[int, int]]:
        """The (height, width) that occur among training rows, sorted."""
        return sorted({(int(h), int(w)) for h, w in np.unique(self.train[["height", "width"]]).tolist()})


def captions_said(rows: np.ndarray) -> list[str]:
    """How many rows have a caption, and a warning where training would learn little from them."""
    given = rows["caption"][rows["caption"] != 0]
    said = [f"captions: {len(given):,} of {len(rows):,} rows have one"]
    if not len(given):
        said.append(
            "warning: no row has a caption, so all are trained on the empty prompt; "
            "`controlmill annotate DATASET --conditions caption` makes captions"
        )
    elif len(given) < FEW_CAPTIONS * len(rows):
        said.append("warning: few rows have a caption; the others are trained on the empty prompt")
    if len(given) > 1 and (given == given[0]).all():
        said.append("warning: all captions are the same, so prompts will not matter")
    return said


def common_shapes(rows: np.ndarray) -> list[tuple[int, int]]:
    """The (height, width) that occur among rows, the commonest first."""
    return [shape for shape, _ in Counter(rows[["height", "width"]].tolist()).most_common()]


def check_tables(dataset: Dataset, conditions: Sequence[str]) -> dict[str, Condition]:
    """The conditions by name; all of their tables are complete and made from the present images.

    Raises:
        MillError: with what there is, and what to do.
    """
    images = dataset.state("images")
    if images.status != "complete":
        raise MillError(f"the images of {dataset.storage.address} are not complete; run {dataset.stopped} again")
    maps = [table for table in dataset.condition_tables() if table != "captions"]
    found = {}
    for name in conditions:
        if name not in maps:
            raise MillError(f"{dataset.storage.address} has no condition {name!r}; it has: {', '.join(maps) or 'none'}")
        state = dataset.state(name)
        if state.status == "partial":
            raise MillError(
                f"table {name} is not complete ({state.committed} of {dataset.shards} shards): "
                "run the annotate command again to go on with it"
            )
        if state.status == "behind":
            raise MillError(
                f"table {name} is behind ({state.committed} of {dataset.shards} shards): pictures were added to the "
                f"dataset since it was made; controlmill annotate {dataset.storage.address} brings it up to date"
            )
        if state.status == "stale":
            raise MillError(f"table {name} was made from other images: redo it with annotate … --overwrite {name}")
        found[name] = dataset.condition(name)
    return found


def segments_named(text: str, dataset: Dataset) -> range:
    """``N`` or ``FIRST..LAST`` as numbers of segments; all of them for an empty text.

    Raises:
        MillError: there are no such segments.
    """
    there = len(dataset.config.segments)
    if not there:
        raise MillError(f"the images of {dataset.storage.address} are not complete; run {dataset.stopped} again")
    first, _, last = text.partition("..")
    named = range(int(first), int(last or first) + 1) if text else range(there)
    if not named or named[-1] >= there:
        raise MillError(f"--segments {text}: {dataset.storage.address} has {there} segments, 0..{there - 1}")
    return named


def select(
    dataset: Dataset,
    conditions: Sequence[str],
    where: Sequence[Filter] = (),
    held_out: float = 0.0,
    limit: int = 0,
    caches: Sequence[str] = (),
    first_shard: int = 0,
) -> Selection:
    """Choose the rows that have every condition and pass every filter.

    Args:
        first_shard: rows of the shards before it are neither trained on nor held out.
        held_out: share of rows kept from training, by the hash of the picture's content: equal pictures are on the
            same side, and a row never changes sides when the dataset grows.
        caches: tables whose refused rows are left out too.
        limit: take only so many training rows, those of the smallest hash: 100 rows are among the 1,000; 0 for all.

    Raises:
        MillError: a filter names what is not there, nothing is left, or the table of captions is not complete.
    """
    check_filters(dataset, where)
    captions = dataset.captions().table
    shards = range(first_shard, dataset.shards)
    with ThreadPoolExecutor(READERS) as pool:
        parts = list(pool.map(lambda shard: _shard_rows(dataset, shard, conditions, where, caches, captions), shards))
    rows = np.concatenate([part[0] for part in parts]) if parts else np.zeros(0, LOCATION)
    content = np.concatenate([part[1] for part in parts]) if parts else np.zeros(0)
    held = content < held_out
    left_out: Counter[str] = sum((part[2] for part in parts), Counter())
    train = rows[~held]
    if limit and limit < len(train):
        left_out["limit"] = len(train) - limit
        train = train[np.sort(np.argsort(train["rank"], kind="stable")[:limit])]
    if not len(train):
        said = ", ".join(f"{count} {reason}" for reason, count in sorted(left_out.items()))
        raise MillError(f"no rows are left to train on (left out: {said or 'none'}; held out: {int(held.sum())})")
    return Selection(train, rows[held], left_out, _two_from(content) if held.sum() < 2 else None)


def _two_from(content: np.ndarray) -> float | None:
    """See :class:`Selection`; of the hashes of all rows."""
    if len(content) < 3:  # one is to be trained on
        return None
    share = (math.floor(100 * np.partition(content, 1)[1]) + 1) / 100
    return share if share < 1 else None


def _shard_rows(
    dataset: Dataset,
    shard: int,
    conditions: Sequence[str],
    where: Sequence[Filter],
    caches: Sequence[str],
    captions: str,
) -> tuple[np.ndarray, np.ndarray, Counter[str]]:
    """(rows, uniform hash of each one's content in 0 to 1, why the others are left out) of one shard."""
    wanted: dict[str, set[str]] = {"images": {"key", "sha256", "width", "height"}}
    for name in conditions:
        wanted.setdefault(name, set()).update(("key", "map.path", "reason"))
    for name in caches:
        wanted[name] = {"key", "reason"}
    for table, column in ((captions, "caption"), *((item.table, item.column) for item in where)):
        wanted.setdefault(table, {"key"}).add(column)
    columns: dict[str, dict[str, list[Any]]] = {}
    for table, names in wanted.items():
        with dataset.parquet(table, shard) as parquet:
            read = read_table(parquet, sorted(names))
            columns[table] = {name: read.column(name).to_pylist() for name in read.column_names}
            if table == "images":
                groups = [parquet.metadata.row_group(g).num_rows for g in range(parquet.metadata.num_row_groups)]
    images = columns["images"]
    for table, found in columns.items():
        if found["key"] != images["key"]:
            raise MillError(f"{shard_file(table, shard)} has other keys than the images: controlmill verify tells more")
    reasons = [_reason(columns, conditions, where, caches, row) for row in range(len(images["key"]))]
    taken = np.array([reason is None for reason in reasons], bool)
    rows = np.zeros(len(reasons), LOCATION)
    rows["shard"], rows["row"] = shard, np.arange(len(reasons))
    rows["group"] = np.repeat(np.arange(len(groups)), groups)
    try:
        rows["height"], rows["width"] = images["height"], images["width"]
        rows["rank"] = [int(key[:16], 16) for key in images["key"]]
        rows["caption"] = [_hash(text) if text else 0 for text in columns[captions]["caption"]]
        content = np.array([int(digest[-8:], 16) / 2**32 for digest in images["sha256"]])
    except (TypeError, ValueError, AttributeError, OverflowError) as error:  # the dataset may come from anybody
        said = f"{shard_file('images', shard)} has a size, key, digest or caption that is none ({error})"
        raise MillError(f"{said}: controlmill verify tells more") from error
    return rows[taken], content[taken], Counter(reason for reason in reasons if reason is not None)


def _hash(text: str) -> int:
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "big")


def _reason(
    columns: dict[str, dict[str, list[Any]]],
    conditions: Sequence[str],
    where: Sequence[Filter],
    caches: Sequence[str],
    row: int,
) -> str | None:
    for name in conditions:
        stored = columns[name]["map"][row]
        if stored is None or stored["path"] is None:
            return f"{name}: {columns[name]['reason'][row] or 'no map'}"
    for name in caches:
        if columns[name]["reason"][row]:
            return f"{name}: {columns[name]['reason'][row]}"
    passed = all(item.passes(columns[item.table][item.column][row]) for item in where)
    return None if passed else "where"
