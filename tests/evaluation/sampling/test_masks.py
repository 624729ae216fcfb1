"""Masked sampling changes the region alone."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from controlmill.bases.base import Base
from controlmill.bases.registry import load_base
from controlmill.evaluation.sampling.masks import free_latents
from controlmill.evaluation.sampling.sampler import Sampler, round_trip, start_noise
from controlmill.evaluation.sampling.settings import SamplingSettings

LOW, HIGH = 18, 42


@pytest.fixture(scope="module")
def base(small_base: Path) -> Base:
    return load_base(str(small_base), torch.device("cpu"))


@pytest.fixture(scope="module")
def picture() -> np.ndarray:
    rng = np.random.default_rng(0)
    return rng.integers(0, 255, (16, 16, 3), np.uint8).repeat(4, 0).repeat(4, 1)


@pytest.mark.parametrize("name", ["ddim", "unipc"])
def test_outside_the_mask_is_the_vaes_round_trip(name: str, base: Base, picture: np.ndarray) -> None:
    mask = np.zeros((64, 64), bool)
    mask[LOW:HIGH, LOW:HIGH] = True
    noise = start_noise(base, [(0, 0), (0, 1)], 0, 64, 64)
    settings = SamplingSettings(name, 3, 2.0)  # type: ignore[arg-type]
    found = Sampler(base, [], settings, 2).sample(["a", "b"], [], noise, [picture] * 2, [mask] * 2)
    (kept,) = round_trip(base, [picture], 1)
    for sampled in found:
        off = np.abs(sampled.astype(int) - kept).max(axis=2)
        assert off[~mask].max() <= 1  # rounding
        edge, inside = off[LOW, LOW:HIGH], off[LOW + 4 : HIGH - 4, LOW + 4 : HIGH - 4]
        assert inside.mean() > 5
        assert edge.mean() < inside.mean()  # mixed with the picture within a latent's width of the edge
    free = Sampler(base, [], settings, 2).sample(["a", "b"], [], noise)
    everywhere = np.ones((64, 64), bool)
    whole = Sampler(base, [], settings, 2).sample(["a", "b"], [], noise, [picture] * 2, [everywhere] * 2)
    assert np.abs(np.stack(free).astype(int) - np.stack(whole)).max() <= 1


def test_a_latent_is_free_where_any_of_its_pixels_is() -> None:
    region = np.zeros((1, 8, 12), bool)
    region[0, 3, 4] = True
    np.testing.assert_array_equal(free_latents(region, (2, 3))[0, 0], [[0, 1, 0], [0, 0, 0]])
