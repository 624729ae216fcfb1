"""A real Spark: the bytes of any other engine, also where a part of it dies."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.helpers import digests, write_photos
from tests.pipelines.engine.engines import worker_on_path
from tests.pipelines.engine.spark_cluster import SparkCluster, spark_job_server

WORDS = ("--conditions", "canny,hough=lsd,cartoon=standard", "--shard-size", "2", "--resolution", "256")
SECONDS = 240


@pytest.mark.long
def test_spark_makes_the_same_bytes_after_an_executor_was_killed(tmp_path: Path) -> None:
    photos = write_photos(tmp_path / "photos", 60)
    alone, dataset = tmp_path / "alone" / "dataset", tmp_path / "spark" / "dataset"
    build = [sys.executable, "-m", "controlmill", "build", str(photos)]
    subprocess.run([*build, str(alone), *WORDS, "--min-side", "16"], check=True, capture_output=True)
    jar, staged = spark_job_server(tmp_path)
    with SparkCluster(tmp_path / "cluster", cores=2, environment=worker_on_path(tmp_path)) as cluster:
        words = ["--cluster", cluster.address, "--cluster-page", cluster.page, "--job-server-jar", str(jar)]
        words += ["--beam-option", f"files_to_stage={staged}"]
        log = tmp_path / "log"
        with log.open("wb") as file:
            job = subprocess.Popen(
                [*build, str(dataset), *WORDS, "--min-side", "16", *words],
                stdout=file,
                stderr=file,
                env=cluster.environment,
            )
        try:
            until = time.monotonic() + SECONDS
            while len(list((dataset / "canny").rglob("*.parquet"))) < 3:
                assert job.poll() is None, log.read_text()
                assert time.monotonic() < until, log.read_text()
                time.sleep(0.05)
            before = cluster.executors()
            before[0].kill()
            assert job.wait(SECONDS) == 0, log.read_text()
        finally:
            job.terminate()
            job.wait()
        assert len(before) == 2
    assert digests(dataset) == digests(alone)
