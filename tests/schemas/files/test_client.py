"""A store whose client fails says so by an OSError, whatever the client raises."""

from __future__ import annotations

import errno
import pickle
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from fsspec.implementations.memory import MemoryFile, MemoryFileSystem

from controlmill.schemas.dataset import Dataset
from controlmill.schemas.files.addresses import open_storage
from controlmill.schemas.files.shardfile import ShardFile
from controlmill.schemas.files.storage import Storage

LOST = "the client lost its connection"


class Unconnected(Exception):
    """As clients of stores raise: no OSError."""


def lose(monkeypatch: pytest.MonkeyPatch, where: Any, *names: str) -> None:
    def fail(*_: Any, **__: Any) -> Any:
        raise Unconnected(LOST)

    for name in names:
        monkeypatch.setattr(where, name, fail)


@pytest.fixture
def storage() -> Storage:
    storage = open_storage("memory://lost/data")
    storage.write_json("dataset.json", {})
    with storage.fs.open(storage.path("a.parquet"), "wb") as file:
        pq.write_table(pa.table({"x": [1, 2]}), file)
    return storage


def test_what_a_client_raises_is_an_error_of_the_machine(storage: Storage, monkeypatch: pytest.MonkeyPatch) -> None:
    lose(monkeypatch, MemoryFileSystem, "cat_file", "exists", "ls", "pipe_file", "find", "_open")
    for use in (
        lambda: storage.has_file("dataset.json"),
        lambda: storage.read_json("dataset.json", dict),
        storage.exists,
        lambda: storage.files(""),
        lambda: storage.write("x", b""),
        lambda: storage.read("a.parquet"),
        lambda: Dataset.open(storage.address),
    ):
        with pytest.raises(OSError, match=f"memory:///?lost/data: .*{LOST}") as raised:
            use()
        assert raised.value.errno == errno.EIO


def test_a_file_that_cannot_be_read_further_is_not_taken_for_a_damaged_one(
    storage: Storage, monkeypatch: pytest.MonkeyPatch
) -> None:
    with storage.open("a.parquet") as file:
        parquet = ShardFile(file)
        assert parquet.read().num_rows == 2
        lose(monkeypatch, MemoryFile, "read")
        with pytest.raises(OSError, match=LOST) as raised:
            parquet.read()
        assert raised.value.errno == errno.EIO


def test_what_says_more_stays_as_it_is(storage: Storage) -> None:
    with pytest.raises(FileNotFoundError):
        storage.open("nothing")
    assert not storage.has_file("nothing")
    with storage.open("a.parquet") as file:
        assert file.read(4) == b"PAR1"
    assert pickle.loads(pickle.dumps(storage)).read("a.parquet") == storage.read("a.parquet")
