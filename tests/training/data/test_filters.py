"""Filters of rows: --where."""

from __future__ import annotations

import pytest

from controlmill.schemas.dataset import Dataset
from controlmill.schemas.errors import MillError
from controlmill.training.data.filters import Filter
from controlmill.training.data.held_out import held_out_samples
from controlmill.training.data.selection import select
from tests.scenes import SCENES


def test_filters_take_columns_of_any_table(scenes_dataset: Dataset) -> None:
    lines = Filter.parse("hough.n_lines > 4")
    found = select(scenes_dataset, ["canny"], [lines, Filter.parse("width == 64")])
    assert len(found.train) + found.left_out["where"] == SCENES
    assert 0 < len(found.train) < SCENES
    samples = held_out_samples(
        scenes_dataset, scenes_dataset.condition("hough"), found.train, len(found.train), 0, ("n_lines",)
    )
    assert all(sample.columns["n_lines"] > 4 for sample in samples)


@pytest.mark.parametrize("text", ["n_lines", "canny.nothing > 3", "nowhere.x > 3", "canny.map > 3"])
def test_bad_filters_say_what_there_is(scenes_dataset: Dataset, text: str) -> None:
    with pytest.raises(MillError, match="--where"):
        select(scenes_dataset, ["canny"], [Filter.parse(text)])
