"""Beam's Prism, which starts worker processes of ours: the bytes of any other engine."""

from __future__ import annotations

import json
import os
import subprocess
import time
from pathlib import Path

import pytest

from tests.helpers import command, digests, write_photos
from tests.pipelines.engine.engines import CACHE, fetched, pinned, worker_on_path
from tests.processes import free_port

MODULE = "github.com/apache/beam/sdks/v2@v2.77.0"
SECONDS = 120


def prism() -> Path:
    """The program; it is built once."""
    folder = CACHE / "prism-2.77.0"
    if not (folder / "prism").exists():
        folder.mkdir(parents=True, exist_ok=True)
        environment = {**os.environ, "GOFLAGS": "-mod=mod", "GOBIN": str(folder)}
        said = fetched(["go", "mod", "download", "-json", MODULE], env=environment, cwd=folder)
        assert json.loads(said)["Sum"] == pinned(MODULE)
        module, _, version = MODULE.partition("@")
        fetched(["go", "install", f"{module}/go/cmd/prism@{version}"], env=environment, cwd=folder)
    return folder / "prism"


@pytest.mark.long
def test_prism_makes_the_same_bytes(tmp_path: Path) -> None:
    """It puts its worker's name in quotes, and runs several shards at once in one process."""
    photos = write_photos(tmp_path / "photos", 24)
    words = ["--conditions", "canny,hough=lsd,cartoon=standard", "--shard-size", "4", "--min-side", "16"]
    words += ["--resolution", "128", "--threads", "1"]
    alone, dataset = tmp_path / "alone" / "dataset", tmp_path / "prism" / "dataset"
    assert command("build", str(photos), str(alone), *words).returncode == 0
    program = Path(worker_on_path(tmp_path)["PATH"].split(os.pathsep)[0], "controlmill-worker")
    port, web, log = free_port(), free_port(), tmp_path / "log"
    with log.open("wb") as file:
        server = subprocess.Popen(
            [prism(), f"--job_port={port}", f"--web_port={web}"], stdout=file, stderr=file, cwd=tmp_path
        )
    try:
        wait_for(port, log)
        config = json.dumps({"command": str(program)})
        options = (f"job_endpoint=127.0.0.1:{port}", "environment_type=PROCESS", f"environment_config={config}")
        words += [word for option in options for word in ("--beam-option", option)]
        done = command("build", str(photos), str(dataset), *words, "--runner", "PortableRunner")
    finally:
        server.kill()
        server.wait()
    assert done.returncode == 0, done.stderr + log.read_text()
    assert digests(dataset) == digests(alone)


def wait_for(port: int, log: Path) -> None:
    """Wait until something takes jobs at a port."""
    from controlmill.pipelines.engine.job_server import takes_jobs

    until = time.monotonic() + SECONDS
    while not takes_jobs(f"127.0.0.1:{port}"):
        assert time.monotonic() < until, log.read_text()
        time.sleep(0.2)
