"""Extend and retry: what is there stays as it is, what is new is as in a job that had it all, and counts add up."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from controlmill.pipelines import growing, ingestion
from controlmill.pipelines.corpora.folder import FolderCorpus
from controlmill.pipelines.engine import console
from controlmill.pipelines.growing import Growth, extend, retry
from controlmill.pipelines.stages.ingest import IngestConfig
from controlmill.schemas.dataset import Dataset
from controlmill.schemas.errors import MillError
from controlmill.schemas.files.storage import Storage
from controlmill.schemas.views.accounting import accounting
from controlmill.schemas.views.behind import behind, behind_lines
from controlmill.schemas.views.duplicates import duplicates
from controlmill.schemas.views.report import first_rejects
from controlmill.schemas.views.verify import verify
from tests.helpers import SMALL, KeptResources, command, digests, make, rows, scene

NAMED = "edges:canny=100:200,hough=lsd"
OF_THIS_MACHINE = ("dataset.json", "_local.json")


def write_scenes(folder: Path, *names: str) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for name in names:
        scene(int.from_bytes(name.encode(), "big") % 1000).save(folder / f"{name}.png")
    return folder


def grow(dataset: Path, *photos: Path, config: IngestConfig = SMALL, **settings: Any) -> Growth:
    with KeptResources(threads=1) as resources:
        corpora = [FolderCorpus(str(folder)) for folder in photos]
        return extend(str(dataset), corpora, resources, config, **{"shard_size": 2, **settings})


def take_again(dataset: Path, *reasons: str, config: IngestConfig | None = None) -> Growth:
    with KeptResources(threads=1) as resources:
        return retry(str(dataset), resources, reasons, config)


def times(dataset: Path) -> dict[str, int]:
    return {str(path.relative_to(dataset)): path.stat().st_mtime_ns for path in dataset.rglob("*.parquet")}


@pytest.fixture(scope="module")
def begun(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with ``photos``, a picture and a broken one in two shards, and their finished dataset, ``begun``."""
    folder = tmp_path_factory.mktemp("growing")
    write_scenes(folder / "photos", "a", "b", "c")
    (folder / "photos" / "d.png").write_bytes(b"no picture")
    make(folder / "photos", folder / "begun", NAMED, shard_size=2)
    return folder


@pytest.fixture
def photos(begun: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(begun / "photos", tmp_path / "photos"))


@pytest.fixture
def dataset(begun: Path, photos: Path, tmp_path: Path) -> Path:
    """The dataset, as made from a folder that may be changed."""
    copied = Path(shutil.copytree(begun / "begun", tmp_path / "dataset"))
    local = copied / "_local.json"
    local.write_text(local.read_text().replace(str(begun / "photos"), str(photos)))
    return copied


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


def cut_at(monkeypatch: pytest.MonkeyPatch, where: Any, name: str, calls: int) -> None:
    """The process ends as it calls this for the nth time."""
    whole: Callable[..., Any] = getattr(where, name)
    left = [calls]

    def call(*args: Any, **settings: Any) -> Any:
        left[0] -= 1
        if not left[0]:
            raise KeyboardInterrupt
        return whole(*args, **settings)

    monkeypatch.setattr(where, name, call)


@pytest.mark.parametrize(
    ("where", "name", "calls"),
    [
        (Storage, "commit", 2),  # in the listing
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


def test_a_retry_takes_just_what_may_have_changed_and_the_last_attempt_counts(photos: Path, dataset: Path) -> None:
    write_scenes(photos, "e")
    (photos / "f.png").write_bytes(b"still no picture")
    grow(dataset, photos)
    assert take_again(dataset).segments == ()  # both files are as they were
    scene(4).save(photos / "d.png")
    before = {name: sha for name, sha in digests(dataset).items() if name.endswith(".parquet")}
    growth = take_again(dataset)
    assert [(new.retries, new.retried, new.rows) for new in growth.segments] == [(0, {"not_an_image": 1}, 1)]
    assert {name: digests(dataset)[name] for name in before} == before
    with growth.dataset.parquet("sources", growth.shards.start) as parquet:
        (row,) = parquet.read().to_pylist()
    assert (row["source"], row["retries_shard"], row["retries_row"]) == ("d.png", 1, 0)
    assert accounting(growth.dataset) == [
        "4 files: 4 kept, 0 refused; captions: none",
        "6 files: 1 kept, 1 refused, 4 in the dataset already; captions: none",
    ]
    assert [line.split(":")[0] for line in first_rejects(growth.dataset, 9)] == ["  refused f.png"]
    assert growth.dataset.config.rows == 6
    again = take_again(dataset, "not_an_image")  # it is asked for, whatever may have changed
    assert [(new.retries, new.rows) for new in again.segments] == [(1, 1)]
    assert take_again(dataset, "timeout").segments == ()
    assert len(first_rejects(again.dataset, 9)) == 1
    assert not [fault for fault in verify(again.dataset) if "behind" not in fault.found]


def test_a_retry_with_other_limits_takes_what_they_let_in(dataset: Path, photos: Path, tmp_path: Path) -> None:
    small = tmp_path / "small"
    small.mkdir()
    scene(1, 16, 12).save(small / "s.png")
    grown = grow(dataset, small)
    assert grown.dataset.index("rejected").reasons == {"not_an_image": 1, "too_small": 1}  # type: ignore[union-attr]
    done = command("retry", str(dataset), "--reason", "too_small", "--min-side", "8")
    assert done.returncode == 0, done.stderr
    opened = Dataset.open(dataset)
    assert opened.config.ingest_of(2).limits.min_side == 8
    index = opened.index("images")
    assert index
    assert [change.first_shard for change in index.changes] == [3]
    assert not [fault for fault in verify(opened) if "behind" not in fault.found]
    refused = command("extend", str(dataset), str(small), "--resolution", "64")
    assert "all pictures of this dataset have 128" in refused.stderr


def test_verify_finds_retries_that_contradict_what_was_refused(photos: Path, dataset: Path) -> None:
    from controlmill.schemas.files.shardfile import ShardWriter
    from controlmill.schemas.tables import SOURCES, TABLES

    scene(4).save(photos / "d.png")
    growth = take_again(dataset)
    file = dataset / growth.dataset.file("sources", 2)
    provenance = growth.dataset.footer("sources", 2).provenance
    (row,) = rows(dataset, "sources")[4:]
    file.unlink()
    with ShardWriter(file, TABLES[SOURCES].schema, provenance) as writer:
        writer.write_group([{**row, "retries_row": 3}])
    growth.dataset.finish("sources")
    assert "shard 2 retries what was not refused: d.png" in [fault.found for fault in verify(growth.dataset)]


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
