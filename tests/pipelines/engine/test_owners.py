"""Whose a run folder is, and which are swept."""

from __future__ import annotations

import json
import os
from contextlib import suppress
from pathlib import Path

import pytest

from controlmill.pipelines.engine.owners import require_alone, sweep
from controlmill.pipelines.engine.run_folder import Run
from controlmill.schemas import machine
from controlmill.schemas.errors import MillError
from controlmill.schemas.files import whole
from controlmill.schemas.files.addresses import open_storage
from controlmill.schemas.files.storage import Storage
from controlmill.schemas.files.whole import replacing
from tests.helpers import LINUX


def left_behind(storage: Storage, **changes: object) -> Path:
    storage.write_json("dataset.json", {})
    run = Run.start(storage)
    owner = Path(storage.path(f"_run/{run.id}/owner.json"))
    owner.write_text(json.dumps({**json.loads(owner.read_text()), **changes}))
    return owner


@LINUX
def test_a_run_of_a_process_before_one_with_its_number_is_swept(tmp_path: Path) -> None:
    storage = open_storage(tmp_path)
    storage.write_json("dataset.json", {})
    before = left_behind(storage)  # as process 1 of a container that was started again
    other = left_behind(storage, pid=os.getppid(), started=1)
    reboot = left_behind(storage, pid=os.getppid(), started=machine.started_at(os.getppid()), boot="another")
    alive = left_behind(storage, pid=os.getppid(), started=machine.started_at(os.getppid()))
    elsewhere = left_behind(storage, host="another machine")
    sweep(storage)
    assert [path.exists() for path in (before, other, reboot, alive, elsewhere)] == [False, False, False, True, True]
    with pytest.raises(MillError, match="another job works on"):
        require_alone(storage)


def test_a_run_that_names_nobody_is_swept(tmp_path: Path) -> None:
    storage = open_storage(tmp_path)
    (tmp_path / "_run/begun").mkdir(parents=True)
    sweep(storage)
    assert not list(tmp_path.iterdir())


def test_small_writes_of_dead_processes_are_swept_and_not_those_of_other_machines(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The numbers of processes say nothing of another machine's: that of a container's first one is always 1."""
    with suppress(OSError), replacing(tmp_path / "README.md") as scratch:
        own, living = scratch.name, scratch.name.replace(f".{os.getpid()}-", f".{os.getppid()}-")
        dead = scratch.name.replace(f".{os.getpid()}-", f".{2**22 + 1}-")
        raise OSError
    for name in (own, living, dead):
        (tmp_path / name).write_text("half")
    with monkeypatch.context() as there:
        there.setattr(whole.socket, "gethostname", lambda: "node-7")
        open_storage(tmp_path).sweep()
        assert len(list(tmp_path.iterdir())) == 3
    open_storage(tmp_path).sweep()
    assert [path.name for path in tmp_path.iterdir()] == [living]
    os.utime(tmp_path / living, (0, 0))
    open_storage(tmp_path).sweep()
    assert [path.name for path in tmp_path.iterdir()] == [living]
    monkeypatch.setattr(whole.socket, "gethostname", lambda: "node-7")
    open_storage(tmp_path).sweep()
    assert not list(tmp_path.iterdir())
