"""A run tells its rate, its total and the time to go, at once and then sparsely."""

from __future__ import annotations

import io
import re
from pathlib import Path

import pytest
from rich.console import Console

from controlmill.schemas.terminal.console import Output
from controlmill.training.run import progress
from controlmill.training.run.progress import StepProgress


@pytest.fixture
def out() -> Output:
    made = Output()
    made.console = Console(file=io.StringIO(), width=200)
    return made


def test_the_first_step_tells_the_time_to_go(out: Output) -> None:
    StepProgress(100, 1100, out).step(101, 0.25, 1e-5, 2.0)
    said = out.console.file.getvalue()
    assert said == "step 101/1,100: loss 0.2500, 0.50 steps/s, rate 1.00e-05, 0:33:18 left\n"


def test_lines_are_sparse_and_the_last_step_is_told(out: Output, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = [0.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: clock[0])
    steps = StepProgress(0, 20_000, out)
    for step in range(1, 20_001):
        clock[0] += 1.0 if step % 100 else 21.0  # an evaluation now and then
        steps.step(step, 0.5, 1e-5, 1.0)
    lines = out.console.file.getvalue().splitlines()
    assert 300 < len(lines) < 450  # one each minute of six hours
    assert lines[-1].startswith("step 20,000/20,000:")
    assert lines[-1].endswith("0:00:00 left")
    halfway = next(line for line in lines if int(line[5:].split("/")[0].replace(",", "")) >= 10_000)
    left = [int(part) for part in re.search(r"(\d+):(\d+):(\d+) left", halfway).groups()]
    assert left[0] * 3600 + left[1] * 60 + left[2] == pytest.approx(
        12_000, rel=0.01
    )  # with the evaluations that will come


def test_a_terminal_gets_one_line_that_is_rewritten(tmp_path: Path) -> None:
    out = Output()
    out.begin(quiet=False, log_file=tmp_path / "log.txt")
    out.console = Console(file=io.StringIO(), width=100, force_terminal=True)
    steps = StepProgress(0, 50, out)
    for step in range(1, 51):
        steps.step(step, 0.5, 1e-5, 0.01)
    steps.say("an evaluation")
    steps.close()
    shown = out.console.file.getvalue()
    assert "an evaluation" in shown
    assert shown.count("\n") < 5
    assert "50/50" in shown
    logged = (tmp_path / "log.txt").read_text().splitlines()
    assert len(logged) == 3  # the first step, the last one, and what was said
    assert all(re.match(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d[+-]\d\d:\d\d ", line) for line in logged)
