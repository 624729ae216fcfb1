"""A job that is killed or stopped at any moment takes its processes along; run again it ends in the same bytes."""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from controlmill.pipelines.engine.owners import GONE_SECONDS
from controlmill.schemas.dataset import Dataset
from controlmill.schemas.views.verify import verify
from tests.helpers import LIMITS, WORDS, command, digests, make, write_photos
from tests.pipelines.engine.portable_services import portable_services
from tests.processes import kill_tree


@pytest.mark.long
def test_workers_elsewhere_stop_where_the_machine_of_the_console_goes_down(tmp_path: Path) -> None:
    photos = write_photos(tmp_path / "photos", 4000)
    words = [sys.executable, "-m", "controlmill", "build", str(photos), str(tmp_path / "dataset"), *WORDS, *LIMITS]

    def committed() -> int:
        return len(list(tmp_path.glob("dataset/images/*/*.parquet")))

    with portable_services() as options:
        for option in options:
            words += ["--beam-option", option]
        console = subprocess.Popen([*words, "--runner", "PortableRunner"], stderr=subprocess.DEVNULL)
        until = time.monotonic() + 120
        while committed() < 3 and time.monotonic() < until:
            time.sleep(0.05)
        kill_tree(console)  # all at once: nobody is left to tell the workers
        died = time.monotonic()
        last, at = committed(), died
        while time.monotonic() - at < GONE_SECONDS[True] and time.monotonic() - died < 120:
            time.sleep(0.2)
            if committed() != last:
                last, at = committed(), time.monotonic()
        assert last < 1000, "they did all of it"
        assert at - died < GONE_SECONDS[True] + 15
        (left,) = (tmp_path / "dataset/_run").iterdir()
        assert "gave no sign of life" in (left / "stop.json").read_text()


def test_killed_at_random_and_run_again_ends_in_the_same_bytes(tmp_path: Path) -> None:
    draw = random.Random(20261122)
    photos = write_photos(tmp_path / "photos", 160)
    words = [sys.executable, "-m", "controlmill", "build", str(photos), str(tmp_path / "dataset"), *WORDS, *LIMITS]
    kills = 0
    for _ in range(30):
        before = len(list(tmp_path.glob("dataset/*/0000/*.parquet")))
        process = subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
        if draw.random() < 0.8:  # else in its first second, wherever that is
            while process.poll() is None and len(list(tmp_path.glob("dataset/*/0000/*.parquet"))) == before:
                time.sleep(0.01)
        try:
            process.wait(draw.uniform(0.0, 1.0))
            assert process.stderr
            assert process.returncode == 0, process.stderr.read()
            break
        except subprocess.TimeoutExpired:
            kill_tree(process)
            kills += 1
    else:
        pytest.fail("never came to an end")
    assert kills >= 3
    make(photos, tmp_path / "undisturbed")
    assert digests(tmp_path / "dataset") == digests(tmp_path / "undisturbed")
    assert not list(verify(Dataset.open(tmp_path / "dataset")))
    assert not (tmp_path / "dataset" / "_run").exists()


CUT = """
import os, sys
from controlmill.__main__ import main
step, after, *words = sys.argv[1:]
left, replace = [int(step)], os.replace
def cut(*names):
    if "/_run/" in str(names[1]):  # decides nothing, and costs a build a step
        return replace(*names)
    if after == "after":
        replace(*names)
    left[0] -= 1
    if left[0] < 0:
        os._exit(9)
    if after == "before":
        replace(*names)
os.replace, sys.argv = cut, ["controlmill", *words]
main()
"""


def test_a_console_killed_at_any_small_write_leaves_nothing_that_a_rerun_does_not_mend(tmp_path: Path) -> None:
    photos = write_photos(tmp_path / "photos", 3)
    words = ["build", str(photos), "", "--conditions", "canny", *WORDS[2:], *LIMITS]
    words[2] = str(tmp_path / "undisturbed")
    assert command(*words).returncode == 0
    wanted = digests(tmp_path / "undisturbed")
    ended = 0
    for step in range(30):
        words[2] = str(tmp_path / f"cut{step}")
        cut = [sys.executable, "-c", CUT, str(step), ("before", "after")[step % 2], *words]
        ended = subprocess.run(cut, capture_output=True, check=False).returncode
        if ended == 0:
            break
        again = command(*words)
        assert again.returncode == 0, again.stderr
        assert digests(tmp_path / f"cut{step}") == wanted, step
    assert ended == 0
    assert step > 6


def test_a_run_killed_after_its_last_commit_leaves_no_folder_behind(
    dataset: Path, photos: Path, tmp_path: Path
) -> None:
    shutil.copytree(dataset, tmp_path / "dataset")
    dead = subprocess.Popen([sys.executable, "-c", ""])
    dead.wait()
    (tmp_path / "dataset/_run/dead").mkdir(parents=True)
    owner = {"host": socket.gethostname(), "pid": dead.pid}
    (tmp_path / "dataset/_run/dead/owner.json").write_text(json.dumps(owner))
    make(photos, tmp_path / "dataset")
    assert not (tmp_path / "dataset/_run").exists()


def test_a_killed_console_takes_its_job_along(photos: Path, tmp_path: Path) -> None:
    words = [sys.executable, "-m", "controlmill", "build", str(photos), str(tmp_path / "dataset"), *WORDS]
    process = subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    family: list[psutil.Process] = []
    for _ in range(200):
        time.sleep(0.05)
        family = psutil.Process(process.pid).children(recursive=True)
        if family:
            break
    assert family
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    _, alive = psutil.wait_procs(family, timeout=20)
    assert not alive


def test_ctrl_c_stops_and_says_how_to_go_on(tmp_path: Path) -> None:
    photos = write_photos(tmp_path / "photos", 200)  # more than is done before a slow machine sends the signal
    words = [
        sys.executable,
        "-m",
        "controlmill",
        "build",
        str(photos),
        str(tmp_path / "dataset"),
        *WORDS,
        "--shard-size",
        "2",
    ]
    process = subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    while not list(tmp_path.glob("dataset/images/*/*.parquet")):
        assert process.poll() is None, "it ended before its first commit"
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "run the same command again to go on" in said
    assert "Traceback" not in said
    assert command(*words[3:]).returncode == 0
    assert not list(verify(Dataset.open(tmp_path / "dataset")))


def test_a_worker_killed_in_mid_shard_loses_nothing(photos: Path, dataset: Path, tmp_path: Path) -> None:
    words = [sys.executable, "-m", "controlmill", "build", str(photos), str(tmp_path / "dataset"), *WORDS, *LIMITS]
    process = subprocess.Popen([*words, "--workers", "2"], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    killed = 0
    while process.poll() is None and killed < 2:
        attempts = list(tmp_path.glob("dataset/_run/*/attempts/*"))
        workers = dask_workers(process.pid)
        if attempts and workers:
            workers[0].kill()
            killed += 1
            time.sleep(1)
        time.sleep(0.01)
    _, said = process.communicate(timeout=120)
    assert process.returncode == 0, said
    assert killed
    assert digests(tmp_path / "dataset") == digests(dataset)


def dask_workers(pid: int) -> list[psutil.Process]:
    """The worker processes of a job's cluster."""
    found = []
    for child in psutil.Process(pid).children(recursive=True):
        try:
            if any("spawn_main" in word for word in child.cmdline()):
                found.append(child)
        except psutil.Error:  # it has just ended
            continue
    return found
