"""The switch of a table that was made anew, cut off at each of its steps: old or new, never a mixture, never lost."""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import fsspec
import pytest
from fsspec.implementations.memory import MemoryFileSystem

from controlmill.pipelines.stages.ingest import IngestConfig
from controlmill.schemas import redo
from controlmill.schemas.annotator_records import AnnotatorRecord
from controlmill.schemas.dataset import Dataset
from controlmill.schemas.files.addresses import open_storage
from controlmill.schemas.files.local_storage import LocalStorage
from controlmill.schemas.files.object_store import ObjectStore
from controlmill.schemas.files.storage import Storage
from controlmill.schemas.names import index_file, shard_file
from controlmill.schemas.provenance import Provenance
from controlmill.schemas.records import Entry, Index
from controlmill.schemas.segments import Segment


class Cut(BaseException):
    """A job that is killed."""


class Killer:
    """Lets so many changes of files happen, and then none."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, left: int) -> None:
        self.left = left
        for owner, names in (
            (LocalStorage, ("write",)),
            (ObjectStore, ("write",)),
            (MemoryFileSystem, ("cp_file", "rm_file")),
            (shutil, ("rmtree",)),
        ):
            for name in names:
                monkeypatch.setattr(owner, name, self.counted(getattr(owner, name)))
        for name in ("replace", "unlink"):
            monkeypatch.setattr(f"controlmill.schemas.files.local_storage.os.{name}", self.counted(getattr(os, name)))

    def counted(self, change: Any) -> Any:
        def counting(*args: Any, **options: Any) -> Any:
            self.left -= 1
            if self.left < 0:
                raise Cut
            return change(*args, **options)

        return counting


@pytest.fixture(params=["local", "store"])
def storage(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Storage:
    """A dataset in which images and canny are made anew: with other bytes, and one shard less."""
    monkeypatch.setattr(os, "fsync", lambda _: None)  # slow, and nobody cuts the power here
    fsspec.filesystem("memory").store.clear()
    there = open_storage(tmp_path / "dataset" if request.param == "local" else "memory://bucket/dataset")
    Dataset.create(there.address, IngestConfig().record()).append([Segment(0, 3, 12, 4, "folder")], ["/photos"])
    put(there, "", "old", 3)
    for name in ("canny", "images"):
        redo.begin(there, name, {})
    put(there, "_redo/", "new", 2)
    config = Dataset.open(there.address).config
    there.write_json("_redo/dataset.json", replace(config, segments=(Segment(0, 2, 8, 4, "folder"),)))
    return there


def put(storage: Storage, folder: str, age: str, shards: int) -> None:
    for table in ("canny", *redo.LISTED):
        for shard in range(shards):
            storage.write(f"{folder}{shard_file(table, shard)}", f"{age} {table} {shard}".encode())
        entry = Entry(4, 1, 9, "0" * 64, "1" * 64, reasons={age: 1})
        ingest = IngestConfig().record()
        made = {
            "canny": Provenance(table, "binary", annotator=AnnotatorRecord("canny", "random", 1)),
            "images": Provenance(table, "images", ingest),
            "sources": Provenance(table, "sources"),
            "rejected": Provenance(table, "rejected"),
        }
        storage.write_json(f"{folder}{index_file(table)}", Index(table, made[table], (entry,) * shards))


def seen(storage: Storage, table: str) -> tuple[Any, dict[str, bytes]]:
    """(index, files) of a table, as a reader finds them."""
    dataset = Dataset.open(storage.address)
    return dataset.index(table), {name: storage.read(f"{table}/0000/{name}") for name in storage.files(f"{table}/0000")}


def snapshot(storage: Storage) -> Callable[[], None]:
    """What puts all files back as they are now."""
    if not storage.local:
        store = fsspec.filesystem("memory").store
        kept = dict(store)

        def restore() -> None:
            store.clear()
            store.update(kept)

        return restore
    copy = shutil.copytree(storage.root, f"{storage.root}-kept")

    def again() -> None:
        shutil.rmtree(storage.root)
        shutil.copytree(copy, storage.root)

    return again


@pytest.mark.parametrize("name", ["canny", "images"])
def test_a_switch_cut_off_at_any_step_is_ended_later_and_no_reader_sees_a_mixture(
    storage: Storage, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    tables = redo.tables_of(name)
    old = {table: seen(storage, table) for table in tables}
    new = {table: {f"{shard:08d}.parquet": f"new {table} {shard}".encode() for shard in range(2)} for table in tables}
    restore = snapshot(storage)
    for step in range(100):
        with monkeypatch.context() as patches, contextlib.suppress(Cut):
            killer = Killer(patches, step)
            redo.switch(storage, name)
        for table in tables:
            index, files = seen(storage, table)
            if index is not None:
                whole = (index, files) == old[table] or ("new" in index.shards[0].reasons and files == new[table])
                assert whole, (step, table)
        for begun in redo.cut_switches(storage):
            redo.switch(storage, begun)
            assert {table: seen(storage, table)[1] for table in tables} == new, step
            assert Dataset.open(storage.address).shards == (2 if name == "images" else 3)
        if killer.left >= 0:
            break
        restore()
    assert 6 < step < 99
    assert all(seen(storage, table)[0] for table in tables)
    redo.end(storage, [name])
    assert redo.state(storage, name, {}) is None
    assert not any(storage.exists(f"_redo/{left}") for left in (*tables, "_old/canny", "_old/images"))


def test_a_redo_that_is_not_complete_leaves_what_readers_see_alone(storage: Storage) -> None:
    assert "_redo" not in Dataset.open(storage.address).tables()
    assert redo.state(storage, "canny", {}) == redo.MAKING
    assert redo.state(storage, "canny", {"another": 1}) is None
    redo.end(storage, ["canny"])
    assert storage.exists("_redo/canny"), "only what is done is ended"
    redo.begin(storage, "canny", {"another": 1})
    assert not storage.exists("_redo/canny")
    assert storage.exists("_redo/images")
