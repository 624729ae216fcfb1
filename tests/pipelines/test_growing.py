"""Extend and retry: what is there stays as it is, what is new is as in a job that had it all, and counts add up."""

from __future__ import annotations

import contextlib
import shutil
from pathlib import Path
from typing import Any

import pytest

from controlmill.pipelines import growing, ingestion
from controlmill.pipelines.corpora.columns import Columns
from controlmill.pipelines.corpora.folder import FolderCorpus
from controlmill.pipelines.engine import console
from controlmill.pipelines.growing import extend
from controlmill.schemas.dataset import Dataset
from controlmill.schemas.errors import MillError
from controlmill.schemas.files.local_storage import LocalStorage
from controlmill.schemas.views.behind import behind, behind_lines
from controlmill.schemas.views.duplicates import duplicates
from controlmill.schemas.views.verify import verify
from tests.helpers import SMALL, KeptResources, command, digests, make, rows
from tests.pipelines.growing_datasets import NAMED, begin, copied, cut_at, grow, take_again, write_scenes

OF_THIS_MACHINE = ("dataset.json", "_local.json")


def times(dataset: Path) -> dict[str, int]:
    return {str(path.relative_to(dataset)): path.stat().st_mtime_ns for path in dataset.rglob("*.parquet")}


@pytest.fixture(scope="module")
def begun(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return begin(tmp_path_factory.mktemp("growing"))


@pytest.fixture
def photos(begun: Path, tmp_path: Path) -> Path:
    return copied(begun, tmp_path)[0]


@pytest.fixture
def dataset(photos: Path) -> Path:
    """The dataset, as made from a folder that may be changed."""
    return photos.parent / "dataset"


def test_a_dataset_that_grew_has_the_bytes_of_one_that_was_made_at_once(
    photos: Path, dataset: Path, tmp_path: Path
) -> None:
    before, written = digests(dataset), times(dataset)
    write_scenes(photos, "e", "f", "g")
    growth = grow(dataset, photos)
    assert [(segment.first_shard, segment.rows, segment.shard_size) for segment in growth.segments] == [(2, 3, 2)]
    assert growth.segments[0].passed_over == {"known": 4}
    assert behind(growth.dataset) == ["hough", "edges"]
    assert command("annotate", str(dataset)).returncode == 0
    after = digests(dataset)
    old = [name for name in before if name.endswith(".parquet")]
    assert {name: after[name] for name in old} == {name: before[name] for name in old}
    assert {name: times(dataset)[name] for name in old} == written
    make(photos, tmp_path / "at-once", NAMED, shard_size=2)
    whole = digests(tmp_path / "at-once")
    assert {name: sha for name, sha in after.items() if name not in OF_THIS_MACHINE} == {
        name: sha for name, sha in whole.items() if name not in OF_THIS_MACHINE
    }
    assert not list(verify(Dataset.open(dataset)))
    assert [Dataset.open(dataset).config.segment_of(shard) for shard in range(4)] == [0, 0, 1, 1]


def test_a_table_that_is_behind_says_so_with_the_command_that_mends_it(dataset: Path, tmp_path: Path) -> None:
    from controlmill.training.data.selection import check_tables

    grown = grow(dataset, write_scenes(tmp_path / "more", "x")).dataset
    assert {table: grown.state(table).status for table in ("images", "edges")} == {
        "images": "complete",
        "edges": "behind",
    }
    assert behind_lines(grown) == [
        "behind, because pictures were added since: hough, edges; "
        f"bring up to date with: controlmill annotate {dataset}"
    ]
    with pytest.raises(MillError, match=r"edges is behind.*controlmill annotate"):
        check_tables(grown, ["edges"])
    assert {fault.found for fault in verify(grown)} == {"is behind: its index has 2 shards, the dataset 3"}
    again = grow(dataset, write_scenes(tmp_path / "yet-more", "y")).dataset  # before anything caught up
    assert again.shards == 4


def test_a_finished_table_goes_on_in_the_way_that_it_was_made(dataset: Path, tmp_path: Path) -> None:
    grow(dataset, write_scenes(tmp_path / "more", "x"))
    done = command("annotate", str(dataset))
    assert done.returncode == 0, done.stderr
    assert Dataset.open(dataset).footer("edges", 2).provenance.made_by.params == {"low": 100, "high": 200}
    refused = command("annotate", str(dataset), "--dtype", "bf16")
    assert "need --conditions" in refused.stderr


def test_pictures_of_another_corpus_that_were_there_before_are_named(
    photos: Path, dataset: Path, tmp_path: Path
) -> None:
    more = write_scenes(tmp_path / "more", "x")
    shutil.copy(photos / "a.png", more / "a.png")
    shutil.copy(photos / "b.png", more / "other.png")
    growth = grow(dataset, more)
    found = duplicates(growth.dataset, growth.shards.start)
    assert (found.rows, found.same_key, found.named) == (2, 1, [("a.png", "a.png"), ("other.png", "b.png")])
    (line,) = found.lines()
    assert line.startswith("2 new pictures were in the dataset before, byte for byte, 1 of them under the same name:")
    assert duplicates(growth.dataset, growth.dataset.shards).lines() == []


def test_nothing_new_appends_nothing_and_a_limit_takes_the_next(photos: Path, dataset: Path) -> None:
    before = digests(dataset)
    assert grow(dataset, photos).segments == ()
    with KeptResources(threads=1) as resources:
        assert extend(str(dataset), [FolderCorpus(f"{photos}/")], resources, SMALL).segments == ()
    assert digests(dataset) == before
    write_scenes(photos, "e", "f", "g")
    for rows_taken in (2, 1, 0):
        growth = grow(dataset, photos, limit=2)
        assert sum(segment.rows for segment in growth.segments) == rows_taken
    assert [row["source"] for row in rows(dataset, "images")] == [f"{name}.png" for name in "abcefg"]


@pytest.mark.parametrize(
    ("where", "name", "calls"),
    [
        (LocalStorage, "commit", 2),  # in the listing
        (Dataset, "append", 1),  # listed, and not named in dataset.json
        (growing, "make_images", 2),  # named, and no image made
        (console, "finish_tables", 1),  # one segment made, and the indexes are the old ones
        (ingestion, "finish_tables", 2),  # all made
    ],
)
def test_an_extend_cut_off_anywhere_ends_as_if_it_was_not(
    photos: Path, dataset: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, where: Any, name: str, calls: int
) -> None:
    more = [photos, write_scenes(tmp_path / "more", "x", "y", "z")]
    write_scenes(photos, "e", "f", "g")
    undisturbed = Path(shutil.copytree(dataset, tmp_path / "undisturbed"))
    grow(undisturbed, *more, limit=2)
    with monkeypatch.context() as cut:
        cut_at(cut, where, name, calls)
        with pytest.raises(KeyboardInterrupt):
            grow(dataset, *more, limit=2)
    assert "is not ended: the same command goes on" in "".join(fault.found for fault in verify(Dataset.open(dataset)))
    grow(dataset, *more, limit=2)
    assert digests(dataset) == digests(undisturbed)
    assert len(rows(dataset, "images")) == 7


@pytest.mark.parametrize(("where", "name", "calls"), [(Dataset, "append", 1), (growing, "make_images", 2)])
def test_other_commands_say_that_an_extend_was_stopped(
    photos: Path, dataset: Path, monkeypatch: pytest.MonkeyPatch, where: Any, name: str, calls: int
) -> None:
    write_scenes(photos, "e")
    with monkeypatch.context() as cut:
        cut_at(cut, where, name, calls)
        with pytest.raises(KeyboardInterrupt):
            grow(dataset, photos)
    if name == "make_images":
        refused = command("annotate", str(dataset))
        assert "are not complete; run extend or retry again" in refused.stderr
    else:
        with pytest.raises(MillError, match="extend or retry was stopped as it listed pictures; run it again"):
            make(photos, dataset, NAMED, shard_size=2)


def test_what_another_command_left_is_done_first(photos: Path, dataset: Path, tmp_path: Path) -> None:
    with pytest.MonkeyPatch.context() as cut:
        cut_at(cut, growing, "make_images", 2)
        with pytest.raises(KeyboardInterrupt):
            grow(dataset, write_scenes(tmp_path / "more", "x"))
    grow(dataset, write_scenes(tmp_path / "other", "y"))
    assert [row["source"] for row in rows(dataset, "images")] == ["a.png", "b.png", "c.png", "x.png", "y.png"]
    assert not [fault for fault in verify(Dataset.open(dataset)) if "behind" not in fault.found]


def test_an_extend_that_asks_for_another_column_is_not_the_one_that_was_stopped(dataset: Path, tmp_path: Path) -> None:
    more = str(write_scenes(tmp_path / "more", "x"))
    found = []
    with KeptResources(threads=1) as resources:
        for column in ("alt", "text"):
            with pytest.MonkeyPatch.context() as cut, contextlib.suppress(KeyboardInterrupt):
                if column == "alt":
                    cut_at(cut, growing, "make_images", 2)
                corpus = FolderCorpus(more, Columns(caption=column))
                found.append(extend(str(dataset), [corpus], resources, SMALL).segments)
    assert found == [()], "its pictures are in the dataset, with the other captions"
    assert [row["source"] for row in rows(dataset, "images")][3:] == ["x.png"]


def test_a_dataset_without_its_corpus_is_read_and_extended(photos: Path, dataset: Path, tmp_path: Path) -> None:
    shutil.rmtree(photos)
    (dataset / "_local.json").unlink()
    growth = grow(dataset, write_scenes(tmp_path / "more", "x"))
    assert growth.dataset.corpora == ["", str(tmp_path / "more")]
    with pytest.raises(MillError, match="it is not known here where its folder is"):
        take_again(dataset, "not_an_image")


def test_redoing_the_images_of_an_extended_dataset_is_refused(photos: Path, dataset: Path, tmp_path: Path) -> None:
    grow(dataset, write_scenes(tmp_path / "more", "x"))
    with pytest.raises(MillError, match="has 2 segments"), KeptResources(threads=1) as resources:
        ingestion.ingest(str(photos), str(dataset), SMALL, resources, 2, ["images"])
    make(photos, dataset, NAMED, shard_size=2)  # the first command goes on with what it made, and all is up to date
    assert not list(verify(Dataset.open(dataset)))
