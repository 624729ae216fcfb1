"""One shard: races, full disks, files cut short, all rows refused."""

from __future__ import annotations

import errno
import io
import os
import re
import socket
import threading
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from controlmill.annotators.catalogue import parse_conditions
from controlmill.annotators.plan import forward_groups
from controlmill.annotators.runtime.placement import Placement
from controlmill.annotators.runtime.weights import Found, WeightsFile
from controlmill.pipelines import ingestion
from controlmill.pipelines.corpora.folder import FolderCorpus
from controlmill.pipelines.engine import shards
from controlmill.pipelines.engine.faults import JobFault
from controlmill.pipelines.engine.run_folder import Run
from controlmill.pipelines.engine.shards import Job, check_devices, run_shard
from controlmill.pipelines.engine.stage import Chain
from controlmill.pipelines.stages.annotate import Annotate, AnnotateRows
from controlmill.pipelines.stages.ingest import Ingest
from controlmill.schemas.dataset import Dataset
from controlmill.schemas.errors import MillError
from controlmill.schemas.files import shardfile
from controlmill.schemas.files.local_storage import LocalStorage
from controlmill.schemas.names import shard_file
from controlmill.schemas.views.verify import verify
from tests.helpers import FRAGILE, SMALL, Halves, KeptResources, digests, make, rows, scene, write_hostile, write_photos


@pytest.fixture
def images(photos: Path, tmp_path: Path) -> Dataset:
    """A dataset with images alone."""
    with KeptResources(threads=1) as resources:
        return ingestion.ingest(str(photos), str(tmp_path / "dataset"), SMALL, resources, 4)


def stage_of(conditions: str) -> Annotate:
    return Annotate(tuple(forward_groups(parse_conditions(conditions))), {}, {})


def canny_job(dataset: Dataset, run: Run) -> Job:
    stage = stage_of("canny")
    return Job(dataset.storage, run.id, stage, stage.outputs(), 1)


def test_rows_are_kept_apart_where_a_worker_died_and_not_in_what_follows(
    images: Dataset, dataset: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run, apart = Run.start(images.storage), list[str]()

    def kept_apart(step: AnnotateRows, rows: Iterable[Any], check: Callable[[], None]) -> Iterator[Any]:
        apart.extend(choice.table for choice in step.group.choices)
        return (step.do(row) for row in rows)

    monkeypatch.setattr(shards, "run_rows_apart", kept_apart)
    run.begin(0)  # its worker dies
    stage = Chain((stage_of("canny"), stage_of("hough=lsd,cartoon=standard")))
    assert run_shard(Job(images.storage, run.id, stage, stage.outputs(), 1), 0)["status"] == "done"
    assert apart == ["canny"]
    assert not images.storage.files(f"_run/{run.id}/attempts")
    made = Path(images.storage.path())
    tables = [shard_file(table, 0) for table in ("canny", "hough", "cartoon")]
    assert [digests(made)[table] for table in tables] == [digests(dataset)[table] for table in tables]


def test_a_shard_waits_for_the_disk_once_for_each_of_its_files(
    images: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What only the live run looks at is not waited for."""
    run = Run.start(images.storage)
    synced: list[int] = []
    monkeypatch.setattr(os, "fsync", synced.append)
    assert run_shard(canny_job(images, run), 0)["status"] == "done"
    assert len(synced) == 1
    assert not images.storage.files(f"_run/{run.id}/attempts")


def test_a_worker_that_would_make_another_table_stops_the_job(images: Dataset) -> None:
    run = Run.start(images.storage)
    job = canny_job(images, run)
    stated = {"canny": replace(job.outputs["canny"], provenance={**job.outputs["canny"].provenance, "kind": "gray8"})}
    assert run_shard(replace(job, outputs=stated), 0)["status"] == "failed"
    assert f"a worker on {socket.gethostname()} would make canny in another way" in (run.stopped() or "")
    assert "gray8" in (run.stopped() or "")
    assert not images.has("canny", 0)


def test_a_worker_with_another_gpu_than_the_first_stops_the_job(
    images: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One that has none too: a table is made on one kind of device."""
    run = Run.start(images.storage)
    monkeypatch.setattr("controlmill.pipelines.engine.worker.Worker.device", lambda _, name: name)
    for kind in ("A100", "A100", "H100"):
        monkeypatch.setattr("controlmill.pipelines.engine.shards.device_kind", lambda _, kind=kind: kind)
        if kind == "A100":
            check_devices(["cpu", "cuda"], run)
    with pytest.raises(JobFault, match=r"cuda is H100 on \S+, but A100 on"):
        check_devices(["cuda"], run)
    check_devices(["cpu"], run)
    monkeypatch.undo()
    with pytest.raises(JobFault, match="--device cuda:99: this machine has"):
        check_devices(["cuda:99"], run)


def test_weights_that_a_worker_lacks_stop_the_job_with_one_message(
    images: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = WeightsFile("home.pth", "someone/a", "0" * 40, "1" * 64, 1.0, "MIT")
    found = Found(file.name, str(tmp_path / "of the console/home.pth"), "2" * 64, "custom", "unknown")
    monkeypatch.setattr(Halves, "weights", (file,))
    stage = Annotate(tuple(forward_groups([FRAGILE])), {file.name: found}, {"halves": Placement()})
    run = Run.start(images.storage)
    job = Job(images.storage, run.id, stage, stage.outputs(), 1)
    assert [run_shard(job, shard)["status"] for shard in (0, 1)] == ["failed", "stopped"]
    assert re.match(
        rf"the network of cartoon cannot be loaded: the weights home.pth that .* are not on {socket.gethostname()}; "
        rf"looked for {re.escape(found.path)}\. Bring the file to every worker",
        run.stopped() or "",
    )


def test_a_task_of_a_stage_is_all_that_is_done_for_its_tables(photos: Path, images: Dataset) -> None:
    """Where only the rejected file lacks, it is made by the task itself and not by asking for another one."""
    Path(images.storage.path("rejected/0000/00000000.parquet")).unlink()
    stage, run = Ingest(FolderCorpus(str(photos)), SMALL), Run.start(images.storage)
    outputs = stage.outputs()
    task = next(stage.tasks(images, run, 0, {"rejected": outputs["rejected"]}))
    task.write(iter(()))
    assert task.tables == ("rejected",)
    assert images.has("rejected", 0)


def test_two_workers_racing_for_one_shard_leave_one_commit(images: Dataset, dataset: Path) -> None:
    run = Run.start(images.storage)
    job, barrier, said = canny_job(images, run), threading.Barrier(2), []

    def work() -> None:
        barrier.wait()
        said.append(run_shard(job, 0)["status"])

    twins = [threading.Thread(target=work) for _ in range(2)]
    for twin in twins:
        twin.start()
    for twin in twins:
        twin.join()
    assert said == ["done", "done"]
    assert run.failures() == []
    name = "canny/0000/00000000.parquet"
    assert digests(Path(images.storage.root))[name] == digests(dataset)[name]


def test_the_first_commit_wins_and_a_late_twin_discards_its_own(
    images: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = Run.start(images.storage)
    first = Path(images.storage.path("canny/0000/00000000.parquet"))
    original = LocalStorage.commit

    def late(self: LocalStorage, scratch: Path, name: str) -> bool:
        first.parent.mkdir(parents=True)
        first.write_bytes(b"the first")
        return original(self, scratch, name)

    monkeypatch.setattr(LocalStorage, "commit", late)
    assert run_shard(canny_job(images, run), 0)["status"] == "done"
    assert first.read_bytes() == b"the first"


def test_an_exception_in_mid_write_leaves_nothing_under_the_final_name(
    images: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = Run.start(images.storage)
    write_group = shardfile.ShardWriter.write_group

    def fail(self: shardfile.ShardWriter, group: Any) -> None:
        write_group(self, group)
        raise RuntimeError("in mid-write")

    monkeypatch.setattr(shardfile.ShardWriter, "write_group", fail)
    assert run_shard(canny_job(images, run), 0)["status"] == "failed"
    assert list(map(str, run.failures())) == ["shard 0: RuntimeError: in mid-write"]
    assert not images.has("canny", 0)
    assert not list(Path(images.storage.path(f"_run/{run.id}/scratch")).iterdir())


def test_a_full_disk_stops_the_job_with_advice(images: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    run = Run.start(images.storage)

    def full(*_: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "link", full)
    assert run_shard(canny_job(images, run), 0)["status"] == "failed"
    assert "make room, then run the same command again" in (run.stopped() or "")
    assert run_shard(canny_job(images, run), 1)["status"] == "stopped"


@pytest.mark.parametrize(("since", "code"), [("the start", errno.ENOSPC), ("the commit", errno.EROFS)])
def test_a_disk_that_takes_no_notes_either_is_said_by_the_engine(
    images: Dataset, monkeypatch: pytest.MonkeyPatch, since: str, code: int
) -> None:
    run = Run.start(images.storage)

    def full(*_: Any) -> None:
        for name in ("mark", "commit", "scratch", *(["remove"] if code == errno.EROFS else [])):
            monkeypatch.setattr(LocalStorage, name, full)
        raise OSError(code, os.strerror(code))

    for name in ("mark", "commit") if since == "the start" else ("commit",):
        monkeypatch.setattr(LocalStorage, name, full)
    with pytest.raises(MillError, match=r"shard 0: the disk is full .* make room, then run the same command again$"):
        run_shard(canny_job(images, run), 0)
    run.end()  # hides nothing of it
    monkeypatch.undo()
    assert run_shard(canny_job(images, Run.start(images.storage)), 0) == {
        "shard": 0,
        "status": "done",
        "committed": ["canny"],
    }


def test_another_error_on_a_full_disk_is_said_with_it(images: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    run = Run.start(images.storage)

    def full(*_: Any) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    def fail(*_: Any) -> None:
        monkeypatch.setattr(LocalStorage, "mark", full)
        raise RuntimeError("in mid-write")

    monkeypatch.setattr(shardfile.ShardWriter, "write_group", fail)
    with pytest.raises(MillError, match="RuntimeError: in mid-write; this could not be noted: the disk is full"):
        run_shard(canny_job(images, run), 0)


def test_a_shard_that_is_refused_whole_is_still_a_table(tmp_path: Path) -> None:
    from datasets import load_dataset

    photos = write_photos(tmp_path / "photos", 4)
    write_hostile(photos / "aaa")  # listed first: with two to a shard the first shard holds nothing else
    made = make(photos, tmp_path / "dataset", "canny", shard_size=2)
    assert made.footer("images", 0).rows == made.footer("canny", 0).rows == 0
    assert not list(verify(made))
    for table in ("images", "canny", "rejected"):
        loaded = load_dataset(str(tmp_path / "dataset"), table, split="train", cache_dir=str(tmp_path / "cache"))
        assert len(loaded) == {"images": 4, "canny": 4, "rejected": 3}[table]


def test_a_corpus_of_damaged_files_crashes_nothing_and_is_all_accounted_for(tmp_path: Path) -> None:
    rng = np.random.default_rng(20261122)
    photos = tmp_path / "photos"
    photos.mkdir()
    for number in range(160):
        kind = ("jpeg", "png", "webp", "gif", "tiff", "bmp", "avif")[number % 7]
        out = io.BytesIO()
        scene(number, 48, 40).save(out, kind)
        data = bytearray(out.getvalue())
        for at in rng.integers(0, len(data), int(rng.integers(0, 20))).tolist():
            data[at] = int(rng.integers(256))
        end = len(data) if rng.random() < 0.7 else int(rng.integers(len(data)))
        (photos / f"{number:03d}.{kind}").write_bytes(data[:end])
    made = make(photos, tmp_path / "dataset", "canny", shard_size=50)
    kept, refused = (len(rows(tmp_path / "dataset", table)) for table in ("images", "rejected"))
    assert kept + refused == 160
    assert kept > 20
    assert refused > 20
    assert not list(verify(made))
