"""Promises 1, 3 and 4: the same bytes from every engine, however often it was killed; nothing is lost."""

from __future__ import annotations

import contextlib
import json
import os
import random
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from controlmill.annotators.runtime.placement import Placement
from controlmill.pipelines import ingestion
from controlmill.pipelines.engine import process
from controlmill.pipelines.engine.messages import Engine
from controlmill.pipelines.engine.owners import GONE_SECONDS
from controlmill.schemas.dataset import Dataset
from controlmill.schemas.errors import MillError
from controlmill.schemas.views.verify import verify
from tests.helpers import FRAGILE, GREEN, RED, SMALL, command, command_in_new_process, digests, make, rows, write_photos

WORDS = ("--conditions", "canny,hough=lsd,cartoon=standard", "--resolution", "128", "--min-side", "16")
LIMITS = ("--max-megapixels", "1", "--shard-size", "4")


@pytest.mark.parametrize("workers", [1, 2])
def test_workers_make_the_same_bytes(photos: Path, dataset: Path, tmp_path: Path, workers: int) -> None:
    make(photos, tmp_path / "dataset", engine=Engine(workers=workers))
    assert digests(tmp_path / "dataset") == digests(dataset)


def test_another_working_directory_and_codec_threads_make_the_same_bytes(
    photos: Path, dataset: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTHONPATH", os.getcwd())
    relative = os.path.relpath(photos, tmp_path)
    done = command_in_new_process("build", relative, "here", *WORDS, *LIMITS, "--threads", "3", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert digests(tmp_path / "here") == digests(dataset)


@contextlib.contextmanager
def portable_services() -> Iterator[tuple[str, ...]]:
    """A job server and a pool of workers, which end with no job; Beam's options for them."""
    job_port, pool_port = free_port(), free_port()
    # the pool starts plain `python`
    env = {
        **os.environ,
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        "PYTHONPATH": os.getcwd(),
    }
    services = [
        subprocess.Popen([sys.executable, "-m", *words], env=env, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        for words in (
            ("apache_beam.runners.portability.local_job_service_main", f"--job_port={job_port}"),
            ("apache_beam.runners.worker.worker_pool_main", f"--service_port={pool_port}"),
        )
    ]
    try:
        for port in (job_port, pool_port):
            wait_for(port)
        yield (
            f"job_endpoint=localhost:{job_port}",
            "environment_type=EXTERNAL",
            f"environment_config=localhost:{pool_port}",
        )
    finally:
        for service in services:
            kill_tree(service.pid)


def test_the_portable_runner_with_an_external_worker_makes_the_same_bytes(
    photos: Path, dataset: Path, tmp_path: Path
) -> None:
    with portable_services() as options:
        make(photos, tmp_path / "dataset", engine=Engine("PortableRunner", options=options))
    assert digests(tmp_path / "dataset") == digests(dataset)


@pytest.mark.long
def test_workers_elsewhere_stop_where_the_machine_of_the_console_goes_down(tmp_path: Path) -> None:
    photos = write_photos(tmp_path / "photos", 1500)
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
        kill_tree(console.pid)  # all at once: nobody is left to tell the workers
        console.wait()
        died = time.monotonic()
        last, at = committed(), died
        while time.monotonic() - at < GONE_SECONDS[True] and time.monotonic() - died < 120:
            time.sleep(0.2)
            if committed() != last:
                last, at = committed(), time.monotonic()
        assert last < 375, "they did all of it"
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
            kill_tree(process.pid)
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


@pytest.mark.parametrize("workers", [0, 2])
def test_a_row_that_kills_its_process_is_refused_and_the_rest_goes_on(tmp_path: Path, workers: int) -> None:
    photos = write_photos(tmp_path / "photos", 10, poison={4: GREEN})
    place = Placement(batch_size=2)
    made = make(photos, tmp_path / "dataset", [FRAGILE], Engine(workers=workers), place=place)
    found = rows(tmp_path / "dataset", "cartoon")
    refused = [row for row in found if row["map"] is None]
    assert [(row["reason"], row["error"]) for row in refused] == [
        ("killed_worker", "its process died 2 times (signal 9)")
    ]
    assert not list(verify(made))
    # the other rows are what they are without the poison
    clean = write_photos(tmp_path / "clean", 10)
    make(clean, tmp_path / "undisturbed", [FRAGILE], place=place)
    others = {row["key"]: row["map"]["bytes"] for row in rows(tmp_path / "undisturbed", "cartoon")}
    assert all(row["map"]["bytes"] == others[row["key"]] for row in found if row["map"])
    assert len(found) == 10


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


def test_one_bad_row_in_a_batch_of_eight_is_one_null(tmp_path: Path) -> None:
    place = Placement(batch_size=8)
    make(
        write_photos(tmp_path / "photos", 8, poison={3: RED}),
        tmp_path / "dataset",
        [FRAGILE],
        place=place,
        shard_size=8,
    )
    make(write_photos(tmp_path / "clean", 8), tmp_path / "undisturbed", [FRAGILE], place=place, shard_size=8)
    found = rows(tmp_path / "dataset", "cartoon")
    refused = [row for row in found if row["map"] is None]
    assert [(row["reason"], row["error"]) for row in refused] == [("failed", "ValueError: a red picture")]
    others = {row["key"]: row["map"]["bytes"] for row in rows(tmp_path / "undisturbed", "cartoon")}
    assert sum(row["map"]["bytes"] == others[row["key"]] for row in found if row["map"]) == 7


def test_an_annotator_that_fails_on_every_row_stops_the_job(tmp_path: Path) -> None:
    photos = write_photos(tmp_path / "photos", 8, poison=dict.fromkeys(range(8), RED))
    with pytest.raises(MillError, match="the annotator is at fault: ValueError: a red picture"):
        make(photos, tmp_path / "dataset", [FRAGILE], place=Placement(batch_size=4), shard_size=8)
    assert not (tmp_path / "dataset" / "cartoon").exists()


def test_work_that_an_engine_loses_silently_is_an_error(
    photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(process.JobProcess, "run", lambda *_: 0)
    with pytest.raises(MillError, match="ended without an error, but 4 of 4 shards"):
        ingestion.ingest(str(photos), str(tmp_path / "dataset"), SMALL, process.Resources(), 4)


def test_work_that_is_lost_with_a_part_of_the_cluster_names_that_part(
    photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        place = f"127.0.0.1:{server.getsockname()[1]}"

        def lose(*_: object) -> int:
            server.close()
            return 0

        monkeypatch.setattr(process.JobProcess, "run", lose)
        resources = process.Resources(Engine("PortableRunner", options=(f"job_endpoint={place}",)))
        with pytest.raises(MillError, match=rf"(?s)ended without an error, .*\nthe job server at {place} cannot be"):
            ingestion.ingest(str(photos), str(tmp_path / "dataset"), SMALL, resources, 4)


def test_an_engine_that_fails_is_reported_in_its_own_words(photos: Path, tmp_path: Path) -> None:
    with pytest.raises(MillError, match="NoSuchRunner failed"):
        make(photos, tmp_path / "dataset", engine=Engine("NoSuchRunner"))


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


def free_port() -> int:
    with socket.socket() as free:
        free.bind(("localhost", 0))
        return int(free.getsockname()[1])


def wait_for(port: int) -> None:
    for _ in range(300):
        with socket.socket() as there:
            if there.connect_ex(("localhost", port)) == 0:
                return
        time.sleep(0.1)
    raise TimeoutError(port)


def kill_tree(pid: int) -> None:
    """kill -9 of a process and all that it started, at once."""
    try:
        family = [psutil.Process(pid), *psutil.Process(pid).children(recursive=True)]
    except psutil.NoSuchProcess:
        return
    for member in family:
        try:
            member.kill()
        except psutil.NoSuchProcess:
            continue
    psutil.wait_procs(family, timeout=10)
