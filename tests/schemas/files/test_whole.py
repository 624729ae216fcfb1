"""A small file is written whole, or stays as it was; nothing is left beside it."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from controlmill.schemas.files.whole import TEMPORARY, replacing, write_whole


def test_the_new_file_takes_the_place_of_the_old_one(tmp_path: Path) -> None:
    for data in (b"old", b"new"):
        write_whole(tmp_path / "file", data)
        assert (tmp_path / "file").read_bytes() == data
    assert os.listdir(tmp_path) == ["file"]


def test_the_old_file_stays_where_the_new_one_cannot_be_written(tmp_path: Path) -> None:
    write_whole(tmp_path / "file", b"old")
    with pytest.raises(OSError, match="no space"), replacing(tmp_path / "file") as scratch:
        scratch.write_bytes(b"ne")
        assert TEMPORARY.search(scratch.name)
        raise OSError("no space")
    assert (tmp_path / "file").read_bytes() == b"old"
    assert os.listdir(tmp_path) == ["file"]


def test_a_full_disk_is_told_with_the_name_of_the_file(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="No space left on device") as told, replacing(tmp_path / "file") as scratch:
        scratch.symlink_to("/dev/full")
        scratch.write_bytes(b"data")
    assert told.value.filename == str(tmp_path / "file")
    with pytest.raises(FileNotFoundError) as told:
        write_whole(tmp_path / "nowhere" / "file", b"data")
    assert told.value.filename == str(tmp_path / "nowhere" / "file")


def test_a_link_to_the_same_file_leaves_nothing_behind(tmp_path: Path) -> None:
    (tmp_path / "source").write_bytes(b"data")
    for _ in range(2):
        with replacing(tmp_path / "file") as scratch:
            os.link(tmp_path / "source", scratch)
    assert sorted(os.listdir(tmp_path)) == ["file", "source"]
