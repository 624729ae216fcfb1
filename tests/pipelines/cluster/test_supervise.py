"""Processes of a cluster are started again, also where that fails at first."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Any

import pytest

from controlmill.pipelines.cluster import supervise
from controlmill.pipelines.cluster.member import Member
from controlmill.pipelines.cluster.supervise import Watched
from controlmill.schemas.errors import MillError


def full(*_: Any, **__: Any) -> None:
    raise BlockingIOError(11, "Resource temporarily unavailable")


def watched(folder: Path) -> Watched:
    member = Member("worker", "A:8786", "127.0.0.1", str(folder / "worker"))
    return Watched("worker 0", member, folder / "worker.log")


def test_a_machine_without_room_for_a_process_is_one_message(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(subprocess, "Popen", full)
    with pytest.raises(MillError, match="worker 0 cannot be started"):
        watched(tmp_path).start()


@pytest.mark.parametrize("part", ["Popen", "makedirs"])
def test_what_cannot_be_started_again_is_tried_later(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], part: str
) -> None:
    process = watched(tmp_path)
    monkeypatch.setattr(supervise, "process_command", lambda _: ["true"])
    with monkeypatch.context() as now:
        now.setattr(subprocess if part == "Popen" else supervise.os, part, full)
        process.look()
        process.look()
    said = capsys.readouterr().err
    assert said.count("worker 0: cannot be started") == 1
    assert "it is started again" in said
    process._again = 0.0
    process.look()
    assert process._process is not None
    process.end(5)
