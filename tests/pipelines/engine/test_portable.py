"""What Beam is told of the workers that a cluster starts."""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path

import pytest

from controlmill.pipelines.engine import worker_program
from controlmill.pipelines.engine.portable import environment, run_shard_if_seen, worker_command
from controlmill.pipelines.engine.run_folder import Run
from controlmill.pipelines.engine.shards import Job
from controlmill.pipelines.engine.versions import versions
from controlmill.pipelines.stages.annotate import Annotate
from controlmill.schemas.dataset import Dataset
from controlmill.schemas.errors import MillError


def test_workers_are_processes_of_our_program_unless_the_user_says_otherwise() -> None:
    kind, config = environment(("parallelism=2",))
    assert kind == "environment_type=PROCESS"
    told = json.loads(config.removeprefix("environment_config="))
    assert told["command"] == worker_command()
    assert json.loads(told["env"][worker_program.VERSIONS]) == versions()
    assert told["env"]["OMP_NUM_THREADS"] == "1"
    assert environment(("--environment_type=EXTERNAL",)) == ()


def test_the_program_is_beside_this_python_or_on_the_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "executable", str(tmp_path / "a" / "python"))
    monkeypatch.setenv("PATH", str(tmp_path / "b"))
    assert worker_command() == "controlmill-worker"
    for name in ("b", "a"):
        program = tmp_path / name / "controlmill-worker"
        program.parent.mkdir()
        program.touch(0o755)
        assert worker_command() == str(program)


def test_a_worker_that_does_not_see_the_dataset_says_so(dataset: Path, tmp_path: Path) -> None:
    here = Path(shutil.copytree(dataset, tmp_path / "dataset"))
    storage = Dataset.open(here).storage
    job = Job(storage, Run.start(storage).id, Annotate((), {}, {}), {}, 1)
    elsewhere = here.rename(tmp_path / "elsewhere")
    with pytest.raises(MillError, match=r"does not see the dataset .*/dataset \(nothing there"):
        run_shard_if_seen(job, 0)
    elsewhere.rename(here)
    assert run_shard_if_seen(job, 0) == {"shard": 0, "status": "done", "committed": []}
