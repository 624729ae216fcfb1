"""What is finished is not lost, nor done again: damaged files, lost indexes, read-only and removed datasets."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
from pathlib import Path
from typing import Any

import pytest

from controlmill.annotators.catalogue import Choice, parse_conditions
from controlmill.annotators.runtime.placement import Placement
from controlmill.pipelines import annotation, ingestion, planning
from controlmill.pipelines.corpora.folder import FolderCorpus
from controlmill.pipelines.engine import console
from controlmill.pipelines.engine.faults import JobFault
from controlmill.pipelines.engine.mend import mended, others_damaged
from controlmill.pipelines.engine.owners import sweep
from controlmill.pipelines.engine.run_folder import Run
from controlmill.pipelines.engine.shards import Job, run_shard
from controlmill.pipelines.stages.ingest import Ingest
from controlmill.schemas import redo
from controlmill.schemas.dataset import Dataset
from controlmill.schemas.errors import Gone, MillError
from controlmill.schemas.files.addresses import open_storage
from controlmill.schemas.files.local_storage import LocalStorage
from controlmill.schemas.names import index_file, shard_file
from controlmill.schemas.views import card
from controlmill.schemas.views.verify import verify
from tests.helpers import SMALL, Fragile, Halves, digests, make


@pytest.fixture
def copy(dataset: Path, tmp_path: Path) -> Path:
    return shutil.copytree(dataset, tmp_path / "dataset")


def cut(path: Path, size: int) -> None:
    os.truncate(path, size)


def test_a_finished_dataset_is_not_written_to(photos: Path, copy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any) -> None:
        raise OSError("read-only")

    for name in ("write", "commit", "remove", "move", "replace_folder", "scratch"):
        monkeypatch.setattr(LocalStorage, name, refuse)
    before = digests(copy)
    make(photos, copy)
    assert digests(copy) == before


def test_without_the_index_of_images_no_map_is_called_stale(photos: Path, copy: Path) -> None:
    before = digests(copy)
    for table in ("images", "canny"):
        (copy / index_file(table)).unlink()
    assert Dataset.open(copy).state("hough").status == "complete"
    plan = planning.plan_conditions(parse_conditions("hough=lsd"), planning.everywhere(Placement()), None)
    annotation.check_conditions(str(copy), plan, ())
    make(photos, copy)
    assert digests(copy) == before


def test_damaged_and_lost_files_are_made_again_to_the_same_bytes(photos: Path, copy: Path) -> None:
    before = digests(copy)
    cut(copy / shard_file("canny", 0), 1000)
    cut(copy / shard_file("hough", 1), 0)
    cut(copy / shard_file("images", 2), 2000)
    (copy / shard_file("cartoon", 3)).unlink()
    for table in ("rejected", "cartoon"):  # which are told by their footers then
        (copy / index_file(table)).unlink()
        cut(copy / shard_file(table, 0), 100)
    make(photos, copy)
    assert digests(copy) == before
    assert not list(verify(Dataset.open(copy)))


def test_a_listing_that_is_damaged_is_said_and_nothing_is_removed(photos: Path, copy: Path) -> None:
    for damage in (lambda: cut(copy / shard_file("sources", 1), 500), (copy / index_file("sources")).unlink):
        damage()
        before = digests(copy)
        with pytest.raises(MillError, match="listing cannot be made again, restore it from a copy"):
            make(photos, copy)
        assert digests(copy) == before


def test_files_of_no_shard_are_said(photos: Path, copy: Path) -> None:
    opened = Dataset.open(copy)
    assert others_damaged(opened, ()) == []
    shutil.copy(copy / shard_file("canny", 0), copy / shard_file("canny", 9))
    cut(copy / shard_file("hough", 1), 0)
    (copy / shard_file("hough", 2)).unlink()
    assert [line.split(":")[0] for line in others_damaged(opened, ("cartoon",))] == [
        "canny is damaged",
        "hough is damaged",
    ]
    assert "has 0 bytes, not" in others_damaged(opened, ("canny",))[0]
    assert "(2 such)" in others_damaged(opened, ("canny",))[0]
    (copy / shard_file("hough", 1)).unlink()
    with pytest.raises(MillError, match=r"00000009.parquet is no file of the 4 shards.*move it out"):
        make(photos, copy)


def test_a_removed_dataset_is_not_made_again(photos: Path, copy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    dataset = Dataset.open(copy)
    run = Run.start(dataset.storage)
    kept = shutil.copytree(copy, copy.with_name("kept"))
    with dataset.storage.scratch(run.id) as scratch:
        scratch.write_bytes(b"x")
        elsewhere = shutil.copy(scratch, copy.with_name("scratch"))
        shutil.rmtree(copy)
    for write in (
        lambda: dataset.storage.commit(Path(elsewhere), shard_file("canny", 0)),
        lambda: dataset.storage.write("_run/x/attempts/0", b""),
        lambda: dataset.storage.scratch(run.id).__enter__(),
        lambda: card.write(dataset),
    ):
        with pytest.raises(Gone, match="was removed"):
            write()
    stage = Ingest(FolderCorpus(str(photos)), SMALL)
    job = Job(dataset.storage, run.id, stage, stage.outputs(), 1)
    assert run_shard(job, 0) == {"shard": 0, "status": "stopped"}
    assert not copy.exists()

    def removing(*_: Any) -> int:
        shutil.rmtree(copy)
        return 0

    shutil.copytree(kept, copy)
    (copy / shard_file("images", 0)).unlink()
    monkeypatch.setattr(console.JobProcess, "run", removing)
    with pytest.raises(Gone, match="was removed"), console.Resources() as resources:
        ingestion.ingest(str(photos), str(copy), SMALL, resources, 4)
    assert not copy.exists()


def test_what_may_be_published_holds_no_path_of_the_machine(photos: Path, copy: Path) -> None:
    paths = [
        path for path in copy.rglob("*") if path.is_file() and str(photos.parent.parent).encode() in path.read_bytes()
    ]
    assert [path.name for path in paths] == ["_local.json"]
    assert json.loads((copy / "_local.json").read_text()) == {"corpora": [str(photos)]}
    (copy / "_local.json").unlink()
    before = digests(copy)
    make(photos, copy)
    assert digests(copy) == before


def test_a_run_that_begins_while_another_sweeps_is_not_swept(copy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    storage, move = open_storage(copy), LocalStorage.move

    def swept(self: LocalStorage, *names: str) -> None:
        sweep(storage)
        move(self, *names)

    monkeypatch.setattr(LocalStorage, "move", swept)
    run = Run.start(storage)
    assert storage.exists(f"_run/{run.id}/owner.json")
    assert storage.folders("_run") == [run.id]
    os.makedirs(copy / "_run/.new-dead")
    os.utime(copy / "_run/.new-dead", (0, 0))
    sweep(storage)
    assert ".new-dead" not in storage.folders("_run")


def test_a_run_that_was_killed_before_it_had_its_name_is_swept_at_once(copy: Path) -> None:
    ended = subprocess.Popen(["true"])
    ended.wait()
    dead, living, elsewhere = (
        copy / f"_run/.new-0123456789ab-{pid}-{host}"
        for pid, host in ((ended.pid, socket.gethostname()), (os.getpid(), socket.gethostname()), (ended.pid, "other"))
    )
    for folder in (dead, living, elsewhere):
        folder.mkdir(parents=True)
        (folder / f"owner.json.{ended.pid}-0123abcd-0123abcd~").touch()
    sweep(open_storage(copy))
    assert not dead.exists()
    assert living.exists()
    assert elsewhere.exists()


class Unloadable(Halves):
    """A network whose weights do not fit."""

    def __init__(self, *_: Any) -> None:
        raise MillError("the weights do not fit")


class Broken(Fragile):
    """An annotator with such a network."""

    network = Unloadable


def test_weights_that_do_not_load_cost_nothing(copy: Path) -> None:
    before = digests(copy)
    plan = planning.plan_conditions(
        [Choice("cartoon", "fragile", f"{__name__}:Broken")], planning.everywhere(Placement()), None
    )
    said = "the network of cartoon cannot be loaded: the weights do not fit"
    with pytest.raises(MillError, match=said), console.Resources() as resources:
        annotation.annotate(str(copy), plan, resources, ["cartoon"])
    assert digests(copy) == before
    for here in (True, False):
        with pytest.raises(JobFault, match=said):
            plan[0].load(["cartoon"], here)
        plan[0].load(["canny"], here)  # which it does not make


def test_a_switch_that_was_cut_off_is_ended_by_the_next_job(copy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = digests(copy)
    storage = open_storage(copy)
    redo.begin(storage, "canny", {})
    shutil.copytree(copy / "canny", copy / "_redo/canny")
    (copy / "_redo/_tables").mkdir()
    shutil.copy(copy / index_file("canny"), copy / "_redo/_tables")
    monkeypatch.setattr(LocalStorage, "replace_folder", lambda *_, **__: (_ for _ in ()).throw(KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt):
        redo.switch(storage, "canny")
    monkeypatch.undo()
    assert Dataset.open(copy).state("canny").status == "partial"
    assert mended(copy).state("canny").status == "complete"
    redo.end(storage, ["canny"])
    assert digests(copy) == before
