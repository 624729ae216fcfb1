"""Bases in one .safetensors file: the same base as the folder it was made from, and clear errors where they are not."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import AutoencoderKL, StableDiffusionPipeline, StableDiffusionXLPipeline
from PIL import Image
from safetensors.torch import load_file, save_file
from typer.testing import CliRunner

from controlmill.__main__ import app
from controlmill.bases import single_file
from controlmill.bases.loading import load_part
from controlmill.bases.registry import load_base, read_facts
from controlmill.schemas.errors import MillError
from controlmill.training import start
from tests.bases.original_layout import original_layout
from tests.helpers import command, digests
from tests.training_runs import MakeConfig, TrainRun


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


def test_a_file_of_xl_is_the_same_base_as_its_folder(small_xl: Path, tmp_path: Path) -> None:
    pipeline = StableDiffusionXLPipeline.from_pretrained(small_xl, add_watermarker=False)
    torch.manual_seed(1)
    pipeline.vae = AutoencoderKL.from_config({**pipeline.vae.config, "mid_block_add_attention": True})
    folder, file = tmp_path / "folder", tmp_path / "model.safetensors"
    pipeline.save_pretrained(folder)
    for part in ("tokenizer", "tokenizer_2"):
        shutil.copytree(small_xl / part, folder / part, dirs_exist_ok=True)
    save_file(original_layout(pipeline), file)
    shutil.copytree(folder, tmp_path / "model", ignore=shutil.ignore_patterns("*.safetensors"))
    one, other = (load_base(str(name), torch.device("cpu")) for name in (folder, file))
    for part, network in one.networks.items():
        ours, theirs = network.state_dict(), other.networks[part].state_dict()
        assert ours.keys() == theirs.keys()
        assert all(torch.equal(ours[key], theirs[key]) for key in ours)
    assert one.fingerprint() == other.fingerprint()
    shutil.rmtree(tmp_path / "model" / "text_encoder_2")
    shutil.rmtree(tmp_path / "model" / "tokenizer_2")
    with pytest.raises(MillError, match=r"beside it has no text_encoder_2/config\.json, tokenizer_2/"):
        read_facts(str(file))


@pytest.fixture
def loaded(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The parts of files, in the order in which they are loaded."""
    load, found = StableDiffusionPipeline.from_single_file, list[str]()

    def note(*given: Any, **parts: Any) -> Any:
        found.extend(part for part in ("unet", "vae", "text_encoder") if part not in parts)
        return load(*given, **parts)

    monkeypatch.setattr(StableDiffusionPipeline, "from_single_file", note)
    return found


@pytest.fixture
def copied(file: Path, tmp_path: Path) -> Path:
    """The file under another name, so that nothing of it is loaded yet."""
    shutil.copytree(file.with_suffix(""), tmp_path / "copy")
    return shutil.copy(file, tmp_path / "copy.safetensors")


def test_a_file_is_loaded_once_for_its_digests_and_to_run(copied: Path, folder: Path, loaded: list[str]) -> None:
    facts = read_facts(str(copied))
    assert facts.encoder_digest("latents") == read_facts(str(folder)).encoder_digest("latents")
    assert loaded == ["vae"]
    base = facts.load(torch.device("cpu"), "bf16", trainable=True)
    assert base.fingerprint() == load_base(str(folder), torch.device("cpu")).fingerprint()
    assert loaded == ["vae", "unet", "text_encoder"]
    facts.load(torch.device("cpu"))  # what runs already is not given away twice
    assert sorted(loaded[3:]) == ["text_encoder", "unet", "vae"]
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
    monkeypatch.setattr("controlmill.bases.single_file.load_network", None)
    monkeypatch.setattr("diffusers.loaders.single_file.load_single_file_checkpoint", None)
    flags = ["--condition", "canny", "--base", str(file), "--estimate", "--held-out", "0", "--device", "cpu"]
    done = CliRunner().invoke(app, ["train", str(scenes_folder), str(tmp_path / "run"), *flags], catch_exceptions=False)
    assert done.exit_code == 0, done.output
    assert not (tmp_path / "run").exists()


def test_a_file_makes_the_caches_that_its_folder_makes(folder: Path, file: Path, dataset: Path, tmp_path: Path) -> None:
    of_folder, of_file = (shutil.copytree(dataset, tmp_path / name) for name in ("folder", "file"))
    for made, base in ((of_folder, folder), (of_file, file)):
        done = command("encode", str(made), "--base", str(base), "--text")
        assert done.returncode == 0, done.stderr
    assert digests(of_folder) == digests(of_file)


def test_caches_of_a_file_take_no_unet_into_memory(copied: Path, loaded: list[str]) -> None:
    facts = read_facts(str(copied))
    for table in ("latents", "embeddings"):
        facts.encoder_digest(table)
    encoders = [load_part(str(copied), part) for part in ("vae", "text_encoder")]
    assert loaded == ["vae", "text_encoder"]
    assert not any(encoder.training for encoder in encoders)
    assert not any(weight.requires_grad for encoder in encoders for weight in encoder.parameters())


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
    refiner = {"conditioner.embedders.0.model.transformer.resblocks.9.mlp.c_proj.bias": torch.zeros(1)}
    refused(changed(file, tmp_path / "x.safetensors", **refiner), "it looks like xl_refiner")


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
    monkeypatch.setattr("controlmill.bases.single_file.load_network", None)
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
