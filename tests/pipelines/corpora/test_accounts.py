"""A corpus that goes away in mid-job, or is another one: never a heap of refused pictures, never silence."""

from __future__ import annotations

import errno
import shutil
from pathlib import Path
from typing import Any

import pytest

from controlmill.pipelines import ingestion
from controlmill.pipelines.corpora import folder as module
from controlmill.pipelines.corpora.folder import FolderCorpus
from controlmill.pipelines.engine.faults import Failure, JobFault
from controlmill.pipelines.engine.rows import run_rows
from controlmill.pipelines.stages.ingest import IngestStep
from controlmill.schemas.dataset import Dataset
from controlmill.schemas.errors import MillError
from tests.helpers import SMALL, KeptResources, command, digests, make, rows, write_photos

AS_BUILT = ("--resolution", "128", "--min-side", "16", "--shard-size", "8")


def reasons(photos: Path, sources: list) -> list[str]:
    outcomes = run_rows(IngestStep(FolderCorpus(str(photos)), SMALL), sources, 1, lambda: None)
    return [outcome.reason if isinstance(outcome, Failure) else "kept" for outcome in outcomes]


def test_a_folder_that_is_gone_or_was_unmounted_is_no_fault_of_its_pictures(tmp_path: Path) -> None:
    photos = write_photos(tmp_path / "photos", 4)
    sources = list(FolderCorpus(str(photos)).list())
    (photos / sources[1].source).unlink()
    assert reasons(photos, sources) == ["kept", "missing", "kept", "kept"]
    shutil.rmtree(photos)
    with pytest.raises(JobFault, match="photos cannot be read any more"):
        reasons(photos, sources)
    photos.mkdir()  # the mount point that is left
    with pytest.raises(JobFault, match="when it can, run the same command again"):
        reasons(photos, sources)


def test_a_subfolder_that_is_gone_or_was_unmounted_is_no_fault_of_its_pictures(tmp_path: Path) -> None:
    photos = write_photos(tmp_path / "photos", 9)
    sources = list(FolderCorpus(str(photos)).list())
    (photos / sources[1].source).unlink()
    assert reasons(photos, sources[:3]) == ["kept", "missing", "kept"]
    part = photos / "part1"
    for path in part.iterdir():  # a disk below the corpus, which leaves its mount point
        path.unlink()
    with pytest.raises(JobFault, match=r"photos/part1 cannot be read any more .*: when it can, run the same"):
        reasons(photos, sources)
    part.rmdir()
    with pytest.raises(JobFault, match="photos/part1 cannot be read any more"):
        reasons(photos, sources)


def test_links_to_nothing_are_refused_each_and_stop_nothing(tmp_path: Path) -> None:
    """As the pictures of a checkout whose contents were not fetched: they are as they were listed."""
    photos = write_photos(tmp_path / "photos", 1)
    for number in range(8):
        (photos / f"{number}.jpg").symlink_to("../annex/nothing")
    dataset = make(photos, tmp_path / "dataset", "canny", shard_size=8)
    assert {row["reason"] for row in rows(tmp_path / "dataset", "rejected")} == {"missing"}
    assert dataset.state("images").rows == 1
    make(photos, tmp_path / "dataset", "canny", shard_size=8)  # and the folder is the one that was listed


@pytest.mark.parametrize("number", [errno.EMFILE, errno.ESTALE, errno.ETIMEDOUT])
def test_an_error_of_the_machine_is_no_fault_of_a_picture(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    photos = write_photos(tmp_path / "photos", 2)
    sources = list(FolderCorpus(str(photos)).list())

    def refuse(*_: Any) -> None:
        raise OSError(number, "said by the machine")

    monkeypatch.setattr(module, "read_regular", refuse)
    with pytest.raises(JobFault, match="said by the machine"):
        reasons(photos, sources)


def test_pictures_that_are_all_gone_stop_the_job_until_they_are_back(tmp_path: Path) -> None:
    photos, dataset = write_photos(tmp_path / "photos", 24), tmp_path / "dataset"
    make(photos, dataset, "canny", shard_size=8)
    whole = digests(dataset)
    for name in ("README.md", "_tables/images.json", "_tables/rejected.json", "_tables/canny.json"):
        (dataset / name).unlink()
    for table in ("images", "rejected", "canny"):
        for shard in (1, 2):
            (dataset / f"{table}/0000/{shard:08d}.parquet").unlink()
    (photos / "part2").rename(tmp_path / "elsewhere")
    (photos / "part2").mkdir()
    (photos / "part2" / "moved.txt").write_text("to elsewhere")
    with pytest.raises(MillError, match=r"none of 8 pictures from part2/002\.webp on is as it was listed"):
        make(photos, dataset, "canny", shard_size=8)
    assert Dataset.open(dataset).committed("images") <= {0, 1}
    shutil.rmtree(photos / "part2")
    (tmp_path / "elsewhere").rename(photos / "part2")
    make(photos, dataset, "canny", shard_size=8)
    assert digests(dataset) == whole


def test_another_folder_is_an_error_also_where_nothing_is_left_to_do(tmp_path: Path) -> None:
    photos, dataset = write_photos(tmp_path / "photos", 8), tmp_path / "dataset"
    words = ("ingest", str(photos), str(dataset), *AS_BUILT)
    assert command(*words).returncode == 0
    other = shutil.copytree(photos, tmp_path / "other")
    for path in other.rglob("*.*"):
        path.write_bytes(path.read_bytes() + b" ")
    refused = command("ingest", str(other), str(dataset), *AS_BUILT)
    assert refused.returncode == 1
    assert "other is not the corpus that" in refused.stderr
    again = command(*words)
    assert again.returncode == 0
    assert f"8 pictures, listed from {photos}; pictures added since then are not included" in again.stderr


def test_images_redone_from_another_folder_are_of_that_folder(tmp_path: Path) -> None:
    photos, dataset = write_photos(tmp_path / "photos", 4), tmp_path / "dataset"
    other = write_photos(tmp_path / "other" / "deeper", 3).parent
    make(photos, dataset, "canny")
    for folder in (photos, other):  # the first redo is not ended, as where it was cut off
        with KeptResources(threads=1) as resources:
            ingestion.ingest(str(folder), str(dataset), SMALL, resources, 4, ["images"])
    assert {row["source"].split("/")[0] for row in rows(dataset, "images")} == {"deeper"}


def test_a_copy_of_a_file_is_no_shard(tmp_path: Path) -> None:
    dataset = tmp_path / "dataset"
    made = make(write_photos(tmp_path / "photos", 4), dataset, "canny")
    shutil.copyfile(dataset / "canny/0000/00000000.parquet", dataset / "canny/0000/00000001 (copy).parquet")
    assert made.committed("canny") == {0}
