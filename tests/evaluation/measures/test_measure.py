"""From parts of pictures to the number of a set: over rows, over the set."""

from __future__ import annotations

import numpy as np
import pytest

from controlmill.evaluation.measures.catalogue import MEASURES
from controlmill.evaluation.measures.measure import Measure


def labels(*values: int) -> np.ndarray:
    return np.array([values], np.uint8)


def test_a_row_counts_once_however_many_pictures_it_has() -> None:
    measure = Measure.of_score("share", "share", "miou", lambda found, true: float(found))
    assert not measure.is_pooled
    assert measure.of_set({"a": [(1.0,), (0.0,)], "b": [(1.0,)]}) == 0.75
    assert measure.of_set({"a": [(1.0,)], "b": [(float("nan"),)], "c": []}) == 1.0
    assert np.isnan(measure.of_set({}))


def test_counts_are_pooled_over_a_rows_pictures_and_then_rows_are_averaged() -> None:
    rows = {"a": [(9.0, 1.0, 0.0), (0.0, 1.0, 0.0)], "b": [(0.0, 3.0, 2.0)]}
    assert MEASURES["f1_of_row"].of_set(rows) == pytest.approx((18 / 20 + 0) / 2)


def test_areas_are_pooled_over_the_set() -> None:
    measure = MEASURES["miou_of_set"]
    assert measure.is_pooled
    true = labels(0, 0, 1, 1)
    found = {"a": [labels(0, 0, 1, 1), labels(1, 1, 1, 1)], "b": [labels(0, 1, 1, 1), labels(1, 1, 0, 0)]}
    rows = {row: [measure.part(picture, true) for picture in pictures] for row, pictures in found.items()}
    assert measure.of_set(rows) == pytest.approx(np.mean([3 / 10, 6 / 13]))


def test_a_measure_tells_its_tolerance_and_what_is_too_small_for_it() -> None:
    assert MEASURES["f1_within"].notes([(64, 64), (64, 48)]) == ["F1 within 1 px"]
    assert MEASURES["f1_within"].notes([(512, 768), (512, 512)]) == ["F1 within 2 px or F1 within 3 px"]
    assert MEASURES["ms_ssim"].notes([(512, 100)]) == ["not taken of pictures with a side below 176 pixels"]
    assert MEASURES["ms_ssim"].notes([(512, 512)]) == MEASURES["rmse"].notes([(8, 8)]) == []
