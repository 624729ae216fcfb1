"""Distances between pictures and those of the rows that they were made for."""

from __future__ import annotations

import numpy as np
import pytest

from controlmill.evaluation.features.distances import fid
from controlmill.pipelines.results.quality_values import Picture, set_distance

DIMENSIONS = 4
FEATURES = ("inception", "features")
RNG = np.random.default_rng(0)
TRUE = {(0, row): RNG.normal(size=DIMENSIONS) for row in range(8)}
PICTURES = [
    Picture(place, sample, {FEATURES: RNG.normal(size=DIMENSIONS) + sample}) for place in TRUE for sample in range(2)
]


def test_each_row_counts_once_as_reference() -> None:
    value = set_distance("fid", "none", PICTURES, {"inception": TRUE})
    found = np.stack([np.asarray(picture.values[FEATURES]) for picture in PICTURES])
    assert value.value == pytest.approx(fid(found, np.stack(list(TRUE.values()))))
    assert (value.rows, value.low, value.note) == (8, None, "")


def test_pictures_without_features_or_a_reference_count_for_nothing() -> None:
    lost = [Picture((0, 99), 0, {FEATURES: np.ones(DIMENSIONS)}), Picture((0, 1), 0, {FEATURES: None})]
    expected = set_distance("fid", "none", PICTURES, {"inception": TRUE})
    assert set_distance("fid", "none", [*PICTURES, *lost], {"inception": TRUE}) == expected


@pytest.mark.parametrize(("rows", "words"), [(3, "no more pictures than its 4 dimensions"), (0, "too few pictures")])
def test_few_pictures_are_told(rows: int, words: str) -> None:
    few = [picture for picture in PICTURES if picture.place[1] < rows]
    value = set_distance("fid", "none", few, {"inception": TRUE})
    assert words in value.note
    assert (value.value is None) == (not rows)
