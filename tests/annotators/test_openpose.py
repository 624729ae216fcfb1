"""Poses against controlnet-aux: the network with random weights, the decoder with people of known shape."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from controlmill.annotators.base import Annotator
from controlmill.annotators.openpose import BodyPose, FacePose, HandPose, OpenPoseBody, OpenPoseHands
from controlmill.annotators.pose_decode import LIMBS, PARTS, find_peaks, find_people
from controlmill.annotators.runtime.torch_device import no_init_weights
from controlmill.annotators.runtime.upstream import controlnet_aux
from controlmill.annotators.skeletons import draw_skeletons
from tests.annotators.conftest import LoadNetwork, Photos
from tests.annotators.running import annotate, assert_near, on_same_scores, outputs

# Standing, arms a little out: COCO-18 as fractions of the person's box.
SKELETON = np.array(
    [
        *((0.50, 0.08), (0.50, 0.20), (0.36, 0.20), (0.28, 0.36), (0.24, 0.50), (0.64, 0.20), (0.72, 0.36)),
        *((0.76, 0.50), (0.42, 0.52), (0.42, 0.74), (0.42, 0.95), (0.58, 0.52), (0.58, 0.74), (0.58, 0.95)),
        *((0.47, 0.06), (0.53, 0.06), (0.43, 0.08), (0.57, 0.08)),
    ]
)


def maps_of(people: int, height: int = 23, width: int = 23, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Heat (19, h, w) and affinities (38, h, w) of people side by side, a little noise, some parts hidden."""
    rng = np.random.default_rng(seed)
    heat = rng.normal(0, 0.01, (19, height, width)).astype(np.float32)
    affinity = rng.normal(0, 0.02, (38, height, width)).astype(np.float32)
    y, x = np.mgrid[:height, :width]
    for person in range(people):
        box = np.array([width / people, height * rng.uniform(0.7, 1.0)])
        points = SKELETON * box + [person * width / people, 0] + rng.normal(0, 0.15, (18, 2))
        hidden = set(rng.choice(18, rng.integers(0, 4), replace=False).tolist())
        for part in set(range(18)) - hidden:
            spot = np.exp(-((x - points[part, 0]) ** 2 + (y - points[part, 1]) ** 2) / 1.5)
            heat[part] = np.maximum(heat[part], rng.uniform(0.6, 1.0) * spot)
        for a, b, channel in LIMBS:
            step = points[b] - points[a]
            length = max(np.hypot(*step), 1e-3)
            along = np.clip(((x - points[a, 0]) * step[0] + (y - points[a, 1]) * step[1]) / length**2, 0, 1)
            away = np.hypot(x - points[a, 0] - along * step[0], y - points[a, 1] - along * step[1])
            for axis in (0, 1):
                affinity[channel + axis] += (away < 0.9) * step[axis] / length
    return heat, affinity


class Prescribed(torch.nn.Module):
    """In the place of upstream's body network: always the same maps."""

    def __init__(self, heat: np.ndarray, affinity: np.ndarray) -> None:
        super().__init__()
        self.unused = torch.nn.Parameter(torch.zeros(1))
        self.maps = [torch.from_numpy(maps)[None] for maps in (affinity, heat)]

    def forward(self, pixels: torch.Tensor) -> list[torch.Tensor]:
        return self.maps


def upstream_people(heat: np.ndarray, affinity: np.ndarray, image: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    body = object.__new__(controlnet_aux("open_pose").Body)
    body.model = Prescribed(heat, affinity)
    return body(image)


@pytest.mark.parametrize(("height", "width"), [(384, 384), (256, 384), (480, 360)])
@pytest.mark.parametrize("people", [0, 1, 2, 4, 9])
def test_decoder_equals_reference(people: int, height: int, width: int) -> None:
    """Peaks, their order and scores, and people: exactly."""
    inner = (184, int(width * 184 / height))
    heat, affinity = maps_of(people, 23, -(-inner[1] // 8), seed=people)
    image = np.zeros((height, width, 3), np.uint8)
    expected, expected_people = upstream_people(heat, affinity, image)
    found, found_people = find_people(heat, affinity, inner, (height, width))
    assert np.array_equal(found, expected.reshape(-1, 4))
    assert np.array_equal(found_people, expected_people)
    assert (len(found_people) > 0) == (people > 0)


@pytest.mark.parametrize("seed", range(3))
def test_decoder_equals_reference_on_noise(seed: int) -> None:
    """Smooth noise: limbs between strangers, skeletons that merge or clash."""
    rng = np.random.default_rng(seed)
    heat = rng.normal(0, 0.12, (19, 23, 12)).astype(np.float32)
    affinity = rng.normal(0, 0.6, (38, 23, 12)).astype(np.float32)
    try:
        expected, expected_people = upstream_people(heat, affinity, np.zeros((256, 128, 3), np.uint8))
    except IndexError:
        pytest.skip("three skeletons at one limb: upstream fails")
    found, found_people = find_people(heat, affinity, (184, 92), (256, 128))
    assert np.array_equal(found, expected)
    assert np.array_equal(found_people, expected_people)


def test_peaks_at_the_border() -> None:
    heat = np.zeros((64, 80), np.float32)
    heat[0, 0] = heat[63, 79] = heat[30, 40] = 30
    assert find_peaks(heat)[:, :2].tolist() == [[0, 0], [40, 30], [79, 63]]


def test_too_many_peaks_are_an_error() -> None:
    heat = np.zeros((19, 100, 100), np.float32)
    heat[:, ::2, ::2] = 1
    with pytest.raises(ValueError, match="no heat map of people"):
        find_people(heat, np.zeros((38, 100, 100), np.float32), (800, 800), (800, 800))


@pytest.fixture(scope="module")
def reference(load_network: LoadNetwork, weights_folder: Path) -> Any:
    load_network(OpenPoseHands)
    with no_init_weights():
        return controlnet_aux("open_pose").OpenposeDetector.from_pretrained(weights_folder)


def test_drawing_equals_reference(load_network: LoadNetwork, photos_of_size: Photos, reference: Any) -> None:
    network = load_network(OpenPoseBody)
    for image in photos_of_size(256):
        (found,), expected = on_same_scores(
            partial(annotate, BodyPose(), network, [image]),
            partial(reference, image, detect_resolution=256, image_resolution=256, output_type="np"),
            ((network, "_run"), (reference.body_estimation, "model")),
        )
        assert np.array_equal(found.map, expected)
        people = found.columns["n_people"]
        assert people > 0
        assert len(found.columns["keypoints"]) == 2 * PARTS * people
        assert len(found.columns["scores"]) == PARTS * people
        seen = np.array(found.columns["keypoints"]).reshape(-1, 2)[:, 0] >= 0
        assert found.columns["visible_fraction"] == pytest.approx(seen.mean())
        assert ((np.array(found.columns["scores"]) > 0) == seen).all()


class HandScores(torch.nn.Module):
    """Scores of 22 maps at an eighth of a hand's size, in the place of a network that takes seconds a hand."""

    def __init__(self) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(3)
        self.weights = torch.nn.Parameter(torch.randn(22, 3, 8, 8, generator=generator) / 40)

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        return torch.nn.functional.conv2d(pixels, self.weights, stride=8) + 0.1


@pytest.mark.parametrize(
    ("annotator", "options", "side"),  # sides at which a face, and a hand, is found
    [(FacePose(), {"include_face": True}, 128), (HandPose(), {"include_face": True, "include_hand": True}, 256)],
    ids=["face", "hands"],
)
def test_faces_and_hands_equal_reference(
    load_network: LoadNetwork,
    photos_of_size: Photos,
    reference: Any,
    annotator: Annotator,
    options: dict[str, Any],
    side: int,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    network = load_network(annotator.network)
    image = photos_of_size(side)[0]
    if annotator.network is OpenPoseHands:
        scores = HandScores()
        for hands in (network._detector.hand_estimation, reference.hand_estimation):
            monkeypatch.setattr(hands, "model", scores)
    estimators = ("face_estimation", "hand_estimation")[: len(options)]
    (found,), expected = on_same_scores(
        partial(annotate, annotator, network, [image]),
        partial(reference, image, detect_resolution=side, image_resolution=side, output_type="np", **options),
        ((network, "_run"), (reference.body_estimation, "model")),
        *(((getattr(network._detector, name), "model"), (getattr(reference, name), "model")) for name in estimators),
    )
    assert np.array_equal(found.map, expected)
    for column in set(annotator.columns) - set(BodyPose.columns):
        assert len(found.columns[column]) > 0


def test_the_network_of_hands_is_upstreams(load_network: LoadNetwork, reference: Any) -> None:
    ours, theirs = load_network(OpenPoseHands)._detector.hand_estimation.model, reference.hand_estimation.model
    pixels = torch.rand(1, 3, 64, 64, generator=torch.Generator().manual_seed(1)) - 0.5
    with torch.inference_mode():
        assert_near(ours(pixels), theirs(pixels))


def test_nobody(load_network: LoadNetwork) -> None:
    image = np.zeros((128, 128, 3), np.uint8)
    annotation = BodyPose().annotate(image, [], {})
    assert not annotation.map.any()
    assert annotation.columns == {"keypoints": [], "scores": [], "n_people": 0, "visible_fraction": 0.0}


def test_thin_pictures_have_an_input(load_network: LoadNetwork) -> None:
    """3000x64 leaves 3 columns at height 184; upstream's padding fails at 2000x8, where none is left."""
    network = load_network(OpenPoseBody)
    for height, width in ((3000, 64), (2000, 8)):
        image = np.zeros((height, width, 3), np.uint8)
        assert network.preprocess(image).shape == (3, 184, 8)
        outputs(network, [image])


def test_skeletons_are_drawn_as_upstream_draws_them() -> None:
    pose = controlnet_aux("open_pose")
    rng = np.random.default_rng(5)
    for height, width in ((64, 96), (200, 131)):
        points = rng.uniform(-0.05, 1.05, (6, PARTS, 2))
        hidden = rng.random((6, PARTS)) < 0.3
        bodies = [
            [None if gone else pose.Keypoint(*xy) for xy, gone in zip(person, those, strict=True)]
            for person, those in zip(points.tolist(), hidden, strict=True)
        ]
        people = [pose.PoseResult(pose.BodyResult(body, 0.0, 0), None, None, None) for body in bodies]
        wanted = pose.draw_poses(people, height, width, draw_hand=False, draw_face=False)
        np.testing.assert_array_equal(draw_skeletons(bodies, height, width), wanted)
