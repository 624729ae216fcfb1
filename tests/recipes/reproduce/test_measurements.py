"""What is measured of pictures, on pictures whose truth is known; no network is loaded."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest

from controlmill.schemas.conditions import CONDITIONS
from recipes.reproduce.corpus import Probe, probes
from recipes.reproduce.judge import Judge, Judged
from recipes.reproduce.measurements import colour_at, right_kinds, usual_colours, value_of
from recipes.reproduce.prompts import PROMPTS
from recipes.reproduce.subject import Network, Subject
from recipes.tiny_base.scenes import COLOURS, SHAPES, USUAL_COLOURS, draw_scene

PROBES = probes(12)
TRUE = [probe.scene.image for probe in PROBES]


class TrueJudge(Judge):
    """Sees in pictures of the probes what is true."""

    def judge(self, pictures: Sequence[np.ndarray]) -> list[Judged]:
        by_picture = {probe.scene.image.tobytes(): probe.scene for probe in PROBES}
        scenes = [by_picture[picture.tobytes()] for picture in pictures]
        return [Judged(scene.labels, scene.depth) for scene in scenes]


def subject_of(condition: str) -> Subject:
    nothing: Any = None
    subject = Subject(nothing, Network(CONDITIONS[condition], None), None, PROBES, TrueJudge(), [], [], 1)
    subject.__dict__["true_pictures"] = TRUE  # instead of a round trip through a VAE
    return subject


@pytest.mark.parametrize("condition", ["canny", "segmentation", "depth"])
def test_true_pictures_follow_their_maps_and_others_do_not(condition: str) -> None:
    subject = subject_of(condition)
    assert subject.scores(TRUE, condition).min() == 1
    assert subject.by_chance(TRUE, condition).mean() < 0.9
    np.testing.assert_array_equal(subject.agreement(TRUE), 1 - subject.by_chance(TRUE, condition))
    assert subject.followed(TRUE).mean() == 1
    moved = [*TRUE[3:], *TRUE[:3]]
    assert abs(subject.agreement(moved).mean()) < 0.15, "chance is 0"


def test_usual_colours_are_found_and_others_are_not() -> None:
    assert np.mean(usual_colours(TRUE, PROBES)) == 1
    swapped = [picture[..., ::-1] for picture in TRUE]  # red is blue, and blue is red
    assert np.mean(usual_colours(swapped, PROBES)) < 0.5
    assert {colour_at(np.full((4, 4, 3), rgb, np.uint8), np.ones((4, 4), bool)) for rgb in COLOURS.values()} == set(
        COLOURS
    )


def test_kinds_are_what_the_judge_sees() -> None:
    assert np.mean(right_kinds(TRUE, subject_of("canny"))) == 1


def test_a_value_has_a_standard_error() -> None:
    value = value_of([1.0, 2.0, 3.0])
    assert (value.mean, value.error, value.count) == (2, round(1 / 3**0.5, 5), 3)
    assert value_of([1.0]).error == 0


@pytest.mark.parametrize("probe", PROBES[:6], ids=lambda probe: str(probe.number))
def test_prompts_tell_as_much_as_their_setting_says(probe: Probe) -> None:
    prompts = {kind: prompt_of(probe.scene) for kind, prompt_of in PROMPTS.items()}
    there = {shape.kind for shape in probe.scene.shapes}

    def kinds(text: str) -> set[str]:
        return {kind for kind in SHAPES if kind in text.split()}

    assert prompts["none"] == ""
    assert not kinds(prompts["insufficient"])
    assert not {colour for colour in COLOURS if colour in prompts["insufficient"]}
    assert len(kinds(prompts["conflicting"])) == len(there)
    assert kinds(prompts["conflicting"]) != there
    assert kinds(prompts["full"]) == there


def test_shapes_have_their_usual_colours_in_as_many_scenes_as_asked() -> None:
    def is_usual(index: int, share: float) -> bool:
        return all(s.colour == USUAL_COLOURS[s.kind] for s in draw_scene(1, index, usual=share).shapes)

    assert all(is_usual(index, 1.0) for index in range(40))
    assert 0.7 < np.mean([is_usual(index, 0.8) for index in range(200)]) < 0.95
    for index in range(40):
        scene = draw_scene(1, index, usual=1.0)
        assert scene.ground not in {shape.colour for shape in scene.shapes}
        assert scene.ground in scene.caption.split()
