"""The order of results: row r · n + i is picture i of the r-th row."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from controlmill.pipelines.results.listing import ChosenRows, Layout, listed_columns, other_places, sample_sources
from controlmill.schemas.dataset import Dataset
from controlmill.schemas.errors import MillError
from tests.helpers import places, rows


def test_pictures_of_a_row_follow_one_another_kind_by_kind(dataset: Path) -> None:
    images, first, second = rows(dataset, "images"), places(dataset)[1], places(dataset)[5]
    chosen = ChosenRows(Dataset.open(dataset), [first, second], "two")
    listed = list(sample_sources(chosen, Layout(("none", "user"), 2), {"none": ""}))
    at = [tuple(listed_columns(source).values()) for source in listed]
    assert at[:8] == [
        (*place, sample, kind) for place in (first, second) for kind in ("none", "user") for sample in (0, 1)
    ]
    assert at[8:] == [(*place, 0, "ceiling") for place in (first, second)]
    caption = images[1]["caption"] or ""
    assert [source.caption for source in listed[:4]] == ["", "", caption, caption]
    assert listed[3].source == f"user/{Path(images[1]['source']).with_suffix('')}_1.png"


@pytest.mark.parametrize(("kinds", "pictures"), [(1, 1), (2, 3), (4, 4), (1, 600)])
def test_a_shard_holds_whole_rows(kinds: int, pictures: int) -> None:
    layout = Layout(("none", "default", "auto", "user")[:kinds], pictures)
    for rows_of in (1, 7, 96, 5000):
        size = layout.shard_size(rows_of)
        assert size % (kinds * pictures) == 0
        assert size <= max(512, kinds * pictures)


def test_a_listing_that_says_no_row_is_damaged(dataset: Path) -> None:
    chosen = ChosenRows(Dataset.open(dataset), places(dataset)[:1], "one")
    source, _ = sample_sources(chosen, Layout(("user",), 1), {})
    for columns in (None, "{}", "no JSON"):
        with pytest.raises(MillError, match="is damaged"):
            listed_columns(source._replace(columns=columns))


@given(st.lists(st.tuples(st.sampled_from([8, 16]), st.sampled_from([8, 16])), min_size=1, max_size=30))
def test_another_row_is_of_the_same_size_and_each_is_anothers_once(shapes: list[tuple[int, int]]) -> None:
    at = [(number // 4, number % 4) for number in range(len(shapes))]
    others, shape = other_places(at, shapes), dict(zip(at, shapes, strict=True))
    assert all(place != other and shape[place] == shape[other] for place, other in others.items())
    assert sorted(others) == sorted(others.values()) == [place for place in at if shapes.count(shape[place]) > 1]
