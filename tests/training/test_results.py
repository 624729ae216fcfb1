"""What a run leaves behind: checkpoints for diffusers, exports, looks at held-out rows, pictures; and bad use."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import ControlNetModel, MultiControlNetModel, StableDiffusionControlNetPipeline, UNet2DConditionModel
from PIL import Image
from safetensors.torch import load_file
from typer.testing import CliRunner

from controlmill.__main__ import app
from controlmill.bases.controlnet import LiteControlNet, zero_convolutions
from controlmill.schemas.errors import MillError
from controlmill.training import export, start
from controlmill.training.config import TrainConfig, make_config, read_recipe
from controlmill.training.run import checkpoint
from controlmill.training.run.log import RunLog, read_log
from tests.small_base import small_unet
from tests.training_runs import MakeConfig, TrainRun

WEIGHTS = "diffusion_pytorch_model.safetensors"


@pytest.fixture
def run(train_run: TrainRun, short_config: MakeConfig, tmp_path: Path) -> Path:
    """A finished run with looks; its connections are made large, so that control shows."""
    config = short_config(
        steps=2,
        held_out=0.2,
        evaluation_rows=6,
        evaluation_samples=3,
        sampling_steps=2,
        evaluation_budget=0.0,
        evaluate_every=1,
    )
    train_run(tmp_path / "run", config)
    return tmp_path / "run"


# diffusers


def test_the_stock_pipeline_runs_with_a_checkpoint(run: Path, small_base: Path) -> None:
    controlnet = ControlNetModel.from_pretrained(run)
    pipeline = StableDiffusionControlNetPipeline.from_pretrained(
        small_base, controlnet=controlnet, dtype=torch.float32, safety_checker=None
    )
    picture = Image.new("RGB", (64, 64))
    made = pipeline("a red circle", image=picture, num_inference_steps=2, guess_mode=True, output_type="np").images
    assert made.shape == (1, 64, 64, 3)


def test_two_controlnets_add_up_in_the_stock_pipeline(run: Path, small_base: Path) -> None:
    one, two = (ControlNetModel.from_pretrained(run) for _ in range(2))
    for controlnet in (one, two):
        for convolution in zero_convolutions(controlnet):
            torch.nn.init.normal_(convolution.weight, std=0.2)
    pipeline = StableDiffusionControlNetPipeline.from_pretrained(
        small_base, controlnet=MultiControlNetModel([one, two]), dtype=torch.float32, safety_checker=None
    )
    picture = Image.fromarray(np.random.default_rng(0).integers(0, 255, (64, 64, 3), np.uint8))
    options = {"num_inference_steps": 2, "output_type": "np"}

    def sample(scales: list[float]) -> np.ndarray:
        generator = torch.Generator().manual_seed(0)
        images = [picture, picture]
        return pipeline("a", image=images, controlnet_conditioning_scale=scales, generator=generator, **options).images

    assert not np.allclose(sample([1.0, 1.0]), sample([1.0, 0.0]))


def test_a_lite_checkpoint_loads_and_runs(
    train_run: TrainRun, short_config: MakeConfig, tmp_path: Path, small_base: Path
) -> None:
    train_run(tmp_path / "lite", short_config(steps=2, connection="lite"))
    loaded = LiteControlNet.from_pretrained(tmp_path / "lite")
    saved = load_file(tmp_path / "lite" / "diffusion_pytorch_model.safetensors")
    assert all(torch.equal(value, saved[name]) for name, value in loaded.state_dict().items())
    pipeline = StableDiffusionControlNetPipeline.from_pretrained(
        small_base, controlnet=loaded, dtype=torch.float32, safety_checker=None
    )
    assert pipeline("a", image=Image.new("RGB", (64, 64)), num_inference_steps=2).images[0].size == (64, 64)


def test_an_unlocked_base_is_saved_and_loads(train_run: TrainRun, short_config: MakeConfig, tmp_path: Path) -> None:
    trainer = train_run(tmp_path / "run", short_config(steps=2, unlock="decoder"))
    loaded = UNet2DConditionModel.from_pretrained(tmp_path / "run" / "unet")
    trained = trainer.base.unet.state_dict()
    assert all(torch.equal(value, trained[name]) for name, value in loaded.state_dict().items())


# the log


def test_a_disk_that_is_full_when_a_run_goes_on_takes_no_history(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lines = [{"step": step, "loss": 0.5} for step in range(1, 5)] + [{"step": 2, "look_failed": "why"}]
    (tmp_path / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))

    def full(path: Path, text: str, **how: Any) -> None:
        path.write_bytes(text[:5].encode())
        raise OSError("No space left on device")

    with monkeypatch.context() as patch, pytest.raises(OSError, match="No space"):
        patch.setattr("pathlib.Path.write_text", full)
        RunLog(tmp_path, 3)
    assert read_log(tmp_path) == lines
    RunLog(tmp_path, 3).close()
    assert read_log(tmp_path) == [line for line in lines if line["step"] <= 3]


def test_the_log_is_json_also_where_numbers_are_none(tmp_path: Path) -> None:
    log = RunLog(tmp_path, 0)
    log.write({"step": 1, "norm": float("inf"), "loss": 0.5, "fraction": float("nan")})
    log.close()
    assert (tmp_path / "metrics.jsonl").read_text() == '{"step": 1, "norm": null, "loss": 0.5, "fraction": null}\n'
    assert np.isnan([read_log(tmp_path)[0][name] for name in ("norm", "fraction")]).all()


# export


def test_export_round_trip_through_diffusers(tmp_path: Path) -> None:
    made = ControlNetModel.from_unet(small_unet())  # diffusers reads embeddings of four levels only: factor 8
    for convolution in zero_convolutions(made):
        torch.nn.init.normal_(convolution.weight)
    made.save_pretrained(tmp_path / "made")
    out = tmp_path / "original.safetensors"
    export.export_weights(tmp_path / "made", out, "original", "fp32")
    loaded = ControlNetModel.from_single_file(str(out), config=str(tmp_path / "made"), local_files_only=True)
    assert loaded.state_dict().keys() == made.state_dict().keys()
    assert all(torch.equal(value, made.state_dict()[name]) for name, value in loaded.state_dict().items())


def test_export_of_a_tiny_run_loses_no_weight(run: Path, tmp_path: Path) -> None:
    out = tmp_path / "original.safetensors"
    export.export_weights(run, out, "original", "fp32")
    saved = load_file(run / "diffusion_pytorch_model.safetensors")
    exported = load_file(out)
    config = ControlNetModel.load_config(run)
    back = {theirs: ours for ours, theirs in export.original_modules(config).items()}
    assert len(back) == len(export.original_modules(config))
    for key, value in exported.items():
        module, _, kind = key.removeprefix("control_model.").rpartition(".")
        module, _, rest = (module, "", "") if module in back else _split(module, back)
        assert torch.equal(value, saved[".".join(part for part in (back[module], rest, kind) if part)])
    assert len(exported) == len(saved)


def _split(module: str, known: Any) -> tuple[str, str, str]:
    parts = module.split(".")
    at = next(n for n in range(len(parts), 0, -1) if ".".join(parts[:n]) in known)
    return ".".join(parts[:at]), ".", ".".join(parts[at:])


def test_exported_keys_of_stable_diffusion_are_the_original_ones() -> None:
    with torch.device("meta"):
        model = ControlNetModel(cross_attention_dim=768)
    keys = export.to_original(model.state_dict(), model.config).keys()
    assert len(keys) == len(model.state_dict()) == 340
    for key in (
        "input_blocks.0.0.weight",
        "input_blocks.1.1.transformer_blocks.0.attn1.to_q.weight",
        "input_blocks.3.0.op.weight",
        "input_blocks.11.0.in_layers.2.weight",
        "input_hint_block.14.weight",
        "middle_block.1.proj_in.weight",
        "middle_block.2.out_layers.3.bias",
        "middle_block_out.0.weight",
        "time_embed.2.bias",
        "zero_convs.11.0.weight",
    ):
        assert f"control_model.{key}" in keys


def test_what_no_web_interface_can_load_is_said(run: Path, tmp_path: Path) -> None:
    small = CliRunner().invoke(app, ["export-weights", str(run), "--out", str(tmp_path / "small.safetensors")])
    assert "note: no web interface can load this" in small.output
    assert (tmp_path / "small.safetensors").stat().st_mode == (run / "run.json").stat().st_mode  # as the umask says
    assert not list(tmp_path.glob("*~"))
    for width in (768, 1024):
        unet = UNet2DConditionModel.load_config(run / "config.json") | {"cross_attention_dim": width}
        large = {"block_out_channels": (320, 640, 1280, 1280), "conditioning_embedding_out_channels": (16, 32, 96, 256)}
        assert export.unreadable({**unet, **large}) == ""


def test_export_in_half_precision_keeps_diffusers_names(run: Path, tmp_path: Path) -> None:
    export.export_weights(run, tmp_path / "half.safetensors", "diffusers", "fp16")
    assert {value.dtype for value in load_file(tmp_path / "half.safetensors").values()} == {torch.float16}


# looks


def test_looks_measure_from_floor_to_ceiling_and_draw(run: Path) -> None:
    looked = [line for line in read_log(run) if "gain" in line]
    assert [line["step"] for line in looked] == [0, 1, 2]
    first = looked[0]
    assert first["gain"] == first["benefit"] == 0  # zero convolutions
    assert first["fidelity"] == first["floor"]
    assert first["held_out_loss"] == first["base_loss"]
    assert looked[2]["benefit"] != 0
    for name in ("curves.png", "probes/00000002.png"):
        assert np.asarray(Image.open(run / name)).std() > 0
    assert json.loads((run / "convergence.json").read_text()).keys() == {"converged"}


def test_looking_changes_no_weight(run: Path, train_run: TrainRun, short_config: MakeConfig, tmp_path: Path) -> None:
    train_run(tmp_path / "blind", short_config(steps=2, held_out=0.2, evaluation_samples=0, evaluate_every=100))
    a, b = (load_file(r / "diffusion_pytorch_model.safetensors") for r in (run, tmp_path / "blind"))
    assert all(torch.equal(a[name], b[name]) for name in a)


def test_the_last_checkpoints_are_kept_and_half_written_ones_ignored(
    train_run: TrainRun, short_config: MakeConfig, tmp_path: Path
) -> None:
    train_run(tmp_path / "run", short_config(steps=5, checkpoint_every=1, keep_checkpoints=2))
    (tmp_path / "run" / "checkpoints" / "00000009").mkdir()
    (tmp_path / "run" / "checkpoints" / "00000008.partial").mkdir()
    assert checkpoint.steps_saved(tmp_path / "run") == [4, 5]
    offered, last = tmp_path / "run", tmp_path / "run" / "checkpoints" / "00000005" / "controlnet"
    assert (offered / WEIGHTS).samefile(last / WEIGHTS)


def test_sample_annotates_a_photo_and_draws(run: Path, tmp_path: Path) -> None:
    photo = tmp_path / "photo.jpg"
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (90, 120, 3), np.uint8)).save(photo)
    arguments = [
        "sample",
        str(run),
        "--image",
        str(photo),
        "--prompt",
        "a red circle",
        "--out",
        str(tmp_path / "o.png"),
    ]
    done = CliRunner().invoke(app, [*arguments, "--count", "2", "--device", "cpu"], catch_exceptions=False)
    assert done.exit_code == 0
    assert Image.open(tmp_path / "o_1.png").size == Image.open(tmp_path / "o_control.png").size == (64, 64)


# bad use


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"condition": "sketch"}, "no condition 'sketch'"),
        ({"only_mid_control": True, "connection": "lite"}, "--only-mid-control needs"),
        ({"connection": "wrong"}, "--connection wrong: one of zero, gaussian, lite"),
        ({"base": "./nowhere"}, "no such file or folder"),
        ({"base": "nobody/nothing-at-all"}, "not found here"),
        ({"base": "model.ckpt"}, "can run code"),
        ({"where": ["width > 1000"]}, "no rows are left"),
        ({"crop_size": 20}, "multiples of 8"),
        ({"start_from": "./nowhere"}, "no ControlNet there"),
        ({"prompt_dropout": 1.5, "steps": 0}, "--prompt-dropout"),
        ({"ema_decay": 0.9, "unlock": "decoder"}, "--ema-decay averages the ControlNet alone"),
        ({"evaluation_rows": 1}, "--evaluation-rows is 2 or more"),
    ],
)
def test_bad_use_is_found_before_weights_are_loaded(
    changes: dict[str, Any],
    said: str,
    short_config: MakeConfig,
    scenes_folder: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("diffusers.ModelMixin.from_pretrained", None)
    monkeypatch.setattr("controlmill.annotators.runtime.weights.hub_answers", lambda: False)
    with pytest.raises(MillError, match=said):
        start.begin(str(scenes_folder), tmp_path / "run", short_config(**changes))
    assert not (tmp_path / "run").exists()


def test_a_controlnet_of_another_base_is_refused(short_config: MakeConfig, scenes_folder: Path, tmp_path: Path) -> None:
    with torch.device("cpu"):
        other = ControlNetModel.from_unet(small_unet(), conditioning_embedding_out_channels=(16, 32, 96, 256))
    other.save_pretrained(tmp_path / "other")
    with pytest.raises(MillError, match="VAE of factor 8, not 4"):
        start.begin(str(scenes_folder), tmp_path / "run", short_config(start_from=str(tmp_path / "other")))
    other.register_to_config(cross_attention_dim=768)
    other.save_config(tmp_path / "other")
    with pytest.raises(MillError, match="cross_attention_dim is 768, the base's 32"):
        start.begin(str(scenes_folder), tmp_path / "run", short_config(start_from=str(tmp_path / "other")))


def test_a_run_folder_of_other_settings_is_refused(
    train_run: TrainRun, short_config: MakeConfig, scenes_folder: Path, tmp_path: Path
) -> None:
    train_run(tmp_path / "run", short_config(steps=1))
    with pytest.raises(MillError, match=r"learning_rate: 0.001, now 0.1"):
        start.begin(str(scenes_folder), tmp_path / "run", short_config(steps=1, learning_rate=0.1))
    with pytest.raises(MillError, match="go on with --resume"):
        start.begin(str(scenes_folder), tmp_path / "run", short_config(steps=1))
    with pytest.raises(MillError, match="batch_size: 4, now 8"):
        start.resume(tmp_path / "run", {"batch_size": 8})
    with pytest.raises(MillError, match="is not a run"):
        start.resume(tmp_path / "nothing", {})


# configuration and plan


def test_recipes_hold_the_papers_settings_and_flags_go_first() -> None:
    config = make_config("paper", {"condition": "canny", "learning_rate": 2e-5, "steps": None})
    assert (config.prompt_dropout, config.connection, config.guidance_scale, config.learning_rate) == (
        0.5,
        "zero",
        9.0,
        2e-5,
    )
    for name in ("paper", "paper-small", "paper-large", "toy"):
        make_config(name, {"condition": "canny"})
    with pytest.raises(MillError, match="there are: paper, paper-large"):
        read_recipe("nothing")


def test_a_recipe_file_with_an_unknown_setting_is_refused(tmp_path: Path) -> None:
    (tmp_path / "mine.toml").write_text("speed = 3\n")
    with pytest.raises(MillError, match="no setting speed"):
        make_config(str(tmp_path / "mine.toml"), {"condition": "canny"})


def test_help_names_every_setting() -> None:
    text = CliRunner().invoke(app, ["train", "--help"], env={"COLUMNS": "200"}).output
    assert all(f"--{name.replace('_', '-')}" in text for name in TrainConfig.__annotations__)


def test_the_model_card_says_what_was_done_and_found(run: Path) -> None:
    text = (run / "README.md").read_text()
    said = json.loads((run / "run.json").read_text())
    for part in (said["fingerprint"], "2 steps of 4", "canny, random, version 1", "benefit", '"prompt_dropout": 0.5'):
        assert part in text
