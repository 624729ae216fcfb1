"""PCK: perfect is 1, shifted beyond reach 0, the order of people does not count, a missing person does."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from controlmill.annotators.base import Network
from controlmill.annotators.openpose import BodyPose
from controlmill.annotators.runtime.upstream import controlnet_aux
from controlmill.evaluation.fidelity import FidelityMetric
from controlmill.evaluation.measures.catalogue import MEASURES
from controlmill.evaluation.measures.keypoints import ALPHA, pck, people_of, within
from controlmill.evaluation.rows import Sample
from controlmill.schemas.maps.transforms import POSE_COLOURS


def person(seed: int, left: float = 0, top: float = 0, height: float = 100) -> np.ndarray:
    """18 points in a box of exactly ``height`` by 40 pixels."""
    rng = np.random.default_rng(seed)
    points = rng.uniform(0.1, 0.9, (18, 2))
    points[0], points[1] = (0, 0), (1, 1)
    return points * (40, height) + (left, top)


def moved(points: np.ndarray, right: float, down: float = 0) -> np.ndarray:
    return points + np.array([right, down])


def flat(*people: np.ndarray) -> list[float]:
    return [float(value) for points in people for value in np.nan_to_num(points, nan=-1).ravel()]


ONE, TWO, THREE = person(1, 20, 30), person(2, 120, 40), person(3, 200, 10, 60)


def test_perfect_is_one_whatever_the_order_of_people() -> None:
    assert pck(flat(ONE, TWO, THREE), flat(ONE, TWO, THREE)) == 1.0
    assert pck(flat(THREE, ONE, TWO), flat(ONE, TWO, THREE)) == 1.0


@pytest.mark.parametrize(("pixels", "share"), [(9.9, 1.0), (10.1, 0.0)])
def test_a_keypoint_is_found_within_a_tenth_of_its_persons_box(pixels: float, share: float) -> None:
    assert ALPHA == 0.1
    for shift in ((pixels, 0), (0, -pixels)):
        assert pck(flat(moved(ONE, *shift)), flat(ONE)) == share


def test_the_box_is_each_persons_own() -> None:
    assert pck(flat(moved(ONE, 8), moved(THREE, 8)), flat(ONE, THREE)) == 0.5  # 8 is in reach at 100, not at 60


def test_people_and_parts_that_are_missing_cost_their_keypoints() -> None:
    assert pck(flat(ONE), flat(ONE, TWO)) == 0.5
    assert pck([], flat(ONE, TWO)) == 0.0
    part = ONE.copy()
    part[:9] = np.nan
    assert pck(flat(part), flat(ONE)) == 0.5
    hidden = ONE.copy()
    hidden[2:6] = np.nan
    assert pck(flat(ONE), flat(hidden)) == 1.0  # what is not seen in the true map is not asked for


def test_one_found_person_counts_for_one_true_person() -> None:
    assert pck(flat(ONE), flat(ONE, moved(ONE, 1, 1))) == 0.5
    assert pck(flat(ONE, TWO, THREE), flat(TWO)) == 1.0  # more people cost nothing


def test_matching_takes_the_most_keypoints_that_can_be_had() -> None:
    mixed = TWO.copy()
    mixed[:10] = ONE[:10]  # ten parts of one, eight of two: alone it would go to one
    rest = ONE.copy()
    rest[10:] = np.nan
    assert pck(flat(mixed, rest), flat(ONE, TWO)) == (10 + 8) / 36


def test_where_nobody_is_nothing_is_asked_for() -> None:
    assert np.isnan([pck([], []), pck(None, None), pck(flat(ONE), [])]).all()
    assert people_of([]).shape == (0, 18, 2)


def test_a_person_of_one_point_has_a_reach_of_a_pixel() -> None:
    alone = np.full((18, 2), np.nan)
    alone[4] = 50, 60
    assert pck(flat(alone + 0.5), flat(alone)) == 1.0
    assert pck(flat(alone + 2), flat(alone)) == 0.0


class DotFinder(Network):
    """Finds one person by the colours that joints are drawn in: a network whose right answers are known."""

    def __init__(self) -> None:
        pass

    def preprocess(self, image: np.ndarray) -> np.ndarray:
        return image

    def forward(self, batch: Any) -> list[Any]:
        return list(batch)

    def postprocess(self, raw: Any, image: np.ndarray) -> Any:
        pose, body = controlnet_aux("open_pose"), controlnet_aux("open_pose.body")
        height, width = image.shape[:2]
        points = []
        for part, colour in enumerate(POSE_COLOURS):
            y, x = np.nonzero((image == colour).all(axis=2))
            points.append(body.Keypoint(x.mean() / width, y.mean() / height, 1.0, part) if len(x) else None)
        seen = [point for point in points if point]
        return [pose.PoseResult(body.BodyResult(points, len(seen), len(seen)), None, None, None)] if seen else []


def picture(points: np.ndarray) -> np.ndarray:
    canvas = np.zeros((160, 160, 3), np.uint8)
    for (x, y), colour in zip(np.rint(points).astype(int), POSE_COLOURS, strict=True):
        canvas[y - 1 : y + 2, x - 1 : x + 2] = colour
    return canvas


def test_the_fidelity_of_poses_compares_what_is_found_with_the_keypoints_of_the_row() -> None:
    points = np.stack([20 + 17 * np.arange(18) % 100, 20 + 7 * np.arange(18) % 110], axis=1).astype(float)
    metric = FidelityMetric(BodyPose(), DotFinder(), MEASURES["pck"])
    row = Sample(
        0, (0, 0), picture(points), {"pose": np.zeros((160, 160, 3), np.uint8)}, "", {"keypoints": flat(points)}
    )
    shifted, empty = picture(moved(points, 25)), np.zeros((160, 160, 3), np.uint8)
    for image, score in ((picture(points), 1.0), (shifted, 0.0), (empty, 0.0)):
        scores, beside = metric.scores([image], [row], "pose")
        assert scores.tolist() == [score]
        assert beside == {}


def test_keypoints_outside_the_window_are_not_asked_for() -> None:
    person = np.full((18, 2), -1.0)
    person[:3] = (20, 30), (50, 30), (47, 47)
    inside = people_of(within(person.ravel().tolist(), 16, 16, 32))[0]
    np.testing.assert_array_equal(inside[[0, 2]], [(4, 14), (31, 31)])
    assert np.isnan(inside[1]).all()
    assert np.isnan(inside[3:]).all()
