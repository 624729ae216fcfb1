"""Depth and normals against transformers and controlnet-aux."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from controlmill.annotators.base import Network
from controlmill.annotators.depth import DPT, DPTDepth, DPTLarge, MiDaS, MiDaSDepth
from controlmill.annotators.normals import BaeNormals, DPTNormals, MiDaSNormals, NormalBae
from controlmill.annotators.runtime.torch_device import no_init_weights
from controlmill.annotators.runtime.upstream import controlnet_aux
from controlmill.schemas.images.codecs import check_map
from tests.annotators.conftest import LoadNetwork, Photos
from tests.annotators.running import NEAR, annotate, on_same_scores, outputs

SIZE = 192


class SmallMiDaS(MiDaS):
    resolution = SIZE


class SmallNormalBae(NormalBae):
    resolution = SIZE


@pytest.fixture(scope="module")
def midas(load_network: LoadNetwork, weights_folder: Path) -> tuple[Network, Any]:
    own = load_network(SmallMiDaS)
    with no_init_weights():
        return own, controlnet_aux("midas").MidasDetector.from_pretrained(weights_folder)


@pytest.mark.parametrize("kind", [DPT, DPTLarge])
def test_dpt_equals_reference(
    load_network: LoadNetwork, photos_of_size: Photos, weights_folder: Path, kind: type[DPT]
) -> None:
    from transformers import DPTForDepthEstimation, DPTImageProcessor

    network = load_network(kind)
    reference = DPTForDepthEstimation.from_pretrained(weights_folder / kind.weights[0].name.split("/")[0]).eval()
    processor = DPTImageProcessor(resample=2)
    for size in (384, 500):
        image = photos_of_size(size)[0]
        with torch.no_grad():
            output = reference(**processor(image, return_tensors="pt"))
        expected = processor.post_process_depth_estimation(output, [(size, size)])[0]["predicted_depth"].numpy()
        span = expected.max() - expected.min()
        assert span > 1
        found = outputs(network, [image])[0]
        print(f"{kind.name} at {size}: {np.abs(found - expected).max() / span:.1e} of the range")
        assert np.abs(found - expected).max() <= NEAR * span
        annotation = DPTDepth().annotate(image, expected, {})
        columns = annotation.columns
        restored = columns["raw_min"] + annotation.map / 65535 * (columns["raw_max"] - columns["raw_min"])
        assert np.abs(restored - expected).max() <= span / 65535


def test_midas_equals_reference(midas: tuple[Network, Any], photos_of_size: Photos) -> None:
    network, reference = midas
    for image in photos_of_size(SIZE)[:2]:
        (annotation,), eight_bits = on_same_scores(
            partial(annotate, MiDaSDepth(), network, [image]),
            partial(reference, image, detect_resolution=SIZE, image_resolution=SIZE, output_type="np"),
            ((network, "_run"), (reference, "model")),
        )
        assert np.abs(annotation.map / 65535 * 255 - eight_bits[:, :, 0]).max() <= 1.001
        assert len(np.unique(annotation.map)) > 1000


@pytest.mark.parametrize("bg_th", [0.1, 0.4])
def test_normals_equal_reference(midas: tuple[Network, Any], photos_of_size: Photos, bg_th: float) -> None:
    network, reference = midas
    image = photos_of_size(SIZE)[0]
    options = {"detect_resolution": SIZE, "image_resolution": SIZE, "output_type": "np", "depth_and_normal": True}
    (found,), (_, expected) = on_same_scores(
        partial(annotate, MiDaSNormals(bg_th=bg_th), network, [image]),
        partial(reference, image, bg_th=bg_th, **options),
        ((network, "_run"), (reference, "model")),
    )
    difference = np.abs(found.map.astype(int) - expected)
    print(f"normals=controlnet: at most {difference.max()}")
    assert difference.max() <= 1
    assert len(np.unique(found.map)) > 50


def test_bae_equals_reference(load_network: LoadNetwork, photos_of_size: Photos, weights_folder: Path) -> None:
    network = load_network(SmallNormalBae)
    with no_init_weights():
        reference = controlnet_aux("normalbae").NormalBaeDetector.from_pretrained(weights_folder)
    image = photos_of_size(SIZE)[0]
    (found,), expected = on_same_scores(
        partial(annotate, BaeNormals(), network, [image]),
        partial(reference, image, detect_resolution=SIZE, image_resolution=SIZE, output_type="np"),
        ((network, "_run"), (reference, "model")),
    )
    difference = np.abs(found.map.astype(int) - expected)
    print(f"normals=bae: at most {difference.max()}")
    assert difference.max() <= 1
    assert len(np.unique(found.map)) > 50


def test_constant_depth_is_a_constant_map() -> None:
    image = np.zeros((64, 96, 3), np.uint8)
    depth = np.full((64, 96), 7.5, np.float32)
    with np.errstate(all="raise"):
        annotation = DPTDepth().annotate(image, depth, {})
        normals = DPTNormals().annotate(image, depth, {})
    check_map("gray16", annotation.map, (64, 96))
    assert not annotation.map.any()
    assert annotation.columns == {"raw_min": 7.5, "raw_max": 7.5}
    assert np.unique(normals.map.reshape(-1, 3), axis=0).tolist() == [[255, 127, 127]]


def test_slopes_point_the_right_way() -> None:
    """Depth that rises to the right tilts x; the provenance says which channel that is."""
    image = np.zeros((64, 64, 3), np.uint8)
    ramp = np.tile(np.arange(64, dtype=np.float32), (64, 1)) + 100
    tilted = DPTNormals().annotate(image, ramp, {}).map[32, 32]
    mirrored = DPTNormals().annotate(image, ramp[:, ::-1].copy(), {}).map[32, 31]
    x = DPTNormals().provenance()["x_channel"]
    assert int(tilted[x]) + int(mirrored[x]) in (254, 255)
    assert tilted[x] > 200
    assert np.delete(tilted, x).tolist() == np.delete(mirrored, x).tolist()
    assert BaeNormals().provenance()["x_channel"] == 0


def test_values_that_are_not_finite_are_an_error(midas: tuple[Network, Any]) -> None:
    network, _ = midas
    with pytest.raises(ValueError, match="not finite"):
        network.postprocess(np.full((64, 64), np.nan, np.float32), np.zeros((64, 64, 3), np.uint8))


def test_two_instances_at_once_share_nothing(
    midas: tuple[Network, Any], load_network: LoadNetwork, photos_of_size: Photos
) -> None:
    """Upstream's hooks write into one dictionary for all instances; two threads must not see each other's depth."""
    from concurrent.futures import ThreadPoolExecutor

    networks = [midas[0], load_network(SmallMiDaS)]
    images = photos_of_size(128)[:2]
    expected = [outputs(networks[0], [image])[0] for image in images]
    with ThreadPoolExecutor(2) as pool:
        for _ in range(2):
            found = list(pool.map(lambda i: outputs(networks[i], [images[i]])[0], range(2)))
            for a, b in zip(expected, found, strict=True):
                assert np.array_equal(a, b)
