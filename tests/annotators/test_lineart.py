"""Line drawings against controlnet-aux."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import numpy as np
import pytest

from controlmill.annotators.lineart import CoarseLineart, CoarseLineDrawing, Lineart, LineDrawing
from controlmill.annotators.runtime.upstream import controlnet_aux
from tests.annotators.conftest import LoadNetwork, Photos
from tests.annotators.running import annotate, on_same_scores


@pytest.mark.parametrize("coarse", [False, True])
def test_equals_reference(
    load_network: LoadNetwork, photos_of_size: Photos, weights_folder: Path, coarse: bool
) -> None:
    networks = [load_network(kind) for kind in (LineDrawing, CoarseLineDrawing)]  # the reference reads both files
    network, annotator = (networks[1], CoarseLineart()) if coarse else (networks[0], Lineart())
    reference = controlnet_aux("lineart").LineartDetector.from_pretrained(weights_folder)
    image = photos_of_size(128)[0]
    (found,), expected = on_same_scores(
        partial(annotate, annotator, network, [image]),
        partial(reference, image, coarse=coarse, detect_resolution=128, image_resolution=128, output_type="np"),
        ((network, "_run"), (reference, "model_coarse" if coarse else "model")),
    )
    assert np.array_equal(found.map, expected[:, :, 0])
    assert len(np.unique(found.map)) > 20
