"""Datasets that tests change behind the program's back."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from controlmill.schemas.annotator_records import AnnotatorRecord
from controlmill.schemas.conditions import CONDITIONS
from controlmill.schemas.dataset import Dataset
from controlmill.schemas.files.shardfile import ShardFile, ShardWriter, read_footer, read_table
from controlmill.schemas.names import shard_file
from controlmill.schemas.provenance import Provenance
from controlmill.schemas.tables import condition_schema
from controlmill.schemas.views import card
from controlmill.schemas.views.verify import verify


def rewrite(folder: Path, table: str, change: Callable[[list[dict[str, Any]]], list[dict[str, Any]]]) -> None:
    """Change the rows of the second shard, and make index and card say that all is well."""
    path = folder / table / "0000" / "00000001.parquet"
    with path.open("rb") as opened:
        file = ShardFile(opened)
        footer = read_footer(file)
        changed = change(file.read().to_pylist())
    with ShardWriter(path, footer.schema.remove_metadata(), footer.provenance) as writer:
        at = 0
        for size in footer.groups:
            writer.write_group(changed[at : at + size])
            at += size
        writer.close(footer.summary)
    dataset = Dataset.open(folder)
    dataset.finish(table)
    card.write(dataset)


def write_condition(folder: Path, name: str, make: Callable[[str], dict[str, Any]]) -> Dataset:
    """A condition's table as annotate writes it, its values by their keys."""
    dataset, condition = Dataset.open(folder), CONDITIONS[name]
    images = dataset.index("images")
    assert images
    (folder / condition.table / "0000").mkdir(parents=True)
    made = Provenance(condition.table, condition.kind, annotator=AnnotatorRecord(name, "test", 1))
    for shard, entry in enumerate(images.shards):
        provenance = replace(made, shard=shard, images_sha256=entry.sha256)
        with (
            dataset.parquet("images", shard) as parquet,
            ShardWriter(
                folder / shard_file(condition.table, shard), condition_schema(condition, {}), provenance
            ) as writer,
        ):
            for group in range(len(read_footer(parquet).groups)):
                keys = read_table(parquet, ["key"], group).column("key").to_pylist()
                writer.write_group([{"key": key, **make(key)} for key in keys])
    dataset.finish(condition.table)
    card.write(dataset)
    return dataset


def write_captions(folder: Path, row: int = -1, reason: str | None = None) -> Dataset:
    """A table of captions; that of one row of the second shard is null."""
    keys = pq.read_table(folder / "images/0000/00000001.parquet").column("key").to_pylist()
    null = keys[row] if row >= 0 else None
    said: dict[bool, Callable[[str], dict[str, Any]]] = {
        True: lambda _: {"caption": None, "reason": reason},
        False: lambda key: {"caption": f"scene {key}"},
    }
    return write_condition(folder, "caption", lambda key: said[key == null](key))


def edit(row: int, **values: Any) -> Callable[[list[dict[str, Any]]], list[dict[str, Any]]]:
    def change(all_rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
        all_rows[row].update(values)
        return all_rows

    return change


def found(folder: Path, pixels: bool = True) -> list[tuple[str, str]]:
    return [(fault.promise, fault.found) for fault in verify(Dataset.open(folder), pixels)]
