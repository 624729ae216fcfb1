"""Scores of one picture: what is compared, and what has no score."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from controlmill.pipelines.stages.score import ScoreStep
from controlmill.schemas.errors import Refused
from controlmill.schemas.images.codecs import encode_map

EDGES = np.zeros((32, 32), np.uint8)
EDGES[8] = 255


def row(found: Any, true: Any, other: Any = None) -> dict[str, Any]:
    sides = {"found": found, "true": true, "found_by_chance": found, "other": other}
    return {"width": 32, "height": 32, **sides}


def stored(array: np.ndarray) -> dict[str, Any]:
    return {"map": {"bytes": encode_map("binary", array)}, "reason": None}


def test_equal_maps_agree_and_pooled_measures_keep_what_they_count() -> None:
    scores = ScoreStep(("f1", "f1_of_row"), "binary").do(row(stored(EDGES), stored(EDGES)))["scores"]
    assert scores["f1"] == scores["f1_of_row"] == 1.0
    assert len(scores["f1_of_row_parts"]) > 1


@pytest.mark.parametrize("side", ["found", "true"])
def test_a_picture_without_a_map_has_no_score_but_a_reason(side: str) -> None:
    nothing = {"map": None, "reason": "failed", "error": "a red picture"}
    sides = {"found": stored(EDGES), "true": stored(EDGES), side: nothing}
    with pytest.raises(Refused, match="a red picture") as caught:
        ScoreStep(("f1",), "binary").do(row(**sides))
    assert caught.value.reason == "failed"


def test_chance_is_the_score_against_another_row() -> None:
    scores = ScoreStep(("f1", "f1_of_row"), "binary").do(row(stored(EDGES), stored(EDGES), stored(EDGES.T)))["scores"]
    assert (scores["f1"], scores["f1_by_chance"]) == (1.0, pytest.approx(1 / 32))
    assert len(scores["f1_of_row_by_chance_parts"]) == len(scores["f1_of_row_parts"])


def test_a_fault_of_another_rows_map_costs_no_score() -> None:
    nothing = {"map": None, "reason": "failed", "error": "a red picture"}
    for other in (nothing, {"map": {"bytes": b"no map"}, "reason": None}):
        assert ScoreStep(("f1",), "binary").do(row(stored(EDGES), stored(EDGES), other))["scores"] == {"f1": 1.0}


def test_a_measure_that_needs_larger_maps_is_left_out() -> None:
    grey = {"map": {"bytes": encode_map("gray8", EDGES)}, "reason": None}
    scores = ScoreStep(("ssim", "ms_ssim"), "gray8").do(row(grey, grey))["scores"]
    assert list(scores) == ["ssim"]
