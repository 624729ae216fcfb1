"""The dataset folder: which tables and shards there are, what is committed, what is complete, what is stale."""

from __future__ import annotations

import hashlib
import os
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, BinaryIO

from . import documents
from .caches import CACHES
from .card import dataset_card
from .conditions import CONDITIONS, NAME, Condition, stored_condition
from .errors import MillError
from .fingerprint import differences, fingerprint
from .shardfile import Footer, ShardFile, open_parquet, read_footer
from .storage import Storage

VERSION = 2
SHARDS_PER_FOLDER = 10_000
BASE_TABLES = ("sources", "images", "rejected")
SHARD_NAME = re.compile(r"\d{8}\.parquet")


def shard_file(table: str, shard: int) -> str:
    """The name of a shard's file: eight digits, 10,000 to a folder."""
    return f"{table}/{shard // SHARDS_PER_FOLDER:04d}/{shard:08d}.parquet"


def index_file(table: str) -> str:
    """The name of a table's index: outside the table's folder, which then opens in any reader of Parquet."""
    return f"_tables/{table}.json"


@dataclass(frozen=True)
class TableState:
    """How far a table is: ``status`` is complete, stale or partial."""

    table: str
    status: str
    committed: int
    index: dict[str, Any] | None

    @property
    def rows(self) -> int:
        """Rows of a finished table."""
        return sum(entry["rows"] for entry in self.index["shards"]) if self.index else 0

    @property
    def bytes(self) -> int:
        """Bytes of a finished table."""
        return sum(entry["bytes"] for entry in self.index["shards"]) if self.index else 0

    @property
    def empty(self) -> int:
        """Maps of which nothing is said (their coverage is 0)."""
        return sum(entry.get("empty", 0) for entry in self.index["shards"]) if self.index else 0

    @property
    def reasons(self) -> Counter[str]:
        """Rows refused, by reason."""
        counts: Counter[str] = Counter()
        for entry in self.index["shards"] if self.index else ():
            counts.update(entry.get("reasons", {}))
        return counts


class Dataset:
    """A dataset folder that exists. ``config`` is ``dataset.json``: what never changes, and the segments."""

    def __init__(self, storage: Storage, config: dict[str, Any]):
        self.storage = storage
        self.config = config

    @classmethod
    def open(cls, address: str | os.PathLike[str]) -> Dataset:
        """Open a dataset.

        Raises:
            MillError: there is none, or it is damaged or of another schema version.
        """
        storage = Storage(address)
        config = storage.read_json("dataset.json")
        if config is None:
            raise MillError(f"{storage.address} is not a dataset (no dataset.json); make one with: controlmill ingest")
        version = config.get("version") if isinstance(config, dict) else None
        if version != VERSION:
            raise MillError(f"{storage.address} {_of_another_version(version)}")
        try:
            documents.check(config, documents.CONFIG)
            documents.check_config(config)
        except ValueError as error:
            raise documents.damaged(storage.path("dataset.json"), error, "it must be restored") from error
        return cls(storage, config)

    @classmethod
    def create(cls, address: str | os.PathLike[str], ingest: Mapping[str, Any], shard_size: int) -> Dataset:
        """Make an empty dataset; the folder may exist but must hold nothing.

        Raises:
            MillError: the folder holds something else.
        """
        storage = Storage(address)
        storage.sweep()
        if storage.files("") or [name for name in storage.folders() if name != "_run"]:
            raise MillError(f"{storage.address} is not empty and not a dataset; choose another folder")
        dataset = cls(storage, {"version": VERSION, "ingest": dict(ingest), "shard_size": shard_size, "segments": []})
        dataset.save()
        return dataset

    def save(self) -> None:
        """Write ``dataset.json``."""
        self.storage.write_json("dataset.json", self.config)

    @property
    def shards(self) -> int:
        """Shards of all segments."""
        return sum(segment["shards"] for segment in self.config["segments"])

    # tables

    def tables(self) -> list[str]:
        """Folders that hold a table: the base tables first, then conditions in the order of the design."""
        found = {name for name in self.storage.folders() if NAME.fullmatch(name)}
        order = [*BASE_TABLES, *(condition.table for condition in CONDITIONS.values())]
        return [*(name for name in order if name in found), *sorted(found.difference(order))]

    def condition_tables(self) -> list[str]:
        """Tables of conditions and captions."""
        return [name for name in self.tables() if name not in (*BASE_TABLES, *CACHES)]

    def committed(self, table: str) -> set[int]:
        """Numbers of the shards that are committed in a table."""
        numbers: set[int] = set()
        for folder in self.storage.folders(table):
            numbers.update(self.committed_in(table, int(folder)) if folder.isdigit() else ())
        return numbers

    def committed_in(self, table: str, folder: int) -> set[int]:
        """Numbers of the committed shards in one folder of a table."""
        names = self.storage.files(f"{table}/{folder:04d}")
        return {int(name[:8]) for name in names if SHARD_NAME.fullmatch(name)}

    def has(self, table: str, shard: int) -> bool:
        """Whether a shard is committed in a table."""
        return self.storage.exists(shard_file(table, shard))

    def index(self, table: str) -> dict[str, Any] | None:
        """What is known of all files of a complete table, else None."""
        name = index_file(table)
        index: dict[str, Any] | None = self.storage.read_json(name, documents.INDEX)
        if index is not None and not table == index["table"] == index["provenance"]["table"]:
            raise MillError(f"{self.storage.path(name)} is damaged (it is the index of {index['table']})")
        return index

    @contextmanager
    def parquet(self, table: str, shard: int) -> Iterator[ShardFile]:
        """A committed file, open for reading.

        Raises:
            MillError: the file is damaged.
        """
        with self.storage.open(shard_file(table, shard)) as file:
            yield open_parquet(file)

    def footer(self, table: str, shard: int) -> Footer:
        """What a committed file says of itself."""
        with self.parquet(table, shard) as parquet:
            return read_footer(parquet)

    def footers(self, table: str, shards: Iterable[int]) -> Iterator[tuple[int, Footer]]:
        """Footers of many files, read side by side."""
        with ThreadPoolExecutor(8) as pool:
            numbers = sorted(shards)
            yield from zip(numbers, pool.map(lambda shard: self.footer(table, shard), numbers), strict=True)

    def condition(self, table: str) -> Condition:
        """The condition in a table that has at least one file or is complete."""
        index = self.index(table)
        provenance = index["provenance"] if index else self.footer(table, min(self.committed(table))).provenance
        return stored_condition(provenance)

    def state(self, table: str) -> TableState:
        """How far a table is. A condition is stale where it was made from other images than are there now."""
        index, committed = self.index(table), self.committed(table)
        if index is not None and self.stale_shards(table, index):
            return TableState(table, "stale", len(committed), index)
        if index is None or len(committed) < self.shards:
            return TableState(table, "partial", len(committed), None)
        return TableState(table, "complete", len(committed), index)

    def stale_shards(self, table: str, index: Mapping[str, Any]) -> list[int]:
        """Shards of a finished table whose images are not the ones that it was made from."""
        if table in BASE_TABLES:
            return []
        images = self.index("images")
        if images is None:
            return list(range(len(index["shards"])))
        now = [entry["sha256"] for entry in images["shards"]]
        return [
            shard
            for shard, entry in enumerate(index["shards"])
            if shard >= len(now) or entry["images_sha256"] != now[shard]
        ]

    def finish(self, table: str) -> dict[str, Any]:
        """Write the index of a table whose shards are all committed.

        Raises:
            MillError: a shard is missing, or its files were made in different ways.
        """
        missing = sorted(set(range(self.shards)) - self.committed(table))
        if missing:
            raise MillError(f"table {table} lacks {len(missing)} of {self.shards} shards, the first is {missing[0]}")
        with ThreadPoolExecutor(4) as pool:
            described = list(pool.map(lambda shard: self._describe(table, shard), range(self.shards)))
        provenances = [provenance for provenance, _ in described]
        for shard, provenance in enumerate(provenances):
            if provenance != provenances[0]:
                first = differences(provenances[0], provenance)[0]
                raise MillError(
                    f"{table} is mixed: shard {shard} differs from shard 0 in {first}; --overwrite {table} redoes it"
                )
        index = {
            "table": table,
            "provenance": provenances[0] if provenances else {},
            "shards": [entry for _, entry in described],
        }
        self.storage.write_json(index_file(table), index)
        return index

    def _describe(self, table: str, shard: int) -> tuple[dict[str, Any], dict[str, Any]]:
        """(what all files of the table share, this file's entry in the shard index)."""
        with self.storage.open(shard_file(table, shard)) as file:
            return describe_file(file)

    def write_card(self) -> None:
        """Write the dataset card: it lists just the tables that are complete and not stale."""
        states = [self.state(table) for table in self.tables() if table != "sources"]
        self.storage.write(
            "README.md", dataset_card(self.config, [s for s in states if s.status == "complete"]).encode()
        )

    def begin_redo(self, table: str, wanted: Mapping[str, Any]) -> bool:
        """Whether a table is still to be dropped for a redo; False where one with the same aim was cut off before."""
        return self.redoing.get(table) != fingerprint(wanted)

    @property
    def redoing(self) -> dict[str, str]:
        """Table → fingerprint of the aim, of the redos that were begun and are not ended."""
        return dict(self.config.get("redoing", {}))

    def mark_redo(self, table: str, wanted: Mapping[str, Any]) -> None:
        """The old table is gone; until :meth:`end_redo` the same command goes on with the new one."""
        self.config["redoing"] = {**self.redoing, table: fingerprint(wanted)}
        self.save()

    def end_redo(self, tables: Iterable[str]) -> None:
        """These tables are done: asking for them again means another redo."""
        left = {table: aim for table, aim in self.redoing.items() if table not in set(tables)}
        if left != self.redoing:
            self.config.pop("redoing")
            if left:
                self.config["redoing"] = left
            self.save()

    def drop(self, table: str) -> None:
        """Remove a table. Its index goes first, so that a table that is half gone is never called complete."""
        self.storage.remove(index_file(table))
        self.write_card()
        self.storage.remove(table)


def _of_another_version(version: object) -> str:
    if isinstance(version, int) and version < VERSION:
        return f"was made by an earlier ControlMill (schema {version}): build it again, in a new folder"
    return f"has schema version {version}; this ControlMill reads {VERSION}: use the one that made it"


def describe_file(file: BinaryIO) -> tuple[dict[str, Any], dict[str, Any]]:
    """(what all files of the table share, this file's entry in the shard index), from an open file."""
    digest = hashlib.file_digest(file, "sha256").hexdigest()  # type: ignore[arg-type]
    size = file.tell()
    file.seek(0)
    footer = read_footer(file)
    entry = {
        "rows": footer.rows,
        "row_groups": len(footer.groups),
        "bytes": size,
        "sha256": digest,
        **({"images_sha256": footer.images_sha256} if footer.images_sha256 else {}),
        **{name: footer.summary[name] for name in ("reasons", "captions", "empty") if footer.summary.get(name)},
    }
    return footer.shared, entry
