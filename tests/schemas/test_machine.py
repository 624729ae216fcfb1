"""What a machine says of its processes and its processors."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from controlmill.schemas import machine
from controlmill.schemas.machine import group_runs, processors
from tests.helpers import LINUX


@LINUX
def test_a_process_that_has_ended_does_not_run_though_nobody_took_notice() -> None:
    words = [sys.executable, "-c", "input()"]
    process = subprocess.Popen(words, stdin=subprocess.PIPE, stderr=subprocess.DEVNULL, start_new_session=True)
    assert process.stdin
    assert group_runs(process.pid)
    process.stdin.close()
    os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
    os.killpg(process.pid, 0)  # it is listed still
    assert not group_runs(process.pid)
    process.wait()
    assert not group_runs(process.pid)


@LINUX
@pytest.mark.parametrize(
    ("files", "count"),
    [
        ({}, 8),
        ({"pod/box/cpu.max": "max 100000", "pod/cpu.max": "max 100000"}, 8),
        ({"pod/box/cpu.max": "250000 100000", "pod/cpu.max": "max 100000"}, 3),
        ({"pod/box/cpu.max": "max 100000", "pod/cpu.max": "200000 100000"}, 2),
        ({"cpu.max": "150000 50000"}, 3),  # in a container, whose own group looks like the first of all
        ({"cpu/cpu.cfs_quota_us": "400000", "cpu/cpu.cfs_period_us": "100000"}, 4),
        ({"cpu/cpu.cfs_quota_us": "-1", "cpu/cpu.cfs_period_us": "100000"}, 8),
        ({"pod/box/cpu.max": "1000 100000"}, 1),
        ({"pod/box/cpu.max": "6400000 100000"}, 8),
        ({"pod/box/cpu.max": "what", "cpu/cpu.cfs_quota_us": ""}, 8),
    ],
)
def test_processors_are_those_that_control_groups_allow(
    files: dict[str, str], count: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    group = tmp_path / "cgroup"
    group.write_text("4:memory:/other\n0::/pod/box\n")
    monkeypatch.setattr(machine, "CONTROL_GROUP", group)
    monkeypatch.setattr(machine, "CONTROL_GROUPS", tmp_path)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(8)))
    for name, text in files.items():
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    assert processors() == count


@LINUX
def test_processors_are_those_that_a_process_may_run_on() -> None:
    words = [sys.executable, "-c", "import os; from controlmill.schemas.machine import processors as found\n"]
    words[-1] += "os.sched_setaffinity(0, {min(os.sched_getaffinity(0))}); print(found())"
    assert subprocess.run(words, capture_output=True, text=True, check=True).stdout == "1\n"
