"""What Beam is told of the workers that a cluster starts."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from controlmill.pipelines.engine import worker_program
from controlmill.pipelines.engine.portable import environment, worker_command
from controlmill.pipelines.engine.versions import versions


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
