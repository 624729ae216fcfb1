"""Jobs on an object store: a server of S3's protocol on this machine, for the pictures and for the dataset."""

from __future__ import annotations

import hashlib
import io
import json
import logging
import re
import subprocess
import sys
import tarfile
import threading
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import psutil
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from controlmill.annotators.catalogue import parse_conditions
from controlmill.annotators.runtime.placement import Placement
from controlmill.pipelines import annotation, growing, ingestion, planning
from controlmill.pipelines.corpora.columns import Columns
from controlmill.pipelines.corpora.download_options import DownloadOptions
from controlmill.pipelines.corpora.kinds import open_corpus
from controlmill.schemas.dataset import Dataset
from controlmill.schemas.files.addresses import open_storage
from controlmill.schemas.views.verify import verify
from tests.helpers import SMALL, KeptResources, command, digests, rows, scene, write_hostile, write_photos
from tests.pipelines.cluster.test_cluster import start
from tests.pipelines.corpora.hostile_server import plain, serving
from tests.pipelines.engine.test_console import free_port, wait_for

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


def in_tars(photos: Path, names: Sequence[str], target: Path) -> str:
    """A folder's files in two tars, their captions beside them; the address."""
    for number in range(2):
        with tarfile.open(target / f"{number}.tar", "w") as archive:
            for name in names[number * len(names) // 2 : (number + 1) * len(names) // 2]:
                for path in sorted(
                    (photos / name).parent.glob(f"{Path(name).stem}.*"),
                    key=lambda path: path.suffix in (".txt", ".json"),
                ):
                    archive.add(path, str(path.relative_to(photos)))
    return str(target / "{0..1}.tar")


def in_parquet(photos: Path, captions: Mapping[str, str | None], scores: Mapping[str, float], target: Path) -> str:
    """A folder's pictures as Hugging Face has them, in row groups that are no shards; the address."""
    images = [{"bytes": (photos / name).read_bytes(), "path": name} for name in captions]
    texts = pa.array(captions.values(), pa.string())
    table = pa.table({"image": images, "caption": texts, "score": list(scores.values())})
    pq.write_table(table, target / "photos.parquet", row_group_size=7)
    return str(target / "photos.parquet")


@pytest.mark.parametrize("count", [12, pytest.param(300, marks=pytest.mark.long)])
def test_the_same_pictures_are_the_same_rows_from_any_kind_of_corpus(
    bucket: Bucket, tmp_path: Path, count: int
) -> None:
    photos = write_photos(tmp_path / "photos", count)
    write_hostile(photos / "part1")
    names = sorted(str(path.relative_to(photos)) for path in photos.rglob("*") if path.suffix not in ("", ".txt"))
    texts = {name: (photos / name).with_suffix(".txt") for name in names}
    captions = {name: text.read_text() if text.exists() else None for name, text in texts.items()}
    scores = {name: number / 8 for number, name in enumerate(names)}
    for name, score in scores.items():
        (photos / name).with_suffix(".json").write_text(json.dumps({"score": score}))
    bucket.files.put(str(photos), f"bucket/five-{count}", recursive=True)
    answers = {f"/corpus/{name}": plain(200, (photos / name).read_bytes()) for name in names}
    with serving(answers) as server:
        entries = [
            {"url": f"{server.url}/corpus/{name}", "caption": captions[name], "score": scores[name]} for name in names
        ]
        (tmp_path / "urls.jsonl").write_text("\n".join(map(json.dumps, entries)))
        corpora = {
            "folder": str(photos),
            "tar": in_tars(photos, names, tmp_path),
            "parquet": in_parquet(photos, captions, scores, tmp_path),
            "urls": str(tmp_path / "urls.jsonl"),
            "store": f"s3://bucket/five-{count}",
        }
        columns, downloads = Columns(kept=(("score", "float64"),)), DownloadOptions(allow_private_hosts=True)
        config = replace(SMALL, columns=columns, downloads=downloads)
        with KeptResources(threads=1) as resources:
            for kind, corpus in corpora.items():
                ingestion.ingest(corpus, str(tmp_path / kind), config, resources, shard_size=5)
    images = {kind: rows(tmp_path / kind, "images") for kind in corpora}
    refused = {kind: [(row["source"], row["reason"]) for row in rows(tmp_path / kind, "rejected")] for kind in corpora}
    assert len(images["folder"]) == count
    assert [row["score"] for row in images["folder"]] == [scores[row["source"]] for row in images["folder"]]
    for kind in corpora:
        assert images[kind] == images["folder"]
        assert refused[kind] == refused["folder"]
    assert {reason for _, reason in refused["folder"]} == {"truncated", "not_an_image"}


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
        for member in [*psutil.Process(process.pid).children(recursive=True), process]:
            member.kill()
        process.wait()
    subprocess.run([*build_words, "s3://bucket/killed", *WORDS], check=True, capture_output=True)
    assert bucket.digests("killed") == bucket.digests("undisturbed")


@pytest.mark.long
def test_a_job_whose_store_goes_away_stops_and_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import s3fs

    photos, port = write_photos(tmp_path / "photos", 40), free_port()
    server = subprocess.Popen([sys.executable, "-m", "moto.server", "-p", str(port)], stderr=subprocess.DEVNULL)
    try:
        wait_for(port)
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
