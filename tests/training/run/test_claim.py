"""Two commands do not train one run, and what a killed one was writing is no hindrance."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from controlmill.schemas.errors import MillError
from controlmill.training.commands import train
from controlmill.training.run.claim import claimed
from tests.training_runs import MakeConfig, TrainRun, forget_precision

HOLD = "from controlmill.training.run.claim import claimed; from pathlib import Path; import sys\n"
HOLD += "with claimed(Path(sys.argv[1])): print('held', flush=True); sys.stdin.read()"


def test_a_run_that_another_process_trains_is_neither_begun_nor_gone_on_with(
    train_run: TrainRun, short_config: MakeConfig, scenes_folder: Path, tmp_path: Path
) -> None:
    train_run(tmp_path / "run", short_config(steps=1))
    before = (tmp_path / "run" / "run.json").read_bytes()
    pipe = subprocess.PIPE
    with subprocess.Popen([sys.executable, "-c", HOLD, tmp_path / "run"], stdin=pipe, stdout=pipe) as holder:
        assert holder.stdout and holder.stdout.readline() == b"held\n"
        for resume in (True, False):
            settings = {"steps": 9} if resume else vars(short_config(steps=1))
            with pytest.raises(MillError, match=rf"is being trained by process {holder.pid} on .*: wait for it"):
                train(str(scenes_folder), tmp_path / "run", settings, resume=resume)
        assert (tmp_path / "run" / "run.json").read_bytes() == before
        os.kill(holder.pid, signal.SIGKILL)
        holder.wait()
    with claimed(tmp_path / "run"):
        pass


def test_a_run_that_cannot_begin_leaves_no_folder(scenes_folder: Path, tmp_path: Path) -> None:
    with pytest.raises(MillError, match="has no condition 'sketch'"):
        train(str(scenes_folder), tmp_path / "runs" / "never", {"condition": "sketch"})
    with pytest.raises(MillError, match="is not a run"):
        train(str(scenes_folder), tmp_path / "runs" / "never", {}, resume=True)
    assert not (tmp_path / "runs").exists()


def test_a_file_is_no_place_for_a_run(scenes_folder: Path, tmp_path: Path) -> None:
    (tmp_path / "photo.jpg").write_bytes(b"kept")
    for run in (tmp_path / "photo.jpg", tmp_path / "photo.jpg" / "run"):
        with pytest.raises(MillError, match=r"photo\.jpg is a file; choose a folder for the run"):
            train(str(scenes_folder), run, {"condition": "canny"})
    assert (tmp_path / "photo.jpg").read_bytes() == b"kept"


def test_a_folder_of_anything_else_is_left_as_it_is(
    short_config: MakeConfig, scenes_folder: Path, tmp_path: Path
) -> None:
    other = tmp_path / "dataset"
    (other / "canny").mkdir(parents=True)
    for name in ("dataset.json", "canny/x.parquet.1-0123abcd-0123abcd~"):
        (other / name).write_text("{}")
    before = sorted(other.rglob("*"))
    with pytest.raises(MillError, match="is not empty and not a run"):
        train(str(scenes_folder), other, vars(short_config(steps=1)))
    assert sorted(other.rglob("*")) == before


def test_a_run_that_was_killed_while_its_folder_was_made_begins_again(
    short_config: MakeConfig, scenes_folder: Path, tmp_path: Path
) -> None:
    run = tmp_path / "run"
    run.mkdir()
    (run / "_lock").write_text("process 1 on nowhere\n")
    (run / "run.json.1-0123abcd-0123abcd~").write_text("{")
    forget_precision()
    train(str(scenes_folder), run, vars(short_config(steps=1)))
    assert (run / "checkpoints" / "00000001").is_dir()
    assert not [*run.rglob("*~")]
