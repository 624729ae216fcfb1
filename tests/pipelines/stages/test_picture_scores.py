"""Scores of single pictures by CLIP's embeddings: what is lacking costs the picture its score, with a reason."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from controlmill.evaluation.features.catalogue import find_feature_weights
from controlmill.pipelines.stages.picture_scores import PictureScoreStep
from controlmill.schemas.errors import Refused
from tests.evaluation.features import random_weights

RNG = np.random.default_rng(0)
EMBEDDING, TEXT = (RNG.normal(size=random_weights.WIDTH).tolist() for _ in range(2))
PICTURE = {"features": EMBEDDING, "reason": None, "error": None}
BOTH = ("clip_score", "clip_aesthetic")


@pytest.fixture
def step(tmp_path: Path) -> PictureScoreStep:
    random_weights.write_aesthetic(tmp_path, random_weights.WIDTH)
    found, _ = find_feature_weights(["clip_aesthetic"], str(tmp_path))
    (head,) = (one for name, one in found.items() if name.startswith("sac"))
    return PictureScoreStep(BOTH, head)


def test_without_a_caption_there_is_the_other_score(step: PictureScoreStep) -> None:
    whole = step.do({"picture": PICTURE, "text": TEXT})["picture_scores"]
    assert set(whole) == set(BOTH)
    assert 0 <= whole["clip_score"] <= 100
    assert step.do({"picture": PICTURE, "text": None})["picture_scores"] == {"clip_aesthetic": whole["clip_aesthetic"]}


@pytest.mark.parametrize(
    ("row", "reason", "words"),
    [
        ({"picture": PICTURE, "text": None}, "missing", "the row has no caption"),
        ({"picture": {**PICTURE, "features": None}, "text": TEXT}, "missing", "no embedding"),
        ({"picture": {"features": None, "reason": "failed", "error": "broken"}, "text": TEXT}, "failed", "broken"),
    ],
    ids=["caption", "embedding", "why"],
)
def test_a_picture_without_a_score_says_why(row: dict[str, Any], reason: str, words: str) -> None:
    with pytest.raises(Refused, match=words) as refused:
        PictureScoreStep(BOTH[:1], None).do(row)
    assert refused.value.reason == reason
