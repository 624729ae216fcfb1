"""Edges of Canny and of lineart's standard preprocessor against controlnet-aux."""

from __future__ import annotations

import numpy as np
import pytest

from controlmill.annotators.canny import Canny, KorniaCanny, RandomCanny
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


def test_kornia_canny_is_convolutions_and_spreading_edges(photos_of_size: Photos) -> None:
    torch = pytest.importorskip("torch")
    functional = torch.nn.functional
    gauss = torch.exp(-(torch.arange(-2.0, 3.0) ** 2) / 2)
    blur = torch.outer(gauss / gauss.sum(), gauss / gauss.sum())[None, None]
    sobel = torch.tensor([[-1.0, 0, 1], [-2, 0, 2], [-1, 0, 1]])
    for image in photos_of_size(256):
        grey = (torch.from_numpy(image).float() / 255 @ torch.tensor([0.299, 0.587, 0.114]))[None, None]
        blurred = functional.conv2d(functional.pad(grey, (2,) * 4, mode="reflect"), blur)
        x, y = functional.conv2d(
            functional.pad(blurred, (1,) * 4, mode="replicate"), torch.stack([sobel, sobel.T])[:, None]
        )[0]
        size = (x**2 + y**2 + 1e-6).sqrt()
        around = functional.unfold(size[None, None], 3, padding=1).reshape(9, *size.shape)
        clockwise = around[[5, 8, 7, 6, 3, 0, 1, 2]]  # the neighbour to the right first
        ahead = (torch.atan2(y, x) * 4 / torch.pi).round().long() % 8
        neighbours = torch.maximum(clockwise.gather(0, ahead[None]), clockwise.gather(0, (ahead[None] + 4) % 8))[0]
        weak, edges = ((size > neighbours) & (size > level) for level in (0.1, 0.2))
        for _ in range(1000):
            grown = weak & (functional.max_pool2d(edges[None, None].float(), 3, 1, 1)[0, 0] > 0)
            if bool((grown == edges).all()):
                break
            edges = grown
        found = annotate(KorniaCanny(), None, [image])[0].map > 0
        assert 0.01 < found.mean() < 0.5
        assert (found != edges.numpy()).mean() < 1e-4, "neighbours that are equal but for rounding"


def test_kornia_canny_is_that_of_kornia(photos_of_size: Photos) -> None:
    kornia = pytest.importorskip("kornia")
    torch = pytest.importorskip("torch")
    for image in photos_of_size(256):
        tensor = torch.from_numpy(image).permute(2, 0, 1)[None] / 255.0
        expected = kornia.filters.canny(tensor, 0.1, 0.2)[1][0, 0].numpy() > 0
        assert np.array_equal(annotate(KorniaCanny(), None, [image])[0].map > 0, expected)
