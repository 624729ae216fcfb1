"""Straight lines of M-LSD against controlnet-aux."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any, ClassVar

import cv2
import numpy as np
import pytest

from controlmill.annotators.base import Network
from controlmill.annotators.mlsd import MLSD, Lines, MLSDLines
from controlmill.annotators.runtime.placement import Placement
from controlmill.annotators.runtime.upstream import controlnet_aux
from controlmill.annotators.runtime.weights import WeightsFile
from tests.annotators.conftest import LoadNetwork, Photos
from tests.annotators.running import annotate, on_same_scores

TINY = Path(__file__).parents[3] / "shared/weights/mlsd_tiny_512_fp32.pth"


class TinyMLSD(MLSD):
    """The small network, whose weights are at hand; the same decoder."""

    weights: ClassVar[tuple[WeightsFile, ...]] = (WeightsFile(TINY.name, "", "", None, 2.6, "Apache-2.0"),)

    def architecture(self) -> Any:
        module = controlnet_aux("mlsd.models.mbv2_mlsd_tiny")
        module.MobileNetV2._load_pretrained_model = lambda self: None  # it would fetch ImageNet weights
        return module.MobileV2_MLSD_Tiny()


@pytest.fixture(scope="module")
def tiny() -> Network:
    if not TINY.exists():
        pytest.skip(f"no real M-LSD weights at {TINY}")
    return TinyMLSD({TINY.name: TINY}, Placement())


def test_equals_reference(load_network: LoadNetwork, photos_of_size: Photos, weights_folder: Path) -> None:
    network = load_network(MLSD)
    reference = controlnet_aux("mlsd").MLSDdetector.from_pretrained(weights_folder)
    for image, thresholds in zip(photos_of_size(256), [(0.1, 0.1), (0.52, 0.1), (0.1, 15.0)], strict=True):
        (found,), expected = on_same_scores(
            partial(annotate, MLSDLines(*thresholds), network, [image]),
            partial(reference, image, *thresholds, detect_resolution=256, image_resolution=256, output_type="np"),
            ((network, "_run"), (reference, "model")),
        )
        assert np.array_equal(found.map, expected[:, :, 0])
        assert found.map.any()
        assert found.columns["n_lines"] > 0


def test_equals_reference_with_real_weights(tiny: Network, photos_of_size: Photos) -> None:
    reference = controlnet_aux("mlsd").MLSDdetector(tiny._network)
    for image in photos_of_size(512):
        expected = reference(image, 0.1, 20.0, output_type="np")[:, :, 0]
        assert np.array_equal(annotate(MLSDLines(thr_d=20.0), tiny, [image])[0].map, expected)


def test_finds_the_lines_of_a_house(tiny: Network) -> None:
    image = np.full((512, 512, 3), 230, np.uint8)
    cv2.rectangle(image, (100, 150), (400, 420), (60, 60, 60), 3)
    found = annotate(MLSDLines(thr_d=20.0), tiny, [image])[0]
    sides = np.zeros((512, 512), np.uint8)
    cv2.rectangle(sides, (100, 150), (400, 420), 255, 9)
    assert found.columns["n_lines"] >= 4
    assert np.count_nonzero(found.map[sides > 0]) / np.count_nonzero(found.map) > 0.9


def test_lines_follow_the_picture_to_sizes_that_the_network_does_not_take(
    tiny: Network, photos_of_size: Photos
) -> None:
    image = photos_of_size(512)[0]
    whole = tiny.postprocess(tiny.forward([tiny.preprocess(image)])[0], image)
    smaller = cv2.resize(image, (500, 490), interpolation=cv2.INTER_AREA)
    other = tiny.postprocess(tiny.forward([tiny.preprocess(smaller)])[0], smaller)
    best = other.ends[0] / np.tile([500 / 512, 490 / 512], 2)
    assert np.abs(whole.ends - best).max(axis=1).min() < 8


def test_no_lines_is_an_empty_map(photos_of_size: Photos) -> None:
    image = photos_of_size(256)[0]
    found = MLSDLines().annotate(image, Lines(np.zeros((5, 4)), np.zeros(5, np.float32), np.zeros(5, np.float32)), {})
    assert found.columns == {"n_lines": 0}
    assert found.map.shape == (256, 256)
    assert not found.map.any()


def test_errors_are_raised(load_network: LoadNetwork, photos_of_size: Photos) -> None:
    network = load_network(MLSD)
    with pytest.raises(RuntimeError):
        network.forward([network.preprocess(photos_of_size(256)[0])[:2]])
    image = photos_of_size(256)[0]
    scores, centres, ends, size = network.forward([network.preprocess(image)])[0]
    with pytest.raises(ValueError, match="not finite"):
        network.postprocess((scores, centres, ends * np.nan, size), image)
