"""Footers that end the process which looks at them: here a process that ends stands for them."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from controlmill.schemas.errors import MillError
from controlmill.schemas.files.addresses import open_storage
from controlmill.schemas.files.layout import LayoutCheck
from controlmill.schemas.files.storage import Storage
from tests.helpers import LINUX
from tests.processes import wait_until


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


KILLED = """
import os, sys, time
from tests.schemas.files.test_layout import LayoutCheck, open_storage, tell_process
if __name__ == "__main__":
    with LayoutCheck(tell_process) as check:
        check(open_storage(sys.argv[1]), "file")
        time.sleep(60)
"""


def tell_process(storage: Storage, name: str) -> None:
    Path(storage.path(name)).write_text(str(os.getpid()))


@LINUX
def test_the_process_ends_with_the_one_that_started_it_however_that_ends(tmp_path: Path) -> None:
    (tmp_path / "killed.py").write_text(KILLED)
    root = Path(__file__).parents[3]
    environment = {**os.environ, "PYTHONPATH": str(root)}
    with subprocess.Popen([sys.executable, str(tmp_path / "killed.py"), str(tmp_path)], env=environment) as killed:
        wait_until(lambda: (tmp_path / "file").exists() and (tmp_path / "file").read_text() != "")
        killed.send_signal(signal.SIGKILL)
    process = Path("/proc") / (tmp_path / "file").read_text()
    wait_until(lambda: not process.exists())
