"""Tables aligned with ``images``: what annotating, importing and encoding share.

A step turns rows of ``images`` into rows of one or more tables; each table's file has the keys and row groups of the
images file, and says which images it was made from.
"""

from __future__ import annotations

import functools
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from controlmill.schemas.conditions import Condition
from controlmill.schemas.dataset import Dataset
from controlmill.schemas.errors import MillError
from controlmill.schemas.files.shardfile import read_footer, read_rows, read_table
from controlmill.schemas.tables import condition_schema

from ..engine.rows import Failure, JobFault
from ..engine.run_folder import Run
from ..engine.shards import Work

ROW_COLUMNS = ("key", "image", "width", "height")
TOO_MANY_FAILURES = 8  # rows: a shard of at least so many, all failed, is a fault of the annotator


@dataclass(frozen=True)
class Output:
    """A table that is being made: the condition, its annotator's columns, and what is said in its files."""

    condition: Condition
    columns: Mapping[str, str]
    provenance: Mapping[str, Any]

    @property
    def schema(self) -> pa.Schema:
        """Of the table."""
        return condition_schema(self.condition, self.columns)


def aligned_work(
    dataset: Dataset,
    run: Run,
    shard: int,
    outputs: Mapping[str, Any],
    step: Any,
    columns: tuple[str, ...],
    source: str = "images",
) -> Work:
    """Work that turns rows of ``images``, or of another table, into rows of aligned tables.

    Args:
        dataset: the dataset.
        run: the run that the work belongs to.
        shard: which shard.
        outputs: by table, an :class:`Output` or what has its schema and provenance.
        step: gives {table: row or Failure} for each row.
        columns: what the step needs of a row.
        source: the table that is read.
    """

    def rows() -> Iterator[dict[str, Any]]:
        with dataset.parquet(source, shard) as parquet:
            yield from read_rows(parquet, columns)

    def write(outcomes: Iterator[Any]) -> None:
        _write(dataset, run, shard, outputs, outcomes)

    return Work(tuple(outputs), step, rows(), write)


@functools.lru_cache(maxsize=2)
def image_digests(address: str, run: str) -> list[str]:
    """The sha256 of every images file, read once per process and run from the index of the finished table.

    Raises:
        MillError: the images are not complete.
    """
    index = Dataset.open(address).index("images")
    if index is None:
        raise MillError(f"the images of {address} are not complete; run controlmill ingest to go on")
    return index.digests


def _write(dataset: Dataset, run: Run, shard: int, outputs: Mapping[str, Any], outcomes: Iterator[Any]) -> None:
    """Write and commit one file for each table, with the keys and row groups of the images file.

    Raises:
        JobFault: no row could be done.
    """
    images_sha256 = image_digests(dataset.storage.address, run.id)[shard]
    with ExitStack() as stack:
        parquet = stack.enter_context(dataset.parquet("images", shard))
        writers = {
            table: stack.enter_context(
                dataset.committing(
                    run.id, table, shard, output.schema, {**output.provenance, "images_sha256": images_sha256}
                )
            )
            for table, output in outputs.items()
        }
        reasons: dict[str, Counter[str]] = {table: Counter() for table in outputs}
        errors = dict.fromkeys(outputs, "")
        empty = dict.fromkeys(outputs, 0)
        rows = 0
        for group, size in enumerate(read_footer(parquet).groups):
            keys = read_table(parquet, ["key"], group).column("key").to_pylist()
            done: dict[str, list[dict[str, Any]]] = {table: [] for table in outputs}
            for key, outcome in zip(keys, (next(outcomes) for _ in range(size)), strict=True):
                for table in outputs:
                    row = outcome if isinstance(outcome, Failure) else outcome[table]
                    if isinstance(row, Failure):
                        row = {"reason": row.reason, "error": row.error}
                    if row.get("reason"):
                        reasons[table][row["reason"]] += 1
                        errors[table] = row["error"]
                    empty[table] += row.get("coverage") == 0
                    done[table].append({"key": key, **row})
            for table, writer in writers.items():
                writer.write_group(done[table])
            rows += size
        for table, writer in writers.items():
            faults = reasons[table]["failed"] + reasons[table]["killed_worker"]
            if rows >= TOO_MANY_FAILURES and faults == rows:
                raise JobFault(f"{table}: every row of the shard failed, the annotator is at fault: {errors[table]}")
            writer.close({"reasons": dict(reasons[table]), **({"empty": empty[table]} if empty[table] else {})})
