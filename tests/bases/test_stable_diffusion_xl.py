"""Stable Diffusion XL, held against the stock pipelines of diffusers and a step written by hand."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import ControlNetModel, DDIMScheduler, StableDiffusionXLControlNetPipeline, StableDiffusionXLPipeline
from PIL import Image
from safetensors.torch import load_file, save_file
from typer.testing import CliRunner

from controlmill.__main__ import app
from controlmill.bases.base import Base
from controlmill.bases.controlnet_file import to_original
from controlmill.bases.registry import load_base, read_facts
from controlmill.bases.sampling import Control, Denoising
from controlmill.evaluation.sampling.sampler import start_noise
from controlmill.schemas.errors import MillError
from controlmill.training.step import sample_losses
from tests.training_runs import EVALUATED, begin, equal, losses, make_inputs, resumed, short_config, weights

CPU = torch.device("cpu")
PROMPTS = ["a red circle", "a blue square on green"]


@pytest.fixture(scope="module")
def base(small_xl: Path) -> Base:
    return load_base(str(small_xl), CPU)


@pytest.fixture(scope="module")
def controlnet(base: Base) -> ControlNetModel:
    """One whose connections are not zero."""
    made: ControlNetModel = base.make_controlnet("gaussian", 0)
    return made.requires_grad_(False).eval()


@pytest.fixture
def copied(small_xl: Path, tmp_path: Path) -> Path:
    return shutil.copytree(small_xl, tmp_path / "base")


def changed(file: Path, **values: Any) -> None:
    file.write_text(json.dumps({**json.loads(file.read_text()), **values}))


def stock(folder: Path, controlnet: ControlNetModel | None) -> Any:
    """The pipeline as its documentation loads it, with DDIM."""
    kind = StableDiffusionXLPipeline if controlnet is None else StableDiffusionXLControlNetPipeline
    given = {} if controlnet is None else {"controlnet": controlnet}
    pipeline = kind.from_pretrained(folder, dtype=torch.float32, add_watermarker=False, **given)
    pipeline.scheduler = DDIMScheduler.from_config(pipeline.scheduler.config, clip_sample=False)
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


@pytest.mark.parametrize("controlled", [True, False])
@pytest.mark.parametrize("negative", ["", "yellow"])
def test_a_sample_is_that_of_the_stock_pipeline(
    negative: str, controlled: bool, base: Base, small_xl: Path, controlnet: ControlNetModel
) -> None:
    latents = start_noise(base, [(0, 0), (0, 1)], 0, 32, 48)
    maps = torch.rand(2, 3, 32, 48, generator=torch.Generator().manual_seed(0))
    controls = [Control(controlnet, maps, 0.7)] if controlled else []
    found = base.sample(
        base.encode_prompts(PROMPTS), base.encode_prompts([negative] * 2), controls, latents, Denoising(steps=3)
    )
    given = {"image": maps, "controlnet_conditioning_scale": 0.7} if controlled else {}
    want = stock(small_xl, controlnet if controlled else None)(
        PROMPTS,
        negative_prompt=[negative] * 2 if negative else None,
        latents=latents,
        height=32,
        width=48,
        num_inference_steps=3,
        output_type="latent",
        **given,
    ).images
    torch.testing.assert_close(found, want, atol=1e-5, rtol=0)


def test_a_loss_is_that_of_a_step_written_by_hand(small_xl: Path, scenes_folder: Path, tmp_path: Path) -> None:
    """As a step of diffusers' ``train_controlnet_sdxl.py``, with zeros for the empty prompt."""
    trainer = begin(scenes_folder, tmp_path / "run", short_config(small_xl, connection="gaussian", prompt_dropout=0.5))
    base, config = trainer.base, trainer.config
    samples = next(trainer.prepared.loader(config).batches())
    inputs = make_inputs(base, samples, trainer.prepared.condition, config)
    drawn = next(trainer._batches(None))[0]
    pipeline = stock(small_xl, trainer.trained.controlnet)
    texts, _, pooled, _ = pipeline.encode_prompt(drawn.prompts, do_classifier_free_guidance=False)
    said = torch.tensor([bool(prompt) for prompt in drawn.prompts])
    assert 0 < int(said.sum()) < len(samples)
    texts, pooled = texts * said[:, None, None], pooled * said[:, None]
    height, width = inputs.control.shape[2:]
    added = {"text_embeds": pooled, "time_ids": torch.tensor([[height, width, 0, 0, height, width]] * len(samples))}
    noisy = pipeline.scheduler.add_noise(inputs.latents, inputs.noise, inputs.t)
    with torch.no_grad():
        down, mid = pipeline.controlnet(
            noisy, inputs.t, texts, inputs.control, added_cond_kwargs=added, return_dict=False
        )
        predicted = pipeline.unet(
            noisy,
            inputs.t,
            texts,
            added_cond_kwargs=added,
            down_block_additional_residuals=down,
            mid_block_additional_residual=mid,
        ).sample
        found = sample_losses(base, trainer.denoiser, inputs, config)
    want = (predicted - inputs.noise).square().mean(dim=(1, 2, 3))
    torch.testing.assert_close(found, want, atol=1e-5, rtol=1e-5)


def test_zeros_stand_for_the_empty_prompt_where_the_base_says_so(base: Base, copied: Path) -> None:
    found = base.encode_prompts(["", "red"])
    for tensor in found.values():
        assert not tensor[0].any()
        assert tensor[1].any()
    changed(copied / "model_index.json", force_zeros_for_empty_prompt=False)
    assert load_base(str(copied), CPU).encode_prompts([""])["pooled"].any()


def test_the_projection_of_the_second_text_is_part_of_what_identifies_it(base: Base, copied: Path) -> None:
    record = read_facts(str(copied)).encoder_record("embeddings")
    assert (record["width"], record["tokens"]) == (96, 24)
    file = copied / "text_encoder_2/model.safetensors"
    weights = load_file(file)
    weights["text_projection.weight"][0, 0] += 1
    save_file(weights, file, {"format": "pt"})
    facts = read_facts(str(copied))
    assert facts.encoder_digest("embeddings") != record["sha256"]
    assert facts.fingerprint() != base.fingerprint()
    assert facts.encoder_digest("latents") == base.facts.encoder_digest("latents")


@pytest.mark.parametrize(
    ("file", "values", "said"),
    [
        ("text_encoder_2", {"projection_dim": 40}, "projection_class_embeddings_input_dim is 96, not 88"),
        ("text_encoder_2", {"hidden_size": 32}, "cross_attention_dim is 96, not 64"),
        ("unet", {"addition_embed_type": None}, "addition_embed_type is None, not text_time"),
        ("unet", {"in_channels": 9}, "bases for inpainting"),
        ("vae", {"latents_mean": [0.0] * 4}, "its latents have a mean and a deviation"),
    ],
)
def test_a_base_whose_parts_do_not_fit_is_refused_from_its_configuration(
    file: str, values: dict[str, Any], said: str, copied: Path
) -> None:
    changed(copied / file / "config.json", **values)
    with pytest.raises(MillError, match=said):
        read_facts(str(copied))


def test_a_controlnet_of_another_family_is_refused(
    base: Base, controlnet: ControlNetModel, small_base: Path, tmp_path: Path
) -> None:
    controlnet.save_pretrained(tmp_path / "xl")
    with pytest.raises(MillError, match="its cross_attention_dim is 96, the base's 32"):
        read_facts(str(small_base)).check_controlnet(str(tmp_path / "xl"), "it")
    config = tmp_path / "xl" / "config.json"
    changed(config, transformer_layers_per_block=[1, 1])
    with pytest.raises(MillError, match="transformer_layers_per_block"):
        base.facts.check_controlnet(str(tmp_path / "xl"), "it")


@pytest.mark.parametrize("named", [to_original, lambda weights, _: dict(weights)], ids=["original", "diffusers"])
def test_a_controlnet_in_one_file_is_read(
    named: Callable[..., dict[str, torch.Tensor]], base: Base, controlnet: ControlNetModel, tmp_path: Path
) -> None:
    file = tmp_path / "control.safetensors"
    save_file(named(controlnet.state_dict(), controlnet.config), file, {"format": "pt"})
    base.facts.check_controlnet(str(file), "it")
    read = base.load_controlnet(str(file)).state_dict()
    for name, tensor in controlnet.state_dict().items():
        assert torch.equal(read[name], tensor)


def test_a_run_is_trained_resumed_and_sampled_and_its_card_draws_a_picture(
    small_xl: Path, scenes_folder: Path, tmp_path: Path
) -> None:
    run, photo = tmp_path / "run", tmp_path / "map.png"
    begin(scenes_folder, run, short_config(small_xl, **EVALUATED, evaluation_samples=1)).train()
    begun = weights(run)
    resumed(run, steps=3).train()
    assert len(losses(run)) == 3
    assert not equal(begun, weights(run))
    Image.new("RGB", (64, 64)).save(photo)
    words = ["--control", str(photo), "--prompt", "a prompt", "--steps", "1", "--out", str(tmp_path / "o.png")]
    done = CliRunner().invoke(app, ["sample", str(run), *words])
    assert done.exit_code == 0, done.output
    assert Image.open(tmp_path / "o.png").height == 64
    code = (run / "README.md").read_text().split("```python\n")[1].split("```")[0]
    assert "pipeline = StableDiffusionXLControlNetPipeline" in code
    assert "safety_checker" not in code
    for said, here in (("this/folder", run), ('"xl"', f'"{small_xl}"'), ("map.png", photo)):
        code = code.replace(said, str(here))
    found: dict[str, Any] = {}
    exec(code, found)
    assert found["image"].size == (64, 64)
