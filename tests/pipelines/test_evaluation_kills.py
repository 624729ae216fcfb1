"""Evaluations that are killed, or shared by workers: the bytes of one that was left alone."""

from __future__ import annotations

import random
import subprocess
import time
from pathlib import Path

import pytest

from controlmill.schemas.dataset import Dataset
from controlmill.schemas.views.verify import verify
from tests.helpers import command_in_new_process, digests
from tests.pipelines.engine.test_kills import kill, start

KILLS = 10
PROTOCOL = """
title = "short"
source = "none"
measures = ["maps"]
prompts = ["none", "user"]
pictures_per_row = 2
[sampling]
steps = 3
"""


@pytest.fixture
def words(trained_once: Path, scenes_folder: Path, tmp_path: Path) -> list[str]:
    """An evaluation of all rows that a run held out, without the folder of its results."""
    protocol = tmp_path / "short.toml"
    protocol.write_text(PROTOCOL)
    options = ["--protocol", str(protocol), "--device", "cpu", "--batch-size", "4"]
    return ["evaluate", *options, str(trained_once), str(scenes_folder)]


@pytest.mark.long
def test_an_evaluation_killed_at_any_instant_ends_in_the_same_bytes(words: list[str], tmp_path: Path) -> None:
    whole, killed, log = tmp_path / "whole", tmp_path / "killed", tmp_path / "log"
    began = time.monotonic()
    ended = command_in_new_process(*words, str(whole))
    assert ended.returncode == 0, ended.stderr
    took, draw, kills = time.monotonic() - began, random.Random(3), 0
    while kills < KILLS:
        process = start([*words, str(killed)], log)
        try:
            assert process.wait(draw.uniform(0.3, 1) * took) == 0, log.read_text()
            for path in sorted(killed.rglob("*"), reverse=True):  # it came to its end: begin anew
                path.unlink() if path.is_file() else path.rmdir()
        except subprocess.TimeoutExpired:
            kill(process)
            kills += 1
    ended = command_in_new_process(*words, str(killed))
    assert ended.returncode == 0, ended.stderr
    assert digests(killed) == digests(whole)
    assert list(verify(Dataset.open(killed))) == []


@pytest.mark.long
def test_two_workers_make_the_bytes_of_one(words: list[str], tmp_path: Path) -> None:
    for results, options in ((tmp_path / "one", []), (tmp_path / "two", ["--workers", "2"])):
        ended = command_in_new_process(*words, str(results), *options)
        assert ended.returncode == 0, ended.stderr
    assert digests(tmp_path / "one") == digests(tmp_path / "two")
