"""Jobs on an object store: a server of S3's protocol on this machine, for the pictures and for the dataset."""

from __future__ import annotations

import re
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from controlmill.annotators.catalogue import parse_conditions
from controlmill.annotators.runtime.placement import Placement
from controlmill.pipelines import annotation, growing, ingestion, planning
from controlmill.pipelines.corpora.kinds import open_corpus
from controlmill.schemas.dataset import Dataset
from controlmill.schemas.files.addresses import open_storage
from controlmill.schemas.views.verify import verify
from tests.helpers import SMALL, KeptResources, command, digests, write_photos
from tests.pipelines.buckets import Bucket
from tests.pipelines.cluster.clusters import start
from tests.processes import free_port, kill_tree, listens, wait_until

WORDS = ("--conditions", "canny", "--shard-size", "2", "--resolution", "128", "--min-side", "16")
WORDS = (*WORDS, "--max-megapixels", "1")


@pytest.mark.parametrize("length", [1_000, pytest.param(120_000_000, marks=pytest.mark.long)])  # whole, and in parts
def test_of_two_writers_of_a_file_the_first_is_kept_whole(bucket: Bucket, length: int) -> None:
    storage, name = open_storage(f"s3://bucket/two-writers-{length}"), "images/0000/00000000.parquet"
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


@pytest.mark.parametrize("words", [("export", "--to", "diffusers"), ("publish", "--license", "other", "some/name")])
def test_a_dataset_on_a_store_is_exported_and_published_as_one_in_a_folder(
    bucket: Bucket, dataset: Path, tmp_path: Path, words: tuple[str, ...]
) -> None:
    name, *options = words
    if not bucket.files.exists("bucket/copied/dataset.json"):
        bucket.files.put(f"{dataset}/", "bucket/copied/", recursive=True)
    for place, address in (("store", "s3://bucket/copied"), ("folder", str(dataset))):
        done = command(name, address, str(tmp_path / place), *options)
        assert done.returncode == 0, done.stderr
    assert digests(tmp_path / "store") == digests(tmp_path / "folder")


def train(dataset: str, run: Path, base: Path) -> None:
    """Two steps on a dataset."""
    words = (
        "train",
        dataset,
        str(run),
        "--condition",
        "canny",
        "--base",
        str(base),
        "--steps",
        "2",
        "--batch-size",
        "2",
    )
    done = command(*words, "--held-out", "0", "--evaluation-samples", "0", "--device", "cpu")
    assert done.returncode == 0, done.stderr


@pytest.mark.long
def test_training_reads_what_a_cluster_wrote_to_a_store(bucket: Bucket, small_base: Path, tmp_path: Path) -> None:
    photos, address = bucket.put("for-a-cluster", 6), f"127.0.0.1:{free_port()}"
    cluster = start("up", "--listen", address, "--workers", "2", state=tmp_path)
    try:
        assert cluster.stderr
        assert "with 2 workers" in cluster.stderr.readline().decode()
        done = command("build", photos, "s3://bucket/by-a-cluster", *WORDS, "--cluster", address)
        assert done.returncode == 0, done.stderr
    finally:
        cluster.kill()  # its processes end with it
    assert command("build", photos, "s3://bucket/alone", *WORDS).returncode == 0
    assert bucket.digests("by-a-cluster") == bucket.digests("alone")
    train("s3://bucket/by-a-cluster", tmp_path / "run", small_base)


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
    train("s3://bucket/dataset", tmp_path / "run", small_base)
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
        kill_tree(process)
    subprocess.run([*build_words, "s3://bucket/killed", *WORDS], check=True, capture_output=True)
    assert bucket.digests("killed") == bucket.digests("undisturbed")


@pytest.mark.long
def test_a_job_whose_store_goes_away_stops_and_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import s3fs

    photos, port = write_photos(tmp_path / "photos", 40), free_port()
    server = subprocess.Popen([sys.executable, "-m", "moto.server", "-p", str(port)], stderr=subprocess.DEVNULL)
    try:
        wait_until(lambda: listens(port))
        settings = {"ENDPOINT_URL": f"http://127.0.0.1:{port}", "DEFAULT_REGION": "us-east-1"}
        for name, value in {**settings, "ACCESS_KEY_ID": "x", "SECRET_ACCESS_KEY": "x"}.items():
            monkeypatch.setenv(f"AWS_{name}", value)
        files = s3fs.S3FileSystem(skip_instance_cache=True)
        files.mkdir("bucket")
        words = ("ingest", str(photos), "s3://bucket/dataset", "--shard-size", "1", "--min-side", "16")
        process = subprocess.Popen([sys.executable, "-m", "controlmill", *words], stderr=subprocess.PIPE, text=True)
        while process.poll() is None and not files.glob("bucket/dataset/images/0000/*.parquet", refresh=True):
            files.invalidate_cache()
    finally:
        server.kill()
        server.wait()
    said = process.communicate(timeout=300)[1]
    assert process.returncode == 1
    assert "Traceback" not in said
    assert re.search(r"^controlmill: s3://bucket/dataset: \w+: ", said, re.MULTILINE)
    assert "run the same command again to go on" in said
