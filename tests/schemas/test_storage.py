"""Commits: whole, once, the first wins; on a local disk and on an fsspec file system."""

from __future__ import annotations

import errno
import os
import pickle
from pathlib import Path
from typing import Any

import fsspec
import pytest
from controlmill.schemas.errors import MillError
from controlmill.schemas.storage import Storage


@pytest.fixture(params=["local", "memory"])
def storage(request: pytest.FixtureRequest, tmp_path: Path) -> Any:
    if request.param == "local":
        yield Storage(tmp_path / "data")
    else:
        fsspec.filesystem("memory").store.clear()
        yield Storage("memory://bucket/data")


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
    assert storage.read_json("a/b.json") == {"x": 2}
    assert storage.read_json("a/c.json") is None
    assert list(storage.files("a")) == ["b.json"]
    storage.remove("a")
    storage.remove("a")
    assert not storage.exists("a/b.json")


def test_damaged_json_is_a_clear_error(storage: Storage) -> None:
    storage.write("dataset.json", b'{"version": 1, "inge')
    with pytest.raises(MillError, match=r"dataset\.json is damaged"):
        storage.read_json("dataset.json")


def test_a_storage_travels_to_workers(storage: Storage) -> None:
    storage.write("x", b"1")
    assert pickle.loads(pickle.dumps(storage)).address == storage.address


def test_a_relative_folder_is_the_same_from_anywhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    address = Storage("data").address
    monkeypatch.chdir("/")
    assert address == str(tmp_path / "data")


def test_a_disk_without_hard_links_is_said_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any) -> None:
        raise OSError(errno.EPERM, "not permitted")

    monkeypatch.setattr(os, "link", refuse)
    with pytest.raises(MillError, match="has no hard links"):
        put(Storage(tmp_path), "a", b"1")
