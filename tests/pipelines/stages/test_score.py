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


def row(found: Any, true: Any) -> dict[str, Any]:
    return {"width": 32, "height": 32, "found": found, "true": true}


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


def test_a_measure_that_needs_larger_maps_is_left_out() -> None:
    grey = {"map": {"bytes": encode_map("gray8", EDGES)}, "reason": None}
    scores = ScoreStep(("ssim", "ms_ssim"), "gray8").do(row(grey, grey))["scores"]
    assert list(scores) == ["ssim"]
