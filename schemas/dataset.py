"""The dataset folder: what was listed in it, and which of its tables are complete, behind or stale."""

from __future__ import annotations

import os
from collections.abc import Collection, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from itertools import chain
from typing import Any

from .conditions import Condition
from .errors import MillError
from .files import documents
from .files.addresses import open_storage
from .files.storage import Storage
from .fingerprint import fingerprint
from .index import TableState, describe_file, stale_shards, table_index
from .names import GROWING, LOCAL, REDO, index_file
from .provenance import CaptionsRecord, IngestRecord, Provenance
from .records import Entry, Index
from .redo import LISTED
from .segments import DatasetRecord, LocalRecord, Segment
from .stored import stored_condition
from .table_files import TableFiles
from .tables import BASE_TABLES, CAPTIONS, IMAGES, WITHOUT_CONDITION
from .terminal.printing import printable

VERSION = 4
DESCRIBED = 1_000  # files that are read at a time for an index


class Dataset(TableFiles):
    """A dataset folder that exists. ``config`` is ``dataset.json``: what never changes, and the segments."""

    def __init__(self, storage: Storage, config: DatasetRecord, redone: Iterable[str] = ()):
        super().__init__(storage, redone)
        self.config = config

    @classmethod
    def open(cls, address: str | os.PathLike[str], redone: Iterable[str] = ()) -> Dataset:
        """Open a dataset.

        Raises:
            MillError: there is none, or it is damaged or of another schema version.
        """
        storage = open_storage(address)
        versioned = storage.read_json("dataset.json", _Versioned)
        if versioned is None:
            raise MillError(_no_dataset(storage.address))
        if versioned.version != VERSION:
            raise MillError(f"{storage.address} {_of_another_version(versioned.version)}")
        config = storage.read_json(f"{REDO}/dataset.json", DatasetRecord) if IMAGES in redone else None
        config = config or storage.read_json("dataset.json", DatasetRecord)
        assert config is not None
        return cls(storage, config, redone)

    @classmethod
    def create(cls, address: str | os.PathLike[str], ingest: IngestRecord) -> Dataset:
        """Make an empty dataset; the folder may exist but must hold nothing.

        Raises:
            MillError: the folder holds something else.
        """
        storage = open_storage(address)
        storage.sweep()
        cls.check_free(storage)
        dataset = cls(storage, DatasetRecord(VERSION, ingest, ()))
        storage.write_json("dataset.json", dataset.config)
        return dataset

    @staticmethod
    def check_free(storage: Storage) -> None:
        """Raise MillError where a folder holds something, or is a file, so that no dataset can be made in it."""
        if storage.local and os.path.isfile(storage.path()):
            raise MillError(f"{storage.address} is a file; choose a folder for the dataset")
        if storage.files("") or [name for name in storage.folders() if name != "_run"]:
            raise MillError(f"{storage.address} is not empty and not a dataset; choose another folder")

    def redo_images(self, ingest: IngestRecord) -> Dataset:
        """This dataset with images that are made anew: as far as they are, or empty."""
        there = self.storage.read_json(f"{REDO}/dataset.json", DatasetRecord)
        return Dataset(self.storage, there or DatasetRecord(VERSION, ingest, ()), LISTED)

    def redo(self, tables: Iterable[str]) -> Dataset:
        """This dataset with tables that are made anew."""
        return Dataset(self.storage, self.config, tables)

    def append(self, segments: Sequence[Segment], corpora: Sequence[str]) -> None:
        """Append what was listed, all of it or nothing.

        Args:
            segments: what was listed; their shards follow those that are there.
            corpora: the address of each one's corpus, which is of this machine and stays out of what may be published.
        """
        before = self.corpora if self.config.segments else []
        prefix = f"{REDO}/" if IMAGES in self.redone else ""
        self.storage.write_json(f"{prefix}{LOCAL}", LocalRecord((*before, *corpora)))
        self.config = replace(self.config, segments=(*self.config.segments, *segments))
        self.storage.write_json(f"{prefix}dataset.json", self.config)

    @property
    def corpora(self) -> list[str]:
        """The address of the corpus that each segment was listed from; empty where this machine does not know it."""
        local = self.storage.read_json(LOCAL, LocalRecord)
        known, segments = local.corpora if local else (), len(self.config.segments)
        return [*known[:segments], *("" for _ in range(segments - len(known)))]

    @property
    def shards(self) -> int:
        """Shards of all segments."""
        return self.config.shards

    @property
    def stopped(self) -> str:
        """The command that was stopped where the images are not complete: ``ingest``, or ``extend or retry``."""
        return "extend or retry" if self.storage.exists(GROWING) else "ingest"

    def unfinished(self, table: str) -> list[int]:
        """Committed shards that a job may go on from: of a table that is behind those that were appended, else all."""
        index, committed = self.index(table), sorted(self.committed(table))
        finished = len(index.shards) if index else 0
        return [shard for shard in committed if shard >= finished] if finished < self.shards else committed

    def index(self, table: str) -> Index | None:
        """What is known of all files of a complete table, else None."""
        if table not in self.redone and not self.storage.exists(table):
            return None
        name = index_file(table, table in self.redone)
        index = self.storage.read_json(name, Index)
        if index is not None and not table == index.table == index.provenance.table:
            raise MillError(f"{self.storage.path(name)} is damaged (it is the index of {printable(index.table)})")
        if index is not None:
            _check_kind(self.storage.path(name), table, index.provenance)
        return index

    def whole_index(self, table: str) -> Index | None:
        """The index of a table, where it has the shards of all segments."""
        index = self.index(table)
        return index if index is not None and len(index.shards) >= self.shards else None

    def sha256(self, table: str) -> str:
        """Fingerprint of a complete table.

        Raises:
            MillError: it is not complete.
        """
        index = self.whole_index(table)
        if index is None:
            raise MillError(f"{table} of {self.storage.address} is not complete")
        return fingerprint(index.digests)

    def condition(self, table: str) -> Condition:
        """The condition in a table that has at least one file or is complete."""
        index = self.index(table)
        provenance = index.provenance if index else self.begun_with(table)
        provenance = provenance or self.footer(table, min(self.committed(table))).provenance  # says what is wrong
        _check_kind(f"what table {table} says of itself", table, provenance)
        return stored_condition(provenance)

    def state(self, table: str) -> TableState:
        """How far a table is. It is stale where it was made from other images or captions than are there now."""
        index, committed = self.index(table), self.committed(table)
        if index is not None and self.stale_shards(table, index):
            return TableState(table, "stale", len(committed), index)
        if index is not None and len(index.shards) < self.shards:
            return TableState(table, "behind", len(committed), None)
        if index is None or len(committed) < self.shards:
            return TableState(table, "partial", len(committed), None)
        return TableState(table, "complete", len(committed), index)

    def captions(self) -> CaptionsRecord:
        """Where the captions are that training takes, and a digest of them where the images' says nothing of them.

        Returns:
            ``table``, the table that has them; ``sha256``, of the table of captions.

        Raises:
            MillError: the table of captions is not complete, or stale.
        """
        if CAPTIONS not in self.tables():
            return CaptionsRecord(IMAGES)
        state = self.state(CAPTIONS)
        if state.status == "stale":
            raise MillError(
                f"{CAPTIONS} is stale, made from earlier images: redo it first, annotate … --overwrite {CAPTIONS}"
            )
        if state.index is None:
            raise MillError(
                f"{CAPTIONS} is not complete ({state.committed} of {self.shards} shards): "
                "run the annotate command again to go on with it"
            )
        return CaptionsRecord(CAPTIONS, self.sha256(CAPTIONS))

    def stale_shards(self, table: str, index: Index) -> list[int]:
        """Shards of a finished table whose images, or captions, are not the ones that it was made from."""
        if table in BASE_TABLES:
            return []
        encoded = index.provenance.captions
        captions = self.index(CAPTIONS) if encoded and encoded.table == CAPTIONS else None
        return stale_shards(index, self.index(IMAGES), captions)

    def finish(self, table: str, changed: Collection[int] | None = None) -> Index:
        """Write the index of a table whose shards are all committed.

        Args:
            table: which.
            changed: shards that were made since the index was written, as far as it has them: what it says of the
                others stays, and they are not read. None: it is made from all files.

        Raises:
            MillError: a shard is missing, or its files were made in different ways.
        """
        missing = sorted(set(range(self.shards)) - self.committed(table))
        if missing:
            raise MillError(f"table {table} lacks {len(missing)} of {self.shards} shards, the first is {missing[0]}")
        self.storage.keep_names(self.folder(table))
        before = self.index(table) if changed is not None else None
        known = set(range(len(before.shards) if before else 0)).difference(changed or ())

        def describe(shard: int) -> tuple[Provenance, Entry]:
            if before and shard in known:
                return before.made(shard), before.shards[shard]
            with self.storage.open(self.file(table, shard)) as file:
                return describe_file(file)

        # what ingest refused is made again from the images' files, and the listing with the images
        redo = f"--overwrite {IMAGES if table in BASE_TABLES else table} redoes it"
        starts = [segment.first_shard for segment in self.config.segments] if table in BASE_TABLES else []
        with ThreadPoolExecutor(4) as pool:
            parts = (range(first, min(first + DESCRIBED, self.shards)) for first in range(0, self.shards, DESCRIBED))
            described = chain.from_iterable(pool.map(describe, part) for part in parts)
            index = table_index(table, described, redo, starts)
        self.storage.write_json(index_file(table, table in self.redone), index)
        return index


@dataclass(frozen=True)
class _Versioned:
    """``dataset.json`` of any version."""

    version: Any = None


def _check_kind(where: str, table: str, provenance: Provenance) -> None:
    """Raise MillError where the provenance of a table is none of such a table."""
    if not (provenance.kind == table if table in WITHOUT_CONDITION else provenance.is_condition):
        raise documents.damaged(where, ValueError(f'provenance.kind is "{provenance.kind}", which {table} is not'))


def _no_dataset(address: str) -> str:
    folder, _, name = address.rpartition("/")
    if name == "dataset.json":
        return f"{address} is a file of a dataset; give the folder that holds it: {folder}"
    return f"{address} is not a dataset (no dataset.json); make one with: controlmill build"


def _of_another_version(version: object) -> str:
    if isinstance(version, int) and version < VERSION:
        return f"was made by an earlier ControlMill (schema {version}): build it again, in a new folder"
    return f"has schema version {version}; this ControlMill reads {VERSION}: use the one that made it"
