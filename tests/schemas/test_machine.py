"""What a machine says of its processes."""

from __future__ import annotations

import os
import subprocess
import sys

from controlmill.schemas.machine import group_runs
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
