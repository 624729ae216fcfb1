"""The command labels: a table beside the others, counted both ways, resumed and renewed like any other."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from controlmill.schemas.dataset import Dataset
from controlmill.schemas.views.behind import behind_lines
from controlmill.schemas.views.verify import verify
from tests.helpers import command, digests, rows
from tests.pipelines.labels.labelled import quarters, save

NAMES = ("training/ADE_train_00000001", "training/ADE_train_00000002", "validation/ADE_val_00000001")


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three photographs of ADE20K's names in a dataset; labels of two of them, and one of another."""
    folder = tmp_path_factory.mktemp("ade20k")
    for number, name in enumerate(NAMES):
        save(folder / f"images/{name}.png", np.full((64, 64, 3), 50 * number, np.uint8))
    for name in (*NAMES[:2], "training/ADE_train_00000009"):
        save(folder / f"annotations/{name}.png", quarters((1, 2, 3, 0), 64))
    photos, dataset = str(folder / "images"), str(folder / "dataset")
    made = command("ingest", photos, dataset, "--resolution", "64", "--min-side", "16")
    assert made.returncode == 0, made.stderr
    return folder


def test_labels_are_a_table_counted_both_ways(corpus: Path) -> None:
    words = ("labels", str(corpus / "dataset"), "segmentation", str(corpus / "annotations"))
    ended = command(*words)
    assert ended.returncode == 0, ended.stderr
    said = ended.stdout + ended.stderr
    assert "2 of 3 pictures have a label" in said
    assert "1 pictures have none, and become nulls: validation/ADE_val_00000001.png" in said
    assert "1 of 3 labels belong to no picture here: training/ADE_train_00000009.png" in said
    found = rows(corpus / "dataset", "segmentation")
    assert [row["reason"] for row in found] == [None, None, "missing"]
    assert [row["coverage"] for row in found] == [0.75, 0.75, None]
    made = Dataset.open(corpus / "dataset")
    assert not list(verify(made))
    index = made.index("segmentation")
    assert index
    assert (index.provenance.made_by.is_from_files, index.provenance.made_by.layout) == (True, "ade20k")
    (line,) = behind_lines(made, ["segmentation"])
    assert "labels" in line
    assert "KIND PLACE --layout ade20k, as they came in first" in line
    save(corpus / f"annotations/{NAMES[0]}.png", quarters((5, 5, 5, 5), 64))
    assert "--overwrite segmentation takes them in" in command(*words).stderr
    assert command(*words, "--overwrite", "segmentation").returncode == 0
    assert rows(corpus / "dataset", "segmentation")[0]["coverage"] == 1


def test_a_label_that_several_pictures_take_is_said(tmp_path: Path) -> None:
    for number, folder in enumerate(("a", "b")):
        save(tmp_path / f"images/{folder}/ADE_val_00000001.png", np.full((64, 64, 3), 50 * number, np.uint8))
    save(tmp_path / "annotations/ADE_val_00000001.png", quarters((1, 2, 3, 0), 64))
    dataset = str(tmp_path / "dataset")
    assert command("ingest", str(tmp_path / "images"), dataset, "--resolution", "64").returncode == 0
    ended = command("labels", dataset, "segmentation", str(tmp_path / "annotations"))
    assert ended.returncode == 0, ended.stderr
    assert "1 labels are taken for several pictures each: ADE_val_00000001.png" in ended.stdout + ended.stderr


def test_labels_of_other_pictures_are_an_error(corpus: Path, tmp_path: Path) -> None:
    save(tmp_path / "annotations/ADE_val_00000077.png", quarters((1, 1, 1, 1), 64))
    ended = command("labels", str(corpus / "dataset"), "segmentation", str(tmp_path))
    assert ended.returncode == 1
    assert "none of 3 pictures has one of the 1 labels" in ended.stderr


def test_labels_of_pictures_that_were_added_come_in_with_the_same_command(tmp_path: Path) -> None:
    """Old files stay as they are, and all is as if every picture had been there from the beginning."""
    photos, dataset, once = (tmp_path / name for name in ("images", "dataset", "once"))
    ingest, labels = ("--resolution", "64", "--min-side", "16", "--shard-size", "2"), tmp_path / "annotations"

    def add(numbers: Sequence[int], labelled: Sequence[int]) -> None:
        for number in numbers:
            save(photos / f"ADE_train_{number:08d}.png", np.full((64, 64, 3), 40 * number, np.uint8))
        for number in labelled:
            save(labels / f"ADE_train_{number:08d}.png", quarters((1, number, 3, 0), 64))

    def run(*words: str | Path, status: int = 0) -> str:
        ended = command(*map(str, words))
        assert ended.returncode == status, ended.stderr
        return ended.stderr

    add((1, 2), (1, 2))
    run("ingest", photos, dataset, *ingest)
    run("labels", dataset, "segmentation", labels)
    before = digests(dataset)
    add((3, 4), (3,))
    hint = (
        f"behind, because pictures were added since: segmentation; bring up to date with: controlmill labels {dataset}"
    )
    assert hint in run("extend", dataset, photos)
    assert hint in run("annotate", dataset, status=1)
    said = run("labels", dataset, "segmentation", labels)
    assert "3 of 4 pictures have a label" in said
    assert "behind" not in said
    after = digests(dataset)
    old = [name for name in before if name.endswith(".parquet")]
    assert {name: after[name] for name in old} == {name: before[name] for name in old}
    run("ingest", photos, once, *ingest)
    run("labels", once, "segmentation", labels)
    whole = digests(once)
    tables = [name for name in whole if not name.startswith(("dataset.json", "_local.json"))]
    assert {name: after[name] for name in tables} == {name: whole[name] for name in tables}
    assert not list(verify(Dataset.open(dataset)))
