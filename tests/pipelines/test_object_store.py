"""Jobs on an object store: a server of S3's protocol on this machine, for the pictures and for the dataset."""

from __future__ import annotations

import hashlib
import io
import logging
import re
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from controlmill.annotators.catalogue import parse_conditions
from controlmill.annotators.runtime.placement import Placement
from controlmill.pipelines import annotation, growing, ingestion, planning
from controlmill.pipelines.corpora.kinds import open_corpus
from controlmill.schemas.dataset import Dataset
from controlmill.schemas.files.storage import Storage
from controlmill.schemas.views.verify import verify
from tests.helpers import SMALL, KeptResources, command, scene

REQUEST = re.compile(r"(GET|HEAD|PUT|POST|DELETE) (\S+) HTTP")
COLOURS = re.compile(r"\x1b\[\d+m")
WORDS = ("--conditions", "canny", "--shard-size", "2", "--resolution", "128", "--min-side", "16")
WORDS = (*WORDS, "--max-megapixels", "1")


class Bucket(logging.Handler):
    """A bucket, and the requests that its server was sent: (method, what for)."""

    def __init__(self) -> None:
        super().__init__()
        self.files: Any = None
        self.requests: list[tuple[str, str]] = []

    def emit(self, record: logging.LogRecord) -> None:
        found = REQUEST.search(COLOURS.sub("", record.getMessage()))
        if found:
            self.requests.append((found[1], found[2]))

    def counts(self, since: int) -> Counter[str]:
        """Requests by method; those that list a folder are ``LIST``."""
        return Counter("LIST" if "list-type" in path else method for method, path in self.requests[since:])

    def put(self, folder: str, count: int) -> str:
        """Pictures in a folder of the bucket; its address."""
        for number in range(count):
            data = io.BytesIO()
            scene(number).save(data, "png")
            self.files.pipe_file(f"bucket/{folder}/{number:03d}.png", data.getvalue())
        return f"s3://bucket/{folder}"

    def digests(self, folder: str) -> dict[str, str]:
        """sha256 of every file below a folder."""
        self.files.invalidate_cache()
        names = self.files.find(f"bucket/{folder}")
        return {name.split("/", 2)[2]: hashlib.sha256(self.files.cat_file(name)).hexdigest() for name in names}


@pytest.fixture(scope="module")
def bucket() -> Iterator[Bucket]:
    import s3fs
    from moto.server import ThreadedMotoServer

    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    made, log = Bucket(), logging.getLogger("werkzeug")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("AWS_ENDPOINT_URL", f"http://{host}:{port}")
        patch.setenv("AWS_ACCESS_KEY_ID", "test")
        patch.setenv("AWS_SECRET_ACCESS_KEY", "test")
        patch.setenv("AWS_DEFAULT_REGION", "us-east-1")
        patch.setattr(log, "handlers", [made])
        patch.setattr(log, "propagate", False)
        patch.setattr(log, "level", logging.INFO)
        s3fs.S3FileSystem.clear_instance_cache()
        KeptResources.end()  # its process has another environment
        made.files = s3fs.S3FileSystem()
        made.files.mkdir("bucket")
        yield made
        KeptResources.end()
        s3fs.S3FileSystem.clear_instance_cache()
    server.stop()


@pytest.mark.parametrize("length", [1_000, pytest.param(60_000_000, marks=pytest.mark.long)])  # whole, and in parts
def test_of_two_writers_of_a_file_the_first_is_kept_whole(bucket: Bucket, length: int) -> None:
    storage, name = Storage(f"s3://bucket/two-writers-{length}"), "images/0000/00000000.parquet"
    storage.write_json("dataset.json", {})
    ready, committed = threading.Barrier(2), {}

    def commit(data: bytes) -> None:
        with storage.scratch("run") as scratch:
            scratch.write_bytes(data)
            ready.wait()
            committed[data] = storage.commit(scratch, name)

    writers = [threading.Thread(target=commit, args=(letter * length,)) for letter in (b"a", b"b")]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
    assert sorted(committed.values()) == [False, True]
    assert committed[storage.read(name)]
    assert storage.has_file(name)
    assert not storage.has_file("images/0000/00000001.parquet")


def build(photos: str, dataset: str) -> Dataset:
    plan = planning.plan_conditions(parse_conditions("canny"), planning.everywhere(Placement()), None)
    with KeptResources(threads=1) as resources:
        ingestion.ingest(photos, dataset, SMALL, resources, 2)
        return annotation.annotate(dataset, plan, resources)


@pytest.mark.long
def test_a_dataset_on_a_store_has_the_tables_of_one_in_a_folder(
    bucket: Bucket, small_base: Path, tmp_path: Path
) -> None:
    from controlmill.training.data.selection import select

    photos = bucket.put("photos", 6)
    made = build(photos, "s3://bucket/dataset")
    assert not list(verify(made))
    bucket.files.get("bucket/photos", str(tmp_path / "photos"), recursive=True)
    local = build(str(tmp_path / "photos"), str(tmp_path / "dataset"))
    for table in ("images", "rejected", "canny"):
        there, here = made.index(table), local.index(table)
        assert there and here
        assert there.digests == here.digests
    assert len(select(made, ["canny"], held_out=0.2).train) == len(select(local, ["canny"], held_out=0.2).train)
    words = ("train", "s3://bucket/dataset", tmp_path / "run", "--condition", "canny", "--base", small_base)
    limits = ("--steps", "2", "--batch-size", "2", "--held-out", "0", "--evaluation-samples", "0", "--device", "cpu")
    done = command(*map(str, (*words, *limits)))
    assert done.returncode == 0, done.stderr
    bucket.put("photos", 9)
    corpora = [open_corpus("s3://bucket/photos")]
    with KeptResources(threads=1) as resources:
        growth = growing.extend("s3://bucket/dataset", corpora, resources, SMALL, 2)
    assert [(segment.rows, segment.passed_over) for segment in growth.segments] == [(3, {"known": 6})]


@pytest.mark.long
def test_a_table_of_a_shard_costs_six_reads_and_two_writes_beyond_its_bytes(
    bucket: Bucket, capsys: pytest.CaptureFixture[str]
) -> None:
    figures = {}
    for count in (4, 16):
        photos = bucket.put(f"photos-{count}", count)
        plan = planning.plan_conditions(parse_conditions("canny"), planning.everywhere(Placement()), None)
        with KeptResources(threads=1) as resources:
            begun = len(bucket.requests)
            ingestion.ingest(photos, f"s3://bucket/counted-{count}", SMALL, resources, 2)
            ingested = len(bucket.requests)
            annotation.annotate(f"s3://bucket/counted-{count}", plan, resources)
        figures[count] = (bucket.counts(begun) - bucket.counts(ingested), bucket.counts(ingested))
    shards, pictures = 6, 12
    for job, tables, own_bytes in ((0, 2, pictures / shards + 3), (1, 1, 2)):
        more = figures[16][job].copy()
        more.subtract(figures[4][job])
        each = {method: more[method] / shards / tables for method in sorted(more)}
        with capsys.disabled():
            print(f"\n{('ingest', 'annotate')[job]}, requests for each table and shard: {each}")
        reads = each["GET"] + each["HEAD"] + each["LIST"] - own_bytes / tables
        assert reads <= 6
        assert each["PUT"] + each["POST"] <= 2


@pytest.mark.long
def test_a_job_on_a_store_that_is_killed_and_run_again_ends_in_the_same_bytes(bucket: Bucket) -> None:
    photos = bucket.put("killed-photos", 12)
    build_words = [sys.executable, "-m", "controlmill", "build", photos]
    subprocess.run([*build_words, "s3://bucket/undisturbed", *WORDS], check=True, capture_output=True)
    for table in ("sources", "images", "canny"):
        process = subprocess.Popen([*build_words, "s3://bucket/killed", *WORDS], stderr=subprocess.DEVNULL)
        while process.poll() is None and not bucket.files.glob(f"bucket/killed/{table}/0000/*.parquet", refresh=True):
            time.sleep(0.02)
            bucket.files.invalidate_cache()
        for member in [*psutil.Process(process.pid).children(recursive=True), process]:
            member.kill()
        process.wait()
    subprocess.run([*build_words, "s3://bucket/killed", *WORDS], check=True, capture_output=True)
    assert bucket.digests("killed") == bucket.digests("undisturbed")
