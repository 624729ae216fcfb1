"""Cartoon lines against controlnet-aux."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import numpy as np

from controlmill.annotators.anime2sketch import Anime2Sketch, CartoonLines
from controlmill.annotators.runtime.upstream import controlnet_aux
from tests.annotators.conftest import LoadNetwork, Photos
from tests.annotators.running import annotate, on_same_scores


def test_equals_reference(load_network: LoadNetwork, photos_of_size: Photos, weights_folder: Path) -> None:
    network = load_network(Anime2Sketch)
    reference = controlnet_aux("lineart_anime").LineartAnimeDetector.from_pretrained(weights_folder)
    for size in (256, 320):
        for image in photos_of_size(size)[:2]:
            (found,), expected = on_same_scores(
                partial(annotate, CartoonLines(), network, [image]),
                partial(reference, image, detect_resolution=size, image_resolution=size, output_type="np"),
                ((network, "_run"), (reference, "model")),
            )
            assert np.array_equal(found.map, expected[:, :, 0])
