"""A step's inputs: drawn of a sample alone, whatever it is batched with."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from controlmill.bases.base import Base
from controlmill.bases.registry import load_base
from controlmill.schemas.maps.transforms import control_image
from controlmill.training import start
from tests.training_runs import MakeConfig, make_inputs


def test_noise_offset_is_constant_over_a_picture_and_differs_by_channel(
    short_config: MakeConfig, scenes_folder: Path, small_base: Path
) -> None:
    base = load_base(str(small_base), torch.device("cpu"))
    config = short_config()
    prepared = start.prepare(str(scenes_folder), config)
    samples = next(prepared.loader(config).batches())
    plain = make_inputs(base, samples, prepared.condition, config).noise
    offset = make_inputs(base, samples, prepared.condition, short_config(noise_offset=0.5)).noise - plain
    torch.testing.assert_close(offset, offset[:, :, :1, :1].expand_as(offset), atol=1e-5, rtol=0)
    assert len(offset[:, :, 0, 0].unique()) == offset.shape[0] * offset.shape[1]
    assert 0.1 < offset[:, :, 0, 0].std() < 1.5


@pytest.fixture(scope="module")
def base(small_base: Path) -> Base:
    return load_base(str(small_base), torch.device("cpu"))


def test_inputs_of_a_sample_do_not_depend_on_what_it_is_batched_with(
    short_config: MakeConfig, scenes_folder: Path, base: Base
) -> None:
    config = short_config(batch_size=6, noise_offset=0.1)
    prepared = start.prepare(str(scenes_folder), config)
    samples = next(prepared.loader(config).batches(5))
    whole = make_inputs(base, samples, prepared.condition, config)
    for part in (samples[0::2], samples[1::2]):
        some = make_inputs(base, part, prepared.condition, config)
        picked = [samples.index(sample) for sample in part]
        assert torch.equal(some.noise, whole.noise[picked])
        assert torch.equal(some.t, whole.t[picked])
        torch.testing.assert_close(some.latents, whole.latents[picked], atol=1e-5, rtol=0)


def test_prompt_dropout_is_drawn_anew_each_epoch(short_config: MakeConfig, scenes_folder: Path, base: Base) -> None:
    config = short_config(batch_size=96)
    prepared = start.prepare(str(scenes_folder), config)
    empty = base.encode_prompts([""])["embedding"][0]
    dropped = []
    for epoch, samples in zip(range(2), prepared.loader(config).batches(), strict=False):
        text = make_inputs(base, sorted(samples, key=lambda s: s.row), prepared.condition, config).prompt["embedding"]
        assert {sample.epoch for sample in samples} == {epoch}
        dropped.append([torch.allclose(row, empty, atol=1e-6) for row in text])
    assert 30 < sum(dropped[0]) < 66
    assert dropped[0] != dropped[1]


@pytest.mark.parametrize("name", ["canny", "segmentation", "depth", "normals"])
def test_what_the_device_makes_of_a_map_is_its_control_image(
    name: str, short_config: MakeConfig, scenes_folder: Path, base: Base
) -> None:
    config = short_config(condition=name)
    prepared = start.prepare(str(scenes_folder), config)
    samples = next(prepared.loader(config).batches())
    want = np.stack([control_image(prepared.condition, sample.maps[prepared.condition.name]) for sample in samples])
    assert np.array_equal(make_inputs(base, samples, prepared.condition, config).control.numpy(), want)
