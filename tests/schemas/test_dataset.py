"""The dataset folder: how an index is written, and what a snapshot keeps."""

from __future__ import annotations

import json
import os
import stat
from pathlib import Path

import pytest

from controlmill.schemas.dataset import Dataset
from controlmill.schemas.errors import MillError
from controlmill.schemas.files.documents import plain
from controlmill.schemas.provenance import IngestRecord, LimitsRecord, Provenance
from controlmill.schemas.segments import Segment
from controlmill.schemas.snapshot import Snapshot
from controlmill.schemas.tables import BASE_TABLES, CACHES, REJECTED, RESERVED, TABLES
from tests.helpers import begun

INGEST = IngestRecord(1, 64, "crop", LimitsRecord(1000, 1000, 1), None)
PROVENANCE = {"table": "rejected", "kind": "rejected"}
SCHEMA = TABLES[REJECTED].schema
IMAGES_MADE = Provenance("images", "images", INGEST)


@pytest.fixture
def dataset(tmp_path: Path) -> Dataset:
    """An empty one."""
    return begun(Dataset.create(tmp_path / "dataset", INGEST), "run")


def _row(source: str) -> dict[str, str | None]:
    return {"source": source, "reason": "missing", "error": "gone", "detail": None}


def test_names_are_made_to_last_once_before_the_index_says_that_files_are_there(
    dataset: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A commit makes its file's bytes last; its folder is not synced for each file."""
    synced: list[int | None] = []

    def fsync(descriptor: int) -> None:
        there = os.fstat(descriptor)
        synced.append(there.st_ino if stat.S_ISDIR(there.st_mode) else None)

    monkeypatch.setattr(os, "fsync", fsync)
    dataset.append([Segment(0, 3, 3, 1, "folder")], ["photos"])
    synced.clear()
    for shard in range(3):
        with dataset.committing("run", REJECTED, shard, SCHEMA, PROVENANCE) as writer:
            writer.write_group([_row("a.png")])
    assert synced == [None] * 3
    dataset.finish(REJECTED)
    table = Path(dataset.storage.path(REJECTED))
    assert synced[3:] == [(table / "0000").stat().st_ino, table.stat().st_ino, None]


def test_a_snapshot_stays_what_it_was_and_reads_each_index_once(dataset: Dataset) -> None:
    dataset.append([Segment(0, 1, 1, 8, "folder")], ["photos"])
    with dataset.committing("run", REJECTED, 0, SCHEMA, PROVENANCE) as writer:
        writer.write_group([_row("a.png")])
    dataset.finish(REJECTED)
    snapshot = Snapshot(dataset)
    before = snapshot.tables(), snapshot.state(REJECTED)
    assert before == ([REJECTED], dataset.state(REJECTED))
    assert before[1].status == "complete"
    assert snapshot.index(REJECTED) is snapshot.index(REJECTED)
    dataset.drop(REJECTED)
    assert (snapshot.tables(), snapshot.state(REJECTED)) == before
    assert dataset.tables() == Snapshot(dataset).tables() == []


def test_the_registry_tells_what_each_table_is() -> None:
    assert BASE_TABLES == ("sources", "images", "rejected")
    assert CACHES == ("latents", "embeddings")
    assert [name for name, table in TABLES.items() if table.role == "condition"] == [
        *("canny", "hough", "hed", "scribble", "pose", "segmentation", "depth", "normals", "cartoon", "captions")
    ]
    assert frozenset(TABLES) < RESERVED


def test_an_index_is_written_as_its_files_say(dataset: Dataset) -> None:
    dataset.append([Segment(0, 1, 1, 8, "folder")], ["photos"])
    with dataset.committing("run", "images", 0, TABLES["images"].schema, IMAGES_MADE) as writer:
        writer.close({"reasons": {}, "rejects": [], "captions": {"given": 0, "unread": 0}, "several": 0})
    (entry,) = plain(dataset.finish("images"))["shards"]
    assert set(entry) == {"rows", "row_groups", "bytes", "sha256", "captions"}
    assert entry["captions"] == {"given": 0, "unread": 0}
    assert json.loads(dataset.storage.read("_tables/images.json"))["provenance"] == plain(IMAGES_MADE)


def test_an_index_takes_in_what_changed_and_reads_nothing_else(dataset: Dataset) -> None:
    dataset.append([Segment(0, 2, 2, 1, "folder")], ["photos"])
    for shard in range(2):
        with dataset.committing("run", REJECTED, shard, SCHEMA, PROVENANCE) as writer:
            writer.write_group([_row("a.png")])
    before = dataset.finish(REJECTED)
    dataset.storage.remove(dataset.file(REJECTED, 0))
    dataset.append([Segment(2, 1, 1, 1, "folder")], ["more"])
    for shard in (0, 2):
        with dataset.committing("run", REJECTED, shard, SCHEMA, PROVENANCE) as writer:
            writer.write_group([_row("b.png"), _row("c.png")])
    Path(dataset.storage.path(dataset.file(REJECTED, 1))).write_bytes(b"not read")
    assert dataset.state(REJECTED).status == "behind"
    with pytest.raises(MillError, match=r"rejected of .* is not complete"):
        dataset.sha256(REJECTED)
    after = dataset.finish(REJECTED, changed=[0])
    assert [entry.rows for entry in after.shards] == [2, 1, 2]
    assert after.shards[1] == before.shards[1]
    assert after.first(2).digests == after.digests[:2]


def test_only_tables_of_ingest_may_change_and_only_where_a_segment_begins(dataset: Dataset) -> None:
    dataset.append([Segment(0, 1, 1, 1, "folder"), Segment(1, 2, 2, 1, "folder")], ["photos", "more"])
    others = (IMAGES_MADE, *[Provenance("images", "images", INGEST, packages={"pillow": "2"})] * 2)
    for shard, made in enumerate(others):
        with dataset.committing("run", "images", shard, TABLES["images"].schema, made) as writer:
            writer.close({})
    index = dataset.finish("images")
    assert [change.first_shard for change in index.changes] == [1]
    assert [index.made(shard) for shard in range(3)] == list(others)
    dataset.storage.remove(dataset.file("images", 1))
    with dataset.committing("run", "images", 1, TABLES["images"].schema, IMAGES_MADE) as writer:
        writer.close({})
    with pytest.raises(MillError, match="images is mixed: shard 2 differs from those before it in packages"):
        dataset.finish("images")
