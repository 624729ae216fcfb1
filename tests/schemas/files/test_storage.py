"""Commits: whole, once, the first wins; on a local disk and on an fsspec file system."""

from __future__ import annotations

import errno
import os
import pickle
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import fsspec
import pytest
from fsspec.implementations.memory import MemoryFileSystem
from fsspec.registry import _registry

from controlmill.schemas.dataset import Dataset
from controlmill.schemas.errors import MillError
from controlmill.schemas.files.addresses import open_storage
from controlmill.schemas.files.storage import Storage
from controlmill.schemas.provenance import IngestRecord, LimitsRecord

INGEST = IngestRecord(1, 64, "crop", LimitsRecord(1000, 1000, 1), None)


@dataclass(frozen=True)
class Small:
    """A small file."""

    x: int


@pytest.fixture(params=["local", "memory"])
def storage(request: pytest.FixtureRequest, tmp_path: Path) -> Any:
    fsspec.filesystem("memory").store.clear()
    made = open_storage(tmp_path / "data" if request.param == "local" else "memory://bucket/data")
    made.write_json("dataset.json", {})
    if made.local:
        Path(made.path("_run/run/scratch")).mkdir(parents=True)
    return made


def put(storage: Storage, name: str, data: bytes) -> bool:
    with storage.scratch("run") as scratch:
        scratch.write_bytes(data)
        done = storage.commit(scratch, name)
    assert not scratch.exists()
    return done


def test_the_first_commit_wins(storage: Storage) -> None:
    assert put(storage, "table/0000/a", b"one")
    assert not put(storage, "table/0000/a", b"two")
    assert storage.read("table/0000/a") == b"one"
    assert storage.files("table/0000") == {"a": 3}
    assert storage.folders("table") == ["0000"]


def test_an_exception_before_the_commit_leaves_nothing(storage: Storage) -> None:
    with pytest.raises(RuntimeError), storage.scratch("run") as scratch:
        scratch.write_bytes(b"half")
        raise RuntimeError
    assert not scratch.exists()
    assert storage.files("table") == {}


def test_small_files_are_replaced_whole(storage: Storage) -> None:
    storage.write_json("a/b.json", {"x": 1})
    storage.write_json("a/b.json", {"x": 2})
    assert storage.read_json("a/b.json", Small) == Small(2)
    assert storage.read_json("a/c.json", Small) is None
    assert list(storage.files("a")) == ["b.json"]
    storage.remove("a")
    storage.remove("a")
    assert not storage.exists("a/b.json")


def test_damaged_json_is_a_clear_error(storage: Storage) -> None:
    storage.write("dataset.json", b'{"version": 1, "inge')
    with pytest.raises(MillError, match=r"dataset\.json is damaged"):
        storage.read_json("dataset.json", Small)


def test_a_storage_travels_to_workers(storage: Storage) -> None:
    storage.write("x", b"1")
    assert pickle.loads(pickle.dumps(storage)).address == storage.address


def test_a_relative_folder_is_the_same_from_anywhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    address = open_storage("data").address
    monkeypatch.chdir("/")
    assert address == str(tmp_path / "data")


def test_a_file_that_goes_while_a_folder_is_listed_takes_no_other_with_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in "abc":
        (tmp_path / name).write_bytes(b"xy")

    class Listed(list[Any]):
        def __enter__(self) -> Listed:
            (tmp_path / "b").unlink()
            return self

        def __exit__(self, *_: object) -> None:
            pass

    class Entry:
        def __init__(self, path: Path):
            self.name, self.stat = path.name, path.stat

        def is_file(self) -> bool:
            return True  # the system told so with the name

    storage = open_storage(tmp_path)
    monkeypatch.setattr(os, "scandir", lambda _: Listed(Entry(tmp_path / name) for name in "abc"))
    assert storage.files("") == {"a": 2, "c": 2}


def test_a_disk_without_hard_links_is_said_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any) -> None:
        raise OSError(errno.EPERM, "not permitted")

    monkeypatch.setattr(os, "link", refuse)
    (tmp_path / "dataset.json").write_text("{}")
    (tmp_path / "_run/run/scratch").mkdir(parents=True)
    with pytest.raises(MillError, match="has no hard links"):
        put(open_storage(tmp_path), "a", b"1")


@pytest.mark.parametrize(
    "change",
    [
        lambda there: put(there, "a", b"1"),
        lambda there: there.write("a", b"1"),
        lambda there: there.remove("dataset.json"),
        lambda _: Dataset.create("memory://bucket/new", INGEST),
    ],
)
def test_where_a_file_cannot_be_created_only_if_absent_nothing_is_changed(
    monkeypatch: pytest.MonkeyPatch, change: Callable[[Storage], Any]
) -> None:
    fsspec.filesystem("memory").store.clear()
    there = open_storage("memory://bucket/data")
    there.write_json("dataset.json", {"x": 1})
    monkeypatch.setattr(MemoryFileSystem, "protocol", "elsewhere")
    with pytest.raises(MillError, match=r"elsewhere://.*can only be read"):
        change(there)
    assert list(fsspec.filesystem("memory").store) == ["/bucket/data/dataset.json"]
    assert there.read_json("dataset.json", Small) == Small(1)


@pytest.mark.parametrize("protocol", [("s3", "s3a"), ("gs", "gcs")])
def test_object_stores_that_create_only_if_absent_are_written_to(protocol: tuple[str, ...]) -> None:
    storage = open_storage("memory://bucket/data")
    storage.fs = RecordingPut(protocol)
    assert put(storage, "a", b"1")


class RecordingPut:
    def __init__(self, protocol: Any) -> None:
        self.protocol = protocol

    def cat_file(self, path: str, start: int, end: int) -> bytes:
        if not path.endswith("/dataset.json"):
            raise FileNotFoundError(path)
        return b"{"

    def put_file(self, source: str, target: str, mode: str) -> None:
        assert mode == "create"


@pytest.mark.parametrize(
    ("address", "package", "said"),
    [
        ("s3://bucket/data", "s3fs", r"pip install '\.\[s3\]'"),
        ("gs://bucket/data", "gcsfs", r"pip install '\.\[gcs\]'"),
        ("abfs://bucket/data", "adlfs", "adlfs"),
        ("nowhere://bucket/data", None, "Protocol not known: nowhere"),
    ],
)
def test_an_address_that_cannot_be_opened_says_why(
    monkeypatch: pytest.MonkeyPatch, address: str, package: str | None, said: str
) -> None:
    if package:
        monkeypatch.setitem(sys.modules, package, None)
        for protocol in ("s3", "gs"):
            monkeypatch.delitem(_registry, protocol, raising=False)
    with pytest.raises(MillError, match=f"^{address}: .*{said}"):
        open_storage(address)
