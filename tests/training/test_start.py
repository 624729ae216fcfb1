"""Bad use is a clear error before anything loads: every loader of weights is cut off while these tests run."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from controlmill.bases.controlnet import make_controlnet
from controlmill.schemas.errors import MillError
from controlmill.schemas.names import shard_file
from controlmill.training import start
from controlmill.training.run.record import read_run, write_run
from tests.small_base import small_unet
from tests.training_runs import MakeConfig, TrainRun


@pytest.fixture
def refused(nothing_loads: None, scenes_folder: Path, short_config: MakeConfig, tmp_path: Path) -> Callable[..., None]:
    """Begins a run, which must fail with a message and leave no folder."""

    def begin(said: str, dataset: Path = scenes_folder, **changes: Any) -> None:
        with pytest.raises(MillError, match=said):
            start.begin(str(dataset), tmp_path / "never", short_config(**changes))
        assert not (tmp_path / "never").exists()

    return begin


def test_a_condition_that_the_dataset_lacks(refused: Callable[..., None]) -> None:
    refused(r"has no condition 'sketch'; it has: .*canny", condition="sketch")


def test_a_table_that_is_not_complete(refused: Callable[..., None], scenes_folder: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(scenes_folder, copy)
    (copy / shard_file("canny", 1)).unlink()
    refused(r"table canny is not complete \(2 of 3 shards\)", dataset=copy)


def test_an_empty_selection(refused: Callable[..., None]) -> None:
    refused("no rows are left to train on", where=["width > 1000"])


def test_a_start_checkpoint_of_another_base(refused: Callable[..., None], tmp_path: Path) -> None:
    other = make_controlnet(small_unet(), "zero", 8, 3, 0)
    other.save_pretrained(tmp_path / "other")
    refused("VAE of factor 8, not 4", start_from=str(tmp_path / "other"))
    other.register_to_config(cross_attention_dim=768)
    other.save_config(tmp_path / "other")
    refused("cross_attention_dim is 768, the base's 32", start_from=str(tmp_path / "other"))


def test_a_lite_start_checkpoint(refused: Callable[..., None], tmp_path: Path) -> None:
    make_controlnet(small_unet(), "lite", 4, 3, 0).save_pretrained(tmp_path / "lite")
    refused("holds a LiteControlNet, not a ControlNetModel", start_from=str(tmp_path / "lite"))


def test_only_mid_where_there_is_nothing_to_leave_out(refused: Callable[..., None]) -> None:
    refused(
        "--only-mid-control needs the copied encoder: not --connection lite", only_mid_control=True, connection="lite"
    )


def test_a_package_that_is_not_installed(refused: Callable[..., None], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    refused("--optimizer adamw8bit needs the package bitsandbytes", optimizer="adamw8bit")


@pytest.mark.parametrize("device", ["cpu", "auto"])
def test_half_precision_on_a_cpu(refused: Callable[..., None], device: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    refused("--precision fp16 needs a GPU; on the CPU use bf16 or fp32", precision="fp16", device=device)


def test_the_index_of_a_gpu(refused: Callable[..., None]) -> None:
    refused("--device cuda:1: training takes no index.*CUDA_VISIBLE_DEVICES=1 and --device cuda", device="cuda:1")


@pytest.mark.parametrize("name", ["FSDP", "DEEPSPEED", "MEGATRON_LM"])
def test_weights_that_accelerate_would_shard(
    name: str, refused: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(f"ACCELERATE_USE_{name}", "true")
    refused(f"ACCELERATE_USE_{name}.*every process holds all weights.*--multi_gpu")


def test_a_folder_of_weights_that_is_not_there(refused: Callable[..., None]) -> None:
    refused("--weights /no/weights: no such folder", weights="/no/weights")


def test_a_run_folder_of_other_settings(
    train_run: TrainRun, short_config: MakeConfig, scenes_folder: Path, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    train_run(tmp_path / "run", short_config(steps=1))
    request.getfixturevalue("nothing_loads")
    with pytest.raises(MillError, match=r"learning_rate: 0.001, now 0.1"):
        start.begin(str(scenes_folder), tmp_path / "run", short_config(steps=1, learning_rate=0.1))
    with pytest.raises(MillError, match="go on with --resume"):
        start.begin(str(scenes_folder), tmp_path / "run", short_config(steps=1))
    with pytest.raises(MillError, match=r"batch_size: 4, now 8\nleave them out.*; a new run with --start-from .*run"):
        start.resume(tmp_path / "run", {"batch_size": 8})
    with pytest.raises(MillError, match="is not a run"):
        start.resume(tmp_path / "nothing", {})


def test_a_run_killed_before_its_first_checkpoint_begins_again_with_what_there_is_now(
    short_config: MakeConfig, scenes_folder: Path, tmp_path: Path
) -> None:
    """Its dataset was extended, and its base moved on the hub, which are no settings of the user's."""
    run, config = tmp_path / "run", short_config()
    start.begin(str(scenes_folder), run, config)
    record = read_run(run)
    assert record
    write_run(run, replace(record, config=replace(record.config, segments="0..7")))
    with pytest.raises(MillError, match=r"segments: 0\.\.7, now 0\.\.0"):
        start.begin(str(scenes_folder), run, replace(config, segments="0..0"))
    start.begin(str(scenes_folder), run, config)
    assert read_run(run) == record


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"condition": "sketch"}, "no condition 'sketch'"),
        ({"only_mid_control": True, "connection": "lite"}, "--only-mid-control needs"),
        ({"connection": "input"}, "--connection input fine-tunes the base.*needs --unlock decoder"),
        ({"connection": "input", "unlock": "decoder", "only_mid_control": True}, "not --connection input"),
        ({"connection": "wrong"}, "--connection wrong: must be one of zero, gaussian, lite, random, input"),
        ({"base": "./nowhere"}, "no such file or folder"),
        ({"base": "nobody/nothing-at-all"}, "not found here"),
        ({"base": "model.ckpt"}, "can run code"),
        ({"where": ["width > 1000"]}, "no rows are left"),
        ({"crop_size": 20}, "--crop-size 20: must be a multiple of 8 for this base"),
        ({"start_from": "./nowhere"}, "no ControlNet there"),
        ({"prompt_dropout": 1.5, "steps": 0}, "--prompt-dropout"),
        ({"ema_decay": 0.9, "unlock": "decoder"}, "--ema-decay averages the ControlNet alone"),
        ({"evaluation_rows": 1}, "--evaluation-rows 1: must be 2 or more"),
    ],
)
def test_settings_that_cannot_be_used(changes: dict[str, Any], said: str, refused: Callable[..., None]) -> None:
    refused(said, **changes)


def test_a_run_that_cannot_go_on_is_left_as_it_was(
    train_run: TrainRun, short_config: MakeConfig, tmp_path: Path
) -> None:
    train_run(tmp_path / "run", short_config(steps=2))
    before = (tmp_path / "run" / "run.json").read_text()
    for changes in (
        {"steps": 1},
        {"device": "cuda:99"},
        {"wandb_project": "mine", "learning_rate": 0.5},
        {"evaluation_image": ["nowhere.png"]},
    ):
        with pytest.raises(MillError):
            start.resume(tmp_path / "run", changes)
        assert (tmp_path / "run" / "run.json").read_text() == before
