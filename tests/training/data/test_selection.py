"""Which rows are chosen, which are left out and why, and what is said of their captions."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest

from controlmill.schemas.dataset import Dataset
from controlmill.schemas.errors import MillError
from controlmill.schemas.names import index_file, shard_file
from controlmill.training.data.filters import Filter
from controlmill.training.data.selection import LOCATION, captions_said, check_tables, common_shapes, select
from tests.helpers import make, write_photos
from tests.scenes import SCENES, WITHOUT_SCRIBBLE


@pytest.mark.parametrize(
    ("captions", "said"),
    [
        ([0, 0, 0], ["captions: 0 of 3 rows have one", "warning: no row has a caption"]),
        ([5, 0, 0], ["captions: 1 of 3 rows have one", "warning: few rows have a caption"]),
        (
            [5, 5, 0, 0, 0],
            ["captions: 2 of 5 rows have one", "warning: few rows", "warning: all captions are the same"],
        ),
        ([5, 5, 5], ["captions: 3 of 3 rows have one", "warning: all captions are the same"]),
        ([5, 6, 0, 0], ["captions: 2 of 4 rows have one"]),
        ([5], ["captions: 1 of 1 rows have one"]),
    ],
)
def test_none_few_and_captions_that_are_all_alike_are_warned_of(captions: list[int], said: list[str]) -> None:
    rows = np.zeros(len(captions), LOCATION)
    rows["caption"] = captions
    lines = captions_said(rows)
    assert len(lines) == len(said)
    assert all(line.startswith(start) for line, start in zip(lines, said, strict=True))


def test_captions_are_those_of_the_rows_that_are_trained_on(tmp_path: Path) -> None:
    photos = write_photos(tmp_path / "photos", 6)
    for number in (3, 5):
        (photos / f"part{number % 3}" / f"{number:03d}.txt").write_text("scene 1")
    dataset = make(photos, tmp_path / "dataset", "canny")
    chosen = select(dataset, ["canny"])
    assert captions_said(chosen.train) == [
        "captions: 3 of 6 rows have one",
        "warning: all captions are the same, so prompts will not matter",
    ]
    assert len(select(dataset, ["canny"], limit=2).train) == 2


@pytest.mark.parametrize(
    ("text", "taken"),
    [
        ("score != 3", [2.0, 4, True]),
        ("score == 3", [3]),
        ("score >= 3", [3, 4]),
        ("score != nan", []),
        ("score != a", ["b"]),
        ("score < b", ["a"]),
    ],
)
def test_what_is_no_value_passes_no_comparison(text: str, taken: list[Any]) -> None:
    values = [None, float("nan"), 2.0, 3, 4, True, "a", "b", b"a", [3]]
    passes = Filter.parse(text).passes
    assert [value for value in values if passes(value)] == taken


def test_shapes_are_listed_the_commonest_first() -> None:
    rows = np.zeros(6, LOCATION)
    rows["height"], rows["width"] = (64, 32, 64, 96, 32, 64), (64, 96, 64, 32, 96, 64)
    assert common_shapes(rows) == [(64, 64), (32, 96), (96, 32)]


def test_nulls_are_found_without_reading_maps_and_counted_by_reason(
    scenes_dataset: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = set()
    read = pq.ParquetFile.read

    def noted(self: Any, columns: Any = None, **options: Any) -> Any:
        asked.update(columns)
        return read(self, columns=columns, **options)

    monkeypatch.setattr(pq.ParquetFile, "read", noted)
    found = select(scenes_dataset, ["scribble", "segmentation"])
    assert asked == {"key", "sha256", "width", "height", "map.path", "reason", "caption"}
    assert dict(found.left_out) == {"scribble: missing": len(WITHOUT_SCRIBBLE)}
    assert len(found.train) == SCENES - len(WITHOUT_SCRIBBLE)


def test_the_least_share_that_holds_two_rows_out_is_known(scenes_dataset: Dataset) -> None:
    share = select(scenes_dataset, ["canny"]).two_from
    assert share
    assert len(select(scenes_dataset, ["canny"], held_out=share).held_out) >= 2
    assert len(select(scenes_dataset, ["canny"], held_out=share - 0.01).held_out) < 2


def test_subsets_nest_and_share_one_held_out_set(scenes_dataset: Dataset) -> None:
    chosen = [select(scenes_dataset, ["canny"], held_out=0.2, limit=limit) for limit in (10, 30, 0)]
    rows = [{tuple(row) for row in found.train[["shard", "row"]].tolist()} for found in chosen]
    held = [{tuple(row) for row in found.held_out[["shard", "row"]].tolist()} for found in chosen]
    assert len(rows[0]) == 10
    assert rows[0] < rows[1] < rows[2]
    assert held[0] == held[1] == held[2]
    assert not held[0] & rows[2]
    assert 5 < len(held[0]) < 40


def test_an_empty_selection_is_an_error(scenes_dataset: Dataset) -> None:
    with pytest.raises(MillError, match=r"no rows are left.*96 where"):
        select(scenes_dataset, ["canny"], [Filter.parse("width > 64")])


def test_a_missing_a_partial_and_a_stale_table_are_errors(scenes_folder: Path, tmp_path: Path) -> None:
    folder = tmp_path / "copy"
    shutil.copytree(scenes_folder, folder)
    dataset = Dataset.open(folder)
    with pytest.raises(MillError, match="no condition 'sketch'; it has: canny, hough"):
        check_tables(dataset, ["sketch"])
    (folder / shard_file("canny", 1)).unlink()
    with pytest.raises(MillError, match=r"canny is not complete \(2 of 3 shards\)"):
        check_tables(dataset, ["canny"])
    index = json.loads((folder / index_file("hough")).read_text())
    index["shards"][0]["images_sha256"] = "0" * 64
    dataset.storage.write_json(index_file("hough"), index)
    with pytest.raises(MillError, match="made from other images"):
        check_tables(dataset, ["hough"])
