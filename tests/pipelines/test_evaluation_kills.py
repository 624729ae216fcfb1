"""Evaluations that are killed, or shared by workers: the bytes of one that was left alone."""

from __future__ import annotations

import random
import shutil
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image

from controlmill.schemas.dataset import Dataset
from controlmill.schemas.images.codecs import decode_image
from controlmill.schemas.views.verify import verify
from tests.evaluation.features import random_weights
from tests.helpers import command_in_new_process, digests, rows
from tests.processes import kill_tree, start_command

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


@pytest.fixture
def features(scenes_folder: Path, tmp_path: Path) -> Callable[[Path], list[str]]:
    """An evaluation of pictures by their features alone, which makes tables of the source and of the results."""
    weights, protocol = tmp_path / "weights", tmp_path / "features.toml"
    weights.mkdir()
    random_weights.write_clip(weights)
    random_weights.write_lpips(weights)
    measures = '["cmmd", "clip_score", "lpips"]'
    protocol.write_text(PROTOCOL.replace('["maps"]', measures).replace('["none", "user"]', '["user"]'))
    for row in rows(scenes_folder, "images"):
        picture = decode_image(row["image"]["bytes"])
        for number in range(2):
            path = tmp_path / "theirs" / f"{row['source'].rpartition('.')[0]}_{number}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(picture[:, :: 1 - 2 * number]).save(path)
    options = ["--protocol", str(protocol), "--weights", str(weights), "--device", "cpu", "--condition", "canny"]

    def words(folder: Path) -> list[str]:
        shutil.copytree(scenes_folder, folder / "source")
        given = ["--pictures", str(tmp_path / "theirs"), str(folder / "source"), str(folder / "results")]
        return ["evaluate", *options, *given]

    return words


def kill_often(words: list[str], folder: Path, renew: Callable[[], object], took: float, seed: int) -> None:
    """Kill a job at ``KILLS`` instants and let it go on each time, then to its end."""
    draw, kills, log = random.Random(seed), 0, folder.parent / "log"
    while kills < KILLS:
        process = start_command(words, log)
        try:
            assert process.wait(draw.uniform(0.3, 1) * took) == 0, log.read_text()
            shutil.rmtree(folder)  # it came to its end: begin anew
            renew()
        except subprocess.TimeoutExpired:
            kill_tree(process)
            kills += 1
    ended = command_in_new_process(*words)
    assert ended.returncode == 0, ended.stderr


def seconds_of(words: list[str]) -> float:
    """Run a command to its end; how long it took."""
    began = time.monotonic()
    ended = command_in_new_process(*words)
    assert ended.returncode == 0, ended.stderr
    return time.monotonic() - began


@pytest.mark.long
def test_an_evaluation_killed_at_any_instant_ends_in_the_same_bytes(words: list[str], tmp_path: Path) -> None:
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    took = seconds_of([*words, str(whole)])
    kill_often([*words, str(killed)], killed, lambda: None, took, seed=3)
    assert digests(killed) == digests(whole)
    assert list(verify(Dataset.open(killed))) == []


@pytest.mark.long
@pytest.mark.timeout(1800)
def test_features_killed_at_any_instant_end_in_the_same_bytes(
    features: Callable[[Path], list[str]], tmp_path: Path
) -> None:
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    took = seconds_of(features(whole))
    kill_often(features(killed), killed, lambda: features(killed), took, seed=4)
    for name in ("source", "results"):
        made, expected = ({**digests(folder / name), "_local.json": ""} for folder in (killed, whole))
        assert made == expected  # what is of this machine says where the source is
        assert list(verify(Dataset.open(killed / name))) == []
    assert {"clip_336", "clip_text"} <= set(Dataset.open(killed / "source").tables())
    assert {"clip", "clip_336", "lpips"} <= set(Dataset.open(killed / "results").tables())


@pytest.mark.long
def test_two_workers_make_the_bytes_of_one(words: list[str], tmp_path: Path) -> None:
    for results, options in ((tmp_path / "one", []), (tmp_path / "two", ["--workers", "2"])):
        ended = command_in_new_process(*words, str(results), *options)
        assert ended.returncode == 0, ended.stderr
    assert digests(tmp_path / "one") == digests(tmp_path / "two")
