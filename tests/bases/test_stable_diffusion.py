"""What a base is known by, and that it samples alike with and without a ControlNet."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from diffusers import EulerDiscreteScheduler
from safetensors.torch import load_file, save_file

from controlmill.bases.base import Base
from controlmill.bases.controlnet import make_controlnet
from controlmill.bases.registry import load_base, read_facts
from controlmill.evaluation.sampling.sampler import sample_pictures, start_noise
from controlmill.schemas.errors import MillError


@pytest.fixture
def copied(small_base: Path, tmp_path: Path) -> Path:
    """A copy of the small base, to be changed."""
    return shutil.copytree(small_base, tmp_path / "base")


def base_in(folder: Path) -> Base:
    return load_base(str(folder), torch.device("cpu"))


def test_an_untrained_controlnet_changes_no_sample_whatever_scheduler_the_base_was_saved_with(copied: Path) -> None:
    shutil.rmtree(copied / "scheduler")
    EulerDiscreteScheduler(beta_schedule="scaled_linear").save_pretrained(copied / "scheduler")
    base = base_in(copied)
    start = start_noise(base, [(0, 0)], 0, 32, 32)
    controlnet = make_controlnet(base.denoiser, "zero", base.facts.vae_factor, 3, 0)
    control = np.ones((1, 3, 32, 32), np.float32)
    floor = sample_pictures(base, None, ["a house"], None, start, 2, 3.0)
    np.testing.assert_array_equal(floor, sample_pictures(base, controlnet, ["a house"], control, start, 2, 3.0))


def test_a_base_that_differs_in_anything_has_another_fingerprint(copied: Path) -> None:
    found = [base_in(copied).fingerprint()]
    scheduler = copied / "scheduler/scheduler_config.json"
    scheduler.write_text(json.dumps({**json.loads(scheduler.read_text()), "prediction_type": "v_prediction"}))
    found.append(base_in(copied).fingerprint())
    weights = copied / "unet/diffusion_pytorch_model.safetensors"
    tensors = load_file(weights)
    tensors["conv_out.weight"].view(-1)[5] += 1
    save_file(tensors, weights)
    found.append(base_in(copied).fingerprint())
    assert len(set(found)) == 3


@pytest.mark.parametrize("prediction", ["sample", "flow_prediction"])
def test_a_base_that_predicts_something_else_is_refused(prediction: str, copied: Path) -> None:
    config = copied / "scheduler/scheduler_config.json"
    config.write_text(json.dumps({**json.loads(config.read_text()), "prediction_type": prediction}))
    with pytest.raises(MillError, match=rf"predicts '{prediction}'; supported are epsilon and v_prediction"):
        base_in(copied)


def test_a_base_for_inpainting_is_refused(copied: Path) -> None:
    config = copied / "unet/config.json"
    config.write_text(json.dumps({**json.loads(config.read_text()), "in_channels": 9}))
    with pytest.raises(MillError, match="inpainting"):
        read_facts(str(copied))


@pytest.mark.parametrize(("part", "name"), [("unet", "diffusion_pytorch_model"), ("text_encoder", "model")])
def test_pickled_weights_of_a_base_are_not_taken(part: str, name: str, copied: Path) -> None:
    (copied / part / f"{name}.safetensors").unlink()
    torch.save({}, copied / part / ("pytorch_model.bin" if name == "model" else f"{name}.bin"))
    with pytest.raises(
        MillError, match=rf"its {part} cannot be loaded .*from \.safetensors files; pickled ones"
    ) as found:
        base_in(copied)
    assert "\n" not in str(found.value)


@pytest.mark.parametrize("text", ["[]", "{", '{"guidance": "3"}', "[" * 100_000])
def test_a_card_of_guidance_from_elsewhere(text: str, copied: Path) -> None:
    (copied / "guidance.json").write_text(text)
    with pytest.raises(MillError, match=r"guidance\.json: "):
        base_in(copied)
