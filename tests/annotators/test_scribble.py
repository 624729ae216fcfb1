"""Scribbles made of soft edges: what is drawn by chance, and its range."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from controlmill.annotators.hed import HED
from controlmill.annotators.scribble import RandomScribble, erase, mean_width, thicken
from controlmill.schemas.images.codecs import check_map
from tests.annotators.conftest import LoadNetwork, Photos
from tests.annotators.running import outputs


def stripe(width: int) -> np.ndarray:
    drawing = np.zeros((512, 512), np.uint8)
    drawing[:, 250 : 250 + width] = 255
    return drawing


def test_draws_are_in_range_and_stored() -> None:
    annotator = RandomScribble()
    drawn = [annotator.draw(np.random.default_rng(seed)) for seed in range(300)]
    assert all(set(row) == set(annotator.columns) for row in drawn)
    assert all(1 <= row["width"] <= 24.001 and 48 <= row["threshold"] <= 160 for row in drawn)
    assert min(row["width"] for row in drawn) < 1.3
    assert max(row["width"] for row in drawn) > 20
    assert {row["ridges"] for row in drawn} == {True, False}


def test_same_draw_same_map(load_network: LoadNetwork, photos_of_size: Photos) -> None:
    image = photos_of_size(256)[0]
    output = outputs(load_network(HED), [image])[0]
    annotator = RandomScribble()
    maps = []
    for seed in (0, 0, 1, 2, 3):
        annotation = annotator.annotate(image, output, annotator.draw(np.random.default_rng(seed)))
        check_map("binary", annotation.map, image.shape[:2])
        maps.append(annotation.map.tobytes())
    assert maps[0] == maps[1]
    assert len(set(maps)) == 4


def test_stored_draws_make_the_same_map(load_network: LoadNetwork, photos_of_size: Photos) -> None:
    """What a table gives back is float32: the map can be made again from the columns."""
    image = photos_of_size(256)[1]
    output = outputs(load_network(HED), [image])[0]
    drawn = RandomScribble().draw(np.random.default_rng(5))
    stored = {name: np.float32(value).item() if isinstance(value, float) else value for name, value in drawn.items()}
    maps = [RandomScribble().annotate(image, output, row).map for row in (drawn, stored)]
    assert np.array_equal(*maps)


@pytest.mark.parametrize("width", [1, 2, 5, 12, 24])
def test_stripes_get_their_width(width: int) -> None:
    for natural in (1, 9):
        drawing = stripe(natural)
        measured = 1.0 if natural == 1 else mean_width(drawing)
        found = np.count_nonzero(thicken(drawing, width - measured)[256])
        assert abs(found - width) <= 1, (natural, width, found)


def test_erased_share() -> None:
    drawing = np.zeros((256, 256), np.uint8)
    cv2.circle(drawing, (128, 128), 90, 255, 9)
    for share in (0.0, 0.25, 0.5):
        left = np.count_nonzero(erase(drawing, share, seed=3)) / np.count_nonzero(drawing)
        assert left == pytest.approx(1 - share, abs=0.02)


def test_nothing_to_draw() -> None:
    drawing = np.zeros((64, 64), np.uint8)
    assert mean_width(drawing) == 0.0
    assert not thicken(erase(drawing, 0.4, 1), 3.0).any()
