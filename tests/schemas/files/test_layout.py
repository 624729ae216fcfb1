"""Footers that end the process which looks at them: here a process that ends stands for them."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from controlmill.schemas.errors import MillError
from controlmill.schemas.files.addresses import open_storage
from controlmill.schemas.files.layout import LayoutCheck
from controlmill.schemas.files.storage import Storage


def end_at_bad(storage: Storage, name: str) -> None:
    if name == "bad":
        os.abort()


def test_a_file_that_ends_the_process_is_damaged_and_the_next_is_checked(tmp_path: Path) -> None:
    storage = open_storage(tmp_path)
    with LayoutCheck(end_at_bad) as check:
        check(storage, "good")
        for _ in range(2):
            with pytest.raises(MillError, match=r"^bad is damaged \(the columns that its footer describes contradict"):
                check(storage, "bad")
            check(storage, "good")


def test_what_is_wrong_with_a_file_is_said_by_its_name(tmp_path: Path) -> None:
    (tmp_path / "x.parquet").write_bytes(b"nothing")
    with LayoutCheck() as check, pytest.raises(MillError, match=r"x\.parquet is damaged"):
        check(open_storage(tmp_path), "x.parquet")
