"""Retry: what was refused is taken again, and nothing else; cut off anywhere, it ends as if it was not."""

from __future__ import annotations

import os
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from controlmill.pipelines import growing, ingestion
from controlmill.pipelines.engine import console
from controlmill.pipelines.ingestion import list_corpus, make_images
from controlmill.schemas.dataset import Dataset
from controlmill.schemas.files.local_storage import LocalStorage
from controlmill.schemas.retries import refused_pictures
from controlmill.schemas.views.accounting import accounting
from controlmill.schemas.views.report import first_rejects
from controlmill.schemas.views.verify import verify
from tests.helpers import SMALL, KeptResources, command, digests, make, rows, scene
from tests.pipelines.corpora.test_tar import write_tar
from tests.pipelines.growing_datasets import begin, copied, cut_at, grow, take_again, write_scenes


@pytest.fixture(scope="module")
def begun(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return begin(tmp_path_factory.mktemp("retry"))


@pytest.fixture
def photos(begun: Path, tmp_path: Path) -> Path:
    return copied(begun, tmp_path)[0]


@pytest.fixture
def dataset(photos: Path) -> Path:
    return photos.parent / "dataset"


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
    grown = grow(dataset, small, config=replace(SMALL, white=4095))
    assert grown.dataset.index("rejected").reasons == {"not_an_image": 1, "too_small": 1}  # type: ignore[union-attr]
    done = command("retry", str(dataset), "--reason", "too_small", "--min-side", "8")
    assert done.returncode == 0, done.stderr
    opened = Dataset.open(dataset)
    retried = opened.config.ingest_of(2)
    assert (retried.limits.min_side, retried.white) == (8, 4095)  # what was not given is as it was
    index = opened.index("images")
    assert index
    assert [change.first_shard for change in index.changes] == [2, 3]
    assert not [fault for fault in verify(opened) if "behind" not in fault.found]


def test_of_pictures_of_one_name_those_that_were_refused_are_taken_again(tmp_path: Path) -> None:
    """Rows of a table may all be called alike, and so may members of two archives."""
    images = []
    for number, size in enumerate(((160, 128), (16, 12), (160, 128), (160, 128), (12, 16))):
        scene(number, *size).save(tmp_path / "x.png")
        images.append({"bytes": (tmp_path / "x.png").read_bytes(), "path": "image.png"})
    images[3]["bytes"] = b"no picture"
    pq.write_table(pa.table({"image": images}), tmp_path / "x.parquet", row_group_size=2)
    make(tmp_path / "x.parquet", tmp_path / "dataset", "canny")
    for reason, limits, expected in (
        ("not_an_image", (), ["1+1"]),
        ("too_small", ("--min-side", "8"), ["0+1", "2+0"]),
    ):
        done = command("retry", str(tmp_path / "dataset"), "--reason", reason, *limits)
        assert done.returncode == 0, done.stderr
        dataset = Dataset.open(tmp_path / "dataset")
        with dataset.parquet("sources", dataset.shards - 1) as parquet:
            again = parquet.read().to_pylist()
        assert [row["locator"].split()[0] for row in again] == expected
    assert refused_pictures(dataset) == {"not_an_image": 1}
    assert len({row["sha256"] for row in rows(tmp_path / "dataset", "images")}) == 4
    assert "or what was is as it was (1 not_an_image)" in command("retry", str(tmp_path / "dataset")).stderr


def test_a_picture_of_an_archive_that_is_another_one_now_is_not_taken_again(tmp_path: Path) -> None:
    for name in "ab":
        write_scenes(tmp_path / name, *(f"{name}{number}" for number in range(2)))
        members = [(path.name, path.read_bytes()) for path in sorted((tmp_path / name).iterdir())]
        write_tar(tmp_path / f"{name}.tar", members)
    with KeptResources(threads=1) as resources:
        dataset, _ = list_corpus(str(tmp_path / "*.tar"), str(tmp_path / "d"), SMALL, resources, None, (), ())
        stamp = (tmp_path / "b.tar").stat()
        os.utime(tmp_path / "b.tar", ns=(0, 0))
        make_images(dataset, resources)
    assert refused_pictures(Dataset.open(tmp_path / "d")) == {"changed": 2}
    assert take_again(tmp_path / "d").segments == ()
    os.utime(tmp_path / "b.tar", ns=(0, stamp.st_mtime_ns))
    assert [new.retried for new in take_again(tmp_path / "d").segments] == [{"changed": 2}]
    assert not refused_pictures(Dataset.open(tmp_path / "d"))


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("extend DATASET more --resolution 128", "No such option: --resolution"),
        ("extend DATASET more --min-side -1", "--min-side -1: must be 0 or more"),
        ("retry DATASET --keep-columns license", "No such option: --keep-columns"),
        ("retry DATASET --shard-size 16", "No such option: --shard-size"),
        ("retry DATASET --caption-column alt", "No such option: --caption-column"),
    ],
)
def test_what_a_dataset_has_for_good_is_no_option(dataset: Path, words: str, said: str) -> None:
    assert said in command(*words.replace("DATASET", str(dataset)).split()).stderr


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


@pytest.mark.parametrize(
    ("where", "name", "calls"),
    [
        (LocalStorage, "commit", 1),  # in the listing of the first segment
        (LocalStorage, "commit", 2),  # of the second one
        (Dataset, "append", 1),  # listed, and not named in dataset.json
        (growing, "make_images", 2),  # named, and no image made
        (console, "finish_tables", 1),  # one segment made, and the indexes are the old ones
        (ingestion, "finish_tables", 2),  # all made
    ],
)
def test_a_retry_cut_off_anywhere_ends_as_if_it_was_not(
    photos: Path, dataset: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, where: Any, name: str, calls: int
) -> None:
    """Two segments have pictures that are whole now, and one that is still broken."""
    (photos / "f.png").write_bytes(b"no picture")
    (photos / "g.png").write_bytes(b"still no picture")
    grow(dataset, photos)
    for number, healed in enumerate(("d.png", "f.png")):
        scene(number).save(photos / healed)
    undisturbed = Path(shutil.copytree(dataset, tmp_path / "undisturbed"))
    take_again(undisturbed)
    with monkeypatch.context() as cut:
        cut_at(cut, where, name, calls)
        with pytest.raises(KeyboardInterrupt):
            take_again(dataset)
    assert "is not ended: the same command goes on" in "".join(fault.found for fault in verify(Dataset.open(dataset)))
    take_again(dataset)
    assert digests(dataset) == digests(undisturbed)
    assert refused_pictures(Dataset.open(dataset)) == {"not_an_image": 1}
    assert [row["source"] for row in rows(dataset, "images")] == [f"{stem}.png" for stem in "abcdf"]
    assert take_again(dataset).segments == ()
