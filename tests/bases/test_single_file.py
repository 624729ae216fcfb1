"""Bases in one .safetensors file: the same base as the folder it was made from, and clear errors where they are not."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import pytest
import torch
from diffusers import AutoencoderKL, StableDiffusionPipeline
from PIL import Image
from safetensors.torch import load_file, save_file
from typer.testing import CliRunner

from controlmill.__main__ import app
from controlmill.bases import single_file
from controlmill.bases.controlnet_file import RESNET, original_modules
from controlmill.bases.registry import load_base, read_facts
from controlmill.schemas.errors import MillError
from controlmill.training import start
from tests.training_runs import MakeConfig, TrainRun

VAE_NAMES = (("conv_shortcut", "nin_shortcut"), ("conv_norm_out", "norm_out"), ("group_norm", "norm"))
VAE_NAMES += (("to_q", "q"), ("to_k", "k"), ("to_v", "v"), ("to_out.0", "proj_out"))


def original_layout(pipeline: StableDiffusionPipeline) -> dict[str, torch.Tensor]:
    """A pipeline's weights under the keys of the original Stable Diffusion: what diffusers' loader undoes."""
    config = {**pipeline.unet.config, "conditioning_embedding_out_channels": (16,)}
    modules = {**original_modules(config), "conv_norm_out": "out.0", "conv_out": "out.2"}
    layers = config["layers_per_block"] + 1
    for block, kind in enumerate(config["up_block_types"]):
        for layer in range(layers):
            at, resnet = f"output_blocks.{block * layers + layer}", f"up_blocks.{block}.resnets.{layer}"
            modules |= {f"{resnet}.{part}": f"{at}.0.{name}" for part, name in RESNET.items()}
            modules[f"up_blocks.{block}.attentions.{layer}"] = f"{at}.1"
        modules[f"up_blocks.{block}.upsamplers.0.conv"] = f"{at}.{2 if 'Attn' in kind else 1}.conv"
    named = {}
    for key, value in pipeline.unet.state_dict().items():
        parts = key.split(".")
        module = next(name for n in range(len(parts), 0, -1) if (name := ".".join(parts[:n])) in modules)
        named[single_file.UNET + modules[module] + key[len(module) :]] = value
    for key, value in pipeline.vae.state_dict().items():
        name = key
        for ours, theirs in VAE_NAMES:
            name = name.replace(ours, theirs)
        name = name.replace("mid_block.attentions.0", "mid.attn_1")
        for i in (0, 1):
            name = name.replace(f"mid_block.resnets.{i}", f"mid.block_{i + 1}")
        last = len(pipeline.vae.config.block_out_channels) - 1
        for i in range(last + 1):
            name = name.replace(f"down_blocks.{i}.", f"down.{i}.").replace(f"up_blocks.{i}.", f"up.{last - i}.")
        name = name.replace("resnets", "block").replace("samplers.0", "sample")
        linear = ".attn_1." in name and value.ndim == 2  # these are 1x1 convolutions in the original
        named[single_file.VAE + name] = value[:, :, None, None] if linear else value
    for key, value in pipeline.text_encoder.state_dict().items():
        named[f"{single_file.TEXT}transformer.text_model.{key.removeprefix('text_model.')}"] = value
    return {key: value.contiguous() for key, value in named.items()}


@pytest.fixture(scope="module")
def folder(small_base: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The small base with attention in its VAE, as Stable Diffusion has."""
    pipeline = StableDiffusionPipeline.from_pretrained(small_base, safety_checker=None)
    torch.manual_seed(1)
    pipeline.vae = AutoencoderKL.from_config({**pipeline.vae.config, "mid_block_add_attention": True})
    made = tmp_path_factory.mktemp("single") / "folder"
    pipeline.save_pretrained(made)
    shutil.copytree(small_base / "tokenizer", made / "tokenizer", dirs_exist_ok=True)
    return made


@pytest.fixture(scope="module")
def file(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same base in one file, its configuration and tokenizer beside it, without weights."""
    made = tmp_path_factory.mktemp("single") / "model.safetensors"
    save_file(original_layout(StableDiffusionPipeline.from_pretrained(folder, safety_checker=None)), made)
    shutil.copytree(folder, made.with_suffix(""), ignore=shutil.ignore_patterns("*.safetensors"))
    return made


@pytest.mark.parametrize("precision", ["fp32", "bf16", "fp16"])
def test_a_file_is_the_same_base_as_the_folder_it_was_made_from(precision: str, folder: Path, file: Path) -> None:
    one, other = (load_base(str(name), torch.device("cpu"), precision) for name in (folder, file))
    for part in ("unet", "vae", "text_encoder"):
        ours, theirs = one.networks[part].state_dict(), other.networks[part].state_dict()
        assert ours.keys() == theirs.keys()
        assert all(torch.equal(ours[key], theirs[key]) and ours[key].dtype == theirs[key].dtype for key in ours)
    assert one.fingerprint() == other.fingerprint()
    prompts = [base.encode_prompts(["a red circle"])["embedding"] for base in (one, other)]
    assert torch.equal(*prompts)


def test_a_file_is_loaded_once_for_its_digests_and_to_run(file: Path, folder: Path, tmp_path: Path) -> None:
    copy = shutil.copy(file, tmp_path / "copy.safetensors")
    shutil.copytree(file.with_suffix(""), tmp_path / "copy")
    with mock.patch.object(
        StableDiffusionPipeline, "from_single_file", wraps=StableDiffusionPipeline.from_single_file
    ) as load:
        facts = read_facts(str(copy))
        assert facts.encoder_digest("latents") == read_facts(str(folder)).encoder_digest("latents")
        base = facts.load(torch.device("cpu"), "bf16", trainable=True)
        assert base.fingerprint() == load_base(str(folder), torch.device("cpu")).fingerprint()
        assert load.call_count == 1
        facts.load(torch.device("cpu"))  # what runs already is not given away twice
        assert load.call_count == 2
    assert base.networks["vae"].dtype == torch.bfloat16


def test_a_file_trains_and_samples_as_the_folder_does(
    folder: Path, file: Path, train_run: TrainRun, short_config: MakeConfig, tmp_path: Path
) -> None:
    for name, base in (("folder", folder), ("file", file)):
        train_run(tmp_path / name, short_config(base=str(base), steps=2))
    weights = [load_file(tmp_path / name / "diffusion_pytorch_model.safetensors") for name in ("folder", "file")]
    assert all(torch.equal(weights[0][key], weights[1][key]) for key in weights[0])
    out = tmp_path / "out.png"
    Image.new("L", (64, 64)).save(tmp_path / "map.png")
    command = ["sample", str(tmp_path / "file"), "--control", str(tmp_path / "map.png"), "--out", str(out)]
    done = CliRunner().invoke(app, [*command, "--steps", "2", "--device", "cpu"], catch_exceptions=False)
    assert done.exit_code == 0
    assert np.asarray(Image.open(out)).shape == (64, 64, 3)


def test_a_plan_of_a_file_loads_no_weights(
    file: Path, scenes_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("controlmill.bases.single_file.load_modules", None)
    monkeypatch.setattr("diffusers.loaders.single_file.load_single_file_checkpoint", None)
    flags = ["--condition", "canny", "--base", str(file), "--estimate", "--device", "cpu"]
    done = CliRunner().invoke(app, ["train", str(scenes_folder), str(tmp_path / "run"), *flags], catch_exceptions=False)
    assert done.exit_code == 0, done.output
    assert not (tmp_path / "run").exists()


def changed(file: Path, target: Path, **changes: Any) -> Path:
    """A copy of a file with some tensors exchanged, or left out where the new one is None."""
    tensors = {**load_file(file), **changes}
    save_file({key: value for key, value in tensors.items() if value is not None}, target)
    return target


def test_files_that_are_no_such_base_are_refused_with_what_is_wrong(
    file: Path, short_config: MakeConfig, scenes_folder: Path, tmp_path: Path
) -> None:
    def refused(path: Path, said: str) -> None:
        with pytest.raises(MillError, match=said):
            start.begin(str(scenes_folder), tmp_path / "run", short_config(base=str(path)))

    refused(tmp_path / "nothing.safetensors", "no such file")
    (tmp_path / "text.safetensors").write_text("this is no weights file")
    refused(tmp_path / "text.safetensors", "cannot be read as .safetensors")
    save_file(
        {key: v for key, v in load_file(file).items() if key.startswith(single_file.UNET)}, tmp_path / "u.safetensors"
    )
    refused(tmp_path / "u.safetensors", r"it has no first_stage_model\.\*, cond_stage_model\.\*")
    inpainting = {single_file.FIRST: torch.zeros(16, 9, 3, 3)}
    refused(changed(file, tmp_path / "i.safetensors", **inpainting), "it looks like inpainting")
    xl = {"conditioner.embedders.1.model.transformer.resblocks.9.mlp.c_proj.bias": torch.zeros(1)}
    refused(changed(file, tmp_path / "x.safetensors", **xl), "it looks like xl_base")


def test_a_file_without_configuration_says_what_to_fetch(
    file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("controlmill.annotators.runtime.hub.answers", lambda: False)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "cache"))
    alone = tmp_path / "alone.safetensors"
    shutil.copy(file, alone)
    with pytest.raises(
        MillError, match=r"unet/config.json.*stable-diffusion-v1-5/stable-diffusion-v1-5.*into the folder"
    ):
        read_facts(str(alone))
    (tmp_path / "alone").mkdir()
    with pytest.raises(MillError, match=r"beside it has no model_index.json, unet/config.json.*tokenizer/"):
        read_facts(str(alone))


def test_a_configuration_of_another_model_is_refused_before_weights_are_loaded(
    file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("controlmill.bases.single_file.load_modules", None)
    copy = tmp_path / "copy.safetensors"
    shutil.copy(file, copy)
    shutil.copytree(file.with_suffix(""), tmp_path / "copy")
    config = tmp_path / "copy" / "unet" / "config.json"
    config.write_text(json.dumps({**json.loads(config.read_text()), "cross_attention_dim": 768}))
    with pytest.raises(MillError, match="cross_attention_dim is 768, the file has 32"):
        read_facts(str(copy))


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_a_file_that_lacks_weights_is_refused(precision: str, file: Path, tmp_path: Path) -> None:
    key = f"{single_file.UNET}middle_block.0.in_layers.2.weight"
    part = changed(file, tmp_path / "part.safetensors", **{key: None})
    shutil.copytree(file.with_suffix(""), tmp_path / "part")
    with pytest.raises(MillError, match=r"do not fit the configuration|mid_block\.resnets\.0\.conv1\.weight"):
        load_base(str(part), torch.device("cpu"), precision)
