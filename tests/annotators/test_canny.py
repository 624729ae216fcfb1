"""Edges of Canny and of lineart's standard preprocessor against controlnet-aux."""

from __future__ import annotations

import numpy as np
import pytest

from controlmill.annotators.canny import Canny, RandomCanny
from controlmill.annotators.lineart_standard import LineartStandard
from controlmill.annotators.runtime.upstream import controlnet_aux
from tests.annotators.conftest import Photos
from tests.annotators.running import annotate


@pytest.mark.parametrize("thresholds", [(100, 200), (50, 151)])
def test_equals_reference(photos_of_size: Photos, thresholds: tuple[int, int]) -> None:
    reference = controlnet_aux("canny").CannyDetector()
    for image in photos_of_size(256):
        expected = reference(image, *thresholds, detect_resolution=256, image_resolution=256, output_type="np")
        found = annotate(Canny(*thresholds), None, [image])[0]
        assert np.array_equal(found.map, expected[:, :, 0])


def test_draws_are_the_seeds(photos_of_size: Photos) -> None:
    images = photos_of_size(256)
    first, again, other = (annotate(RandomCanny(), None, images, seed=seed) for seed in (1, 1, 2))
    assert [a.map.tobytes() for a in first] == [a.map.tobytes() for a in again]
    assert [a.map.tobytes() for a in first] != [a.map.tobytes() for a in other]


def test_lineart_standard_equals_reference(photos_of_size: Photos) -> None:
    reference = controlnet_aux("lineart_standard").LineartStandardDetector()
    for image in photos_of_size(256):
        expected = reference(image, detect_resolution=256, output_type="np")[:, :, 0]
        found = annotate(LineartStandard(), None, [image])[0].map
        assert np.abs(found.astype(int) - expected).max() <= 1
