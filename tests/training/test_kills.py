"""A trial of minutes: runs killed at random instants, and gone on with, end in the bits of one that nobody stopped."""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from controlmill.training.run.saved import steps_saved
from tests.training.run.test_resume import assert_equal

KILLS, STEPS, SECONDS = 20, 12, 0.02
EVALUATED = {
    "held-out": 0.1,
    "evaluate-every": 2,
    "evaluation-rows": 2,
    "evaluation-samples": 1,
    "sampling-steps": 2,
    "evaluation-budget": 0,
}
RUN = {
    "condition": "canny",
    "recipe": "toy",
    "steps": STEPS,
    "batch-size": 4,
    "checkpoint-every": 2,
    "keep-checkpoints": 2,
}
SETTINGS = {
    "an average and caches": {"ema-decay": 0.9},
    "an unlocked decoder": {"unlock": "decoder", "caches": "off"},
}


def command(*arguments: Any) -> subprocess.Popen:
    words = [sys.executable, "-m", "controlmill", *map(str, arguments)]
    env = {**os.environ, "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(words, stderr=subprocess.DEVNULL, start_new_session=True, env=env)


@pytest.fixture(scope="module")
def with_caches(scenes_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The dataset with caches of the tiny base."""
    folder = tmp_path_factory.mktemp("kills") / "dataset"
    shutil.copytree(scenes_folder, folder)
    assert command("encode", folder, "--base", "tiny", "--text").wait() == 0
    return folder


def lines(run: Path) -> list[dict]:
    """The whole lines of a log that may be being written, without its times."""
    path = run / "metrics.jsonl"
    found = [line for line in path.read_text().splitlines() if line.endswith("}")] if path.exists() else []
    return [{name: value for name, value in json.loads(line).items() if name != "seconds"} for line in found]


def when(rng: random.Random, run: Path) -> Callable[[], bool]:
    """An instant to kill at: after some lines of the log, while a checkpoint is written, or anywhere."""
    kind = rng.choice(["line", "line", "checkpoint", "start"])
    if kind == "start":
        end = time.monotonic() + rng.uniform(0.5, 15)
        return lambda: time.monotonic() > end
    if kind == "checkpoint":
        return lambda: any((run / "checkpoints").glob("*.partial"))
    seen: list[int] = []
    after = rng.randrange(1, 6)

    def enough() -> bool:
        seen.append(len(lines(run)))
        return seen[-1] >= min(seen) + after

    return enough


def killed(process: subprocess.Popen, due: Callable[[], bool], rng: random.Random) -> bool:
    """Wait for the instant, or for the end; whether it was killed."""
    while process.poll() is None and not due():
        time.sleep(SECONDS)
    time.sleep(rng.choice([0, rng.uniform(0, 0.4)]))
    if process.poll() is not None:
        return False
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    return True


def weights(run: Path) -> dict[str, dict[str, torch.Tensor]]:
    folder = run / "checkpoints" / f"{STEPS:08d}"
    return {str(path.relative_to(folder)): load_file(path) for path in sorted(folder.rglob("*.safetensors"))}


@pytest.mark.long
@pytest.mark.timeout(7200)
@pytest.mark.parametrize("setting", SETTINGS)
def test_twenty_random_kills_change_no_bit(setting: str, with_caches: Path, tmp_path: Path) -> None:
    rng, kills = random.Random(setting), 0
    flags = {**RUN, **EVALUATED, **SETTINGS[setting], "device": "cpu", "loader-workers": 2}
    arguments = [f"--{name}={value}" for name, value in flags.items()]
    whole, run = tmp_path / "whole", tmp_path / "run"
    assert command("train", with_caches, whole, *arguments).wait() == 0
    while kills < KILLS:
        shutil.rmtree(run, ignore_errors=True)
        while not steps_saved(run) or steps_saved(run)[-1] < STEPS:
            more = ["--resume", "--loader-workers", rng.choice([0, 2])] if steps_saved(run) else arguments
            process = command("train", with_caches, run, *more)
            if kills < KILLS and killed(process, when(rng, run), rng):
                kills += 1
            else:
                assert process.wait() == 0
        if lines(run) != lines(whole):  # its last evaluation was cut off
            assert command("train", with_caches, run, "--resume").wait() == 0
        assert_equal(weights(run), weights(whole))
        assert lines(run) == lines(whole)
        assert not [*run.rglob("*~"), *run.rglob("*.partial")]
        print(f"{setting}: {kills} kills, no difference", flush=True)
