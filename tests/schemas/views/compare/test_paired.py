"""Results beside each other: differences are paired by row, and what else differs than the method is said."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from controlmill.schemas.annotator_records import PlacementRecord
from controlmill.schemas.result_records import SamplerRecord
from controlmill.schemas.views.compare.differing import differing
from controlmill.schemas.views.compare.paired import differences
from controlmill.schemas.views.compare.results import open_results, slots_of
from tests.helpers import command
from tests.results import write_results
from tests.schemas.views.compare.conftest import bad, good
from tests.schemas.views.compare.test_build import compare, page_data

SHA = "1" * 64
SAMPLER = SamplerRecord(
    1, "tiny", SHA, (), {"steps": 20, "negative_prompt": ""}, {}, PlacementRecord("cpu", "fp32", 8, 1)
)


def test_a_difference_is_over_the_rows_that_both_have(compared: tuple[Path, Path]) -> None:
    none, found = differences(open_results([str(folder) for folder in compared]))
    assert none == {}
    apart = [bad(row, "none") - good(row, "none") for row in range(10) if row != 2]  # type: ignore[operator]
    difference = found["none", "f1"]
    assert (difference.value, difference.rows) == (pytest.approx(np.mean(apart)), 9)
    assert difference.low is not None
    assert difference.high is not None
    assert difference.low < np.mean(apart) < difference.high < 0, "row by row it is never better"
    assert found["none", "rmse"].value == pytest.approx(-np.mean(apart))
    assert {measure for _, measure in found} == {"f1", "rmse"}, "no picture has a FID"


def test_the_page_says_differences_with_their_intervals(compared: tuple[Path, Path], tmp_path: Path) -> None:
    data = page_data(compare(tmp_path / "page", *compared))
    assert data["against"][0] == [[None] * 3] * 2
    value, low, high, rows = data["against"][1][0][0]
    assert low < value < high
    assert rows == 9
    assert data["differing"] == []


def other(tmp_path: Path, dataset: Path, **options: Any) -> list[str]:
    """What is said of results that were made otherwise than others of 20 steps."""
    first = write_results(tmp_path / "first", dataset, good, sampler=SAMPLER)
    second = write_results(tmp_path / "second", dataset, good, **options)
    results = open_results([str(first), str(second)])
    return differing(results, [slots_of(result) for result in results])


def test_what_was_sampled_otherwise_is_said(dataset: Path, tmp_path: Path) -> None:
    settings = {"steps": 5, "negative_prompt": "worst quality"}
    placement = PlacementRecord("cuda", "bf16", 4, 1)
    sampler = replace(SAMPLER, base_sha256="2" * 64, settings=settings, placement=placement)
    assert other(tmp_path, dataset, sampler=sampler) == [
        "base: tiny (11111111) (first); tiny (22222222) (second)",
        "number format: fp32 (first); bf16 (second)",
        "negative prompt: “” (first); “worst quality” (second)",
        "steps: 20 (first); 5 (second)",
    ]


def test_other_rows_and_kinds_of_prompts_are_said(dataset: Path, tmp_path: Path) -> None:
    assert other(tmp_path, dataset, sampler=SAMPLER, most=4, kinds=("user",)) == [
        "rows with pictures: 10 (first), 4 (second); 4 are the same, and each value is of its own result's",
        "kinds of prompts: none, user (first); user (second)",
    ]
    page = command("compare", str(tmp_path / "first"), str(tmp_path / "second"), "--out", str(tmp_path / "page"))
    assert "the results differ in rows with pictures: 10 (first), 4 (second)" in page.stderr


def test_pictures_of_another_program_are_said_to_be_that(dataset: Path, tmp_path: Path) -> None:
    assert other(tmp_path, dataset) == ["sampled: here (first); by another program (second)"]
