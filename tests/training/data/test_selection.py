"""Captions of the rows that are chosen: counted where they are trained on, and warned of where they say little."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from controlmill.training.data.filters import Filter
from controlmill.training.data.selection import LOCATION, captions_said, common_shapes, select
from tests.helpers import make, write_photos


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
