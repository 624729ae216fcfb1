"""Kills at random instants, of every job that makes or remakes a table: the files of an undisturbed run in the end."""

from __future__ import annotations

import os
import random
import shutil
import subprocess
import time
from pathlib import Path

import pytest

from controlmill.schemas import redo
from controlmill.schemas.dataset import Dataset
from controlmill.schemas.views.verify import verify
from tests.helpers import digests, scene, write_photos
from tests.processes import kill_tree, start_command

KILLS = 60
MOST_OF_A_JOB = 4  # then it may end


def jobs_of(photos: Path, dataset: Path, more: Path) -> list[list[str]]:
    """Build, encode, a table redone in another way, everything redone at another size; and it grows."""
    build = ["build", str(photos), str(dataset), "--conditions", "canny,hough=lsd,cartoon=standard"]
    build += ["--shard-size", "4", "--min-side", "16", "--resolution"]
    return [
        [*build, "128"],
        ["encode", str(dataset), "--base", "tiny", "--text"],
        ["annotate", str(dataset), "--conditions", "canny=100:200", "--overwrite", "canny"],
        [*build, "96", "--overwrite", "images,canny,hough,cartoon"],
        ["extend", str(dataset), str(more), str(photos), "--shard-size", "2"],
        ["retry", str(dataset)],
        ["annotate", str(dataset)],
    ]


def arrange(words: list[str], more: Path) -> None:
    """Before an extend a picture is broken, before a retry it is whole."""
    broken = more / "broken.png"
    if words[0] == "extend":
        broken.write_bytes(b"no picture")
    elif words[0] == "retry":
        scene(99).save(broken)
    if broken.exists():
        os.utime(broken, ns=(0, 0) if words[0] == "extend" else (1, 1))  # a time is in the listing


@pytest.mark.long
def test_jobs_killed_at_any_instant_end_in_the_same_bytes(tmp_path: Path) -> None:
    draw = random.Random(9)
    photos, dataset, log = write_photos(tmp_path / "photos", 24), tmp_path / "dataset", tmp_path / "log"
    more = write_photos(tmp_path / "more", 7)
    jobs = jobs_of(photos, dataset, more)
    wanted, seconds = [], []
    for words in jobs:
        arrange(words, more)
        began = time.monotonic()
        assert start_command(words, log).wait() == 0, log.read_text()
        wanted.append(digests(dataset))
        seconds.append(time.monotonic() - began)
    kills = 0
    while kills < KILLS:
        shutil.rmtree(dataset)
        for words, files, took in zip(jobs, wanted, seconds, strict=True):
            arrange(words, more)
            for left in range(MOST_OF_A_JOB, -1, -1):
                process = start_command(words, log)
                if left and kills < KILLS:
                    try:
                        process.wait(draw.uniform(0, took))
                    except subprocess.TimeoutExpired:
                        kill_tree(process)
                        kills += 1
                        look_in_between(dataset, words)
                        continue
                assert process.wait() == 0, log.read_text()
                break
            assert digests(dataset) == files
            found = [fault.found for fault in verify(Dataset.open(dataset))]
            assert not [text for text in found if "stale" not in text and "behind" not in text]


def look_in_between(dataset: Path, words: list[str]) -> None:
    """What is redone is there, old or new, unless just the switch was cut off."""
    if "--overwrite" in words and not redo.cut_switches(Dataset.open(dataset).storage):
        opened = Dataset.open(dataset)
        assert opened.state("images").status == "complete"
        assert {opened.state(table).status for table in ("canny", "hough", "cartoon")} <= {"complete", "stale"}
