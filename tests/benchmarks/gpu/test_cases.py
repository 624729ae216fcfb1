"""A part keeps to its time and to what it has, and says what did not run; all code runs on a CPU at toy size."""

from __future__ import annotations

import gc
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from benchmarks.gpu import report, wheels
from benchmarks.gpu.__main__ import measure
from benchmarks.gpu.cases import Case, Setting, run_cases


def results(file: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(file.read_text())
    return found


def test_no_case_is_begun_after_the_time_and_each_is_listed(tmp_path: Path) -> None:
    now = [0.0]

    def slow() -> dict[str, Any]:
        now[0] += 6
        return {"speed": 1.0}

    def broken() -> dict[str, Any]:
        raise ValueError("no such layer")

    cases = [Case("a", slow), Case("b", broken), Case("c", slow), Case("d", slow)]
    run_cases(cases, tmp_path / "part.json", 10, {"device": "none"}, clock=lambda: now[0])
    found = results(tmp_path / "part.json")
    assert [row["case"] for row in found["rows"]] == ["a", "c"]
    assert found["not_run"] == {"b": "ValueError: no such layer", "d": "the time was up"}


def test_what_was_measured_before_a_kill_is_kept(tmp_path: Path) -> None:
    def kept() -> dict[str, Any]:
        return results(tmp_path / "part.json")  # as it is when the process dies in here

    run_cases([Case("a", dict), Case("b", kept), Case("c", dict)], tmp_path / "part.json", 10, {})
    at_b = results(tmp_path / "part.json")["rows"][1]
    assert [row["case"] for row in at_b["rows"]] == ["a"]
    assert list(at_b["not_run"]) == ["b", "c"]


def test_the_report_has_a_table_a_part_and_lists_what_did_not_run(tmp_path: Path) -> None:
    run_cases([Case("fast", lambda: {"speed": 2.5})], tmp_path / "jobs.json", 10, {"device": "toy"})
    text = report.write(tmp_path, ["jobs", "training"])
    assert "| fast | 2.5 |" in text
    assert "* training, training: there is no training.json: make gpu PART=training" in text
    assert results(tmp_path / report.MERGED)["jobs"]["rows"][0]["speed"] == 2.5


def test_a_part_names_what_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(wheels.PARTS, "jobs", {"no-such-package": "no_such_package", "torch": "torch"})
    assert wheels.missing("jobs") == ["no-such-package"]


def test_every_wheel_is_pinned_and_no_part_but_jobs_needs_beam() -> None:
    for part, names in wheels.PARTS.items():
        assert len(wheels.pinned(list(names))) == len(names)
        assert ("apache-beam" in names) == (part == "jobs")
        assert wheels.missing(part) == []


def run(*words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "benchmarks.gpu", *words], capture_output=True, text=True, check=False, timeout=300
    )


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_without_a_gpu_one_line_says_so(tmp_path: Path) -> None:
    ended = run("training", "--folder", str(tmp_path / "gpu"))
    assert ended.returncode == 1
    assert len(ended.stderr.splitlines()) == 1
    assert ended.stderr.startswith("training: there is no NVIDIA GPU here")
    assert not (tmp_path / "gpu").exists()


def test_a_part_is_killed_when_the_time_is_up_and_listed(tmp_path: Path) -> None:
    ended = run("jobs", "--device", "cpu", "--toy", "--minutes", "0.26", "--folder", str(tmp_path))
    assert ended.returncode == 0
    assert "the time is up" in ended.stdout
    assert "* jobs, " in ended.stdout


@pytest.mark.parametrize("part", wheels.PARTS)
def test_a_part_runs_on_a_cpu_at_toy_size(part: str, tmp_path: Path) -> None:
    (tmp_path / "scratch").mkdir()
    gc.collect()
    gc.freeze()  # each case looks for garbage, here among all that tests have imported
    measure(part, tmp_path, 600, Setting("cpu", tmp_path / "scratch", toy=True))
    found = results(tmp_path / f"{part}.json")
    assert found["not_run"] == {}
    assert found["rows"]
    assert f"## {part}" in report.write(tmp_path, [part])
    rows = {row["case"]: row for row in found["rows"]}
    for case, values in EXPECTED[part].items():
        assert rows[case].items() >= values.items()


EXPECTED: dict[str, dict[str, dict[str, Any]]] = {
    "annotators": {"hed fp32": {"largest_difference": 0.0, "batch": 2}},
    "training": {"exact resume, --deterministic": {"tensors_that_differ": 0}},
    "jobs": {
        "shards in flight, hed fp32": {"same_bytes": True},
        "out of memory": {"advice_given": True, "committed": 0, "smaller_batches_tried": 0},
    },
}


def test_idle_is_what_no_kernel_covers() -> None:
    training = pytest.importorskip("benchmarks.gpu.training")
    assert training.idle_share([(0, 4), (2, 5), (8, 10)]) == pytest.approx(0.3)
