"""A picture is the same whatever is sampled beside it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from controlmill.bases.base import Base
from controlmill.bases.registry import load_base
from controlmill.evaluation.sampling.batches import even_size, filled
from controlmill.evaluation.sampling.sampler import Sampler, WeightedControlNet, start_noise
from controlmill.evaluation.sampling.settings import SamplingSettings

from .test_sampler import connected

ROWS = [(0, 0), (0, 1), (3, 1)]
PROMPTS = ["a red circle", "", "a blue square"]


@pytest.fixture(scope="module")
def base(small_base: Path) -> Base:
    return load_base(str(small_base), torch.device("cpu"))


@pytest.mark.parametrize("name", ["ddim", "unipc"])
def test_bits_of_a_picture_depend_on_nothing_beside_it(name: str, base: Base) -> None:
    settings = SamplingSettings(name, 3, 2.0, "resolution")  # type: ignore[arg-type]
    maps = np.random.default_rng(0).random((3, 3, 64, 64), np.float32)
    noise, networks = start_noise(base, ROWS, 0, 64, 64), [WeightedControlNet(connected(base))]

    def sampled(rows: list[int], size: int) -> list[np.ndarray]:
        sampler = Sampler(base, networks, settings, size)
        return sampler.pixels([PROMPTS[i] for i in rows], [maps[rows]], noise[rows])

    together = sampled([0, 1, 2], 3)
    for rows in ([2], [1, 0]):
        for row, picture in zip(rows, sampled(rows, 3), strict=True):
            np.testing.assert_array_equal(picture, together[row])
    for row, picture in enumerate(sampled([0, 1, 2], 2)):
        np.testing.assert_allclose(picture, together[row], atol=1e-4)
    assert np.abs(together[0] - together[2]).max() > 0.01


def test_noise_belongs_to_seed_row_and_picture(base: Base) -> None:
    def noise(row: tuple[int, int] = (0, 1), seed: int = 0, sample: int = 0) -> torch.Tensor:
        return start_noise(base, [row], seed, 64, 64, sample)

    assert torch.equal(start_noise(base, ROWS, 0, 64, 64)[1:2], noise())
    others = [noise(), noise((1, 0)), noise((1, 1)), noise(seed=1), noise(sample=1), noise((0, 0), sample=1)]
    assert len({tuple(one.flatten().tolist()) for one in others}) == len(others)


def test_a_prompt_is_encoded_once(base: Base, monkeypatch: pytest.MonkeyPatch) -> None:
    encode, asked = base.encode_prompts, []
    monkeypatch.setattr(base, "encode_prompts", lambda prompts: asked.append(prompts) or encode(prompts))
    settings = SamplingSettings(steps=1, added_prompt="best")
    sampler = Sampler(base, [], settings, 2)
    for _ in range(2):
        sampler.pixels(["a", "b", "a"], [], start_noise(base, ROWS, 0, 64, 64))
    assert sorted(asked) == [[""], ["a, best"], ["b, best"]]


@pytest.mark.parametrize(
    ("count", "most", "size"), [(1, 8, 1), (8, 8, 8), (9, 8, 5), (12, 8, 6), (17, 8, 6), (0, 8, 1)]
)
def test_batches_are_even(count: int, most: int, size: int) -> None:
    assert even_size(count, most) == size
    assert filled("ab", 4) == ["a", "b", "b", "b"]
