"""The commands train and sample: what they offer, and bad use."""

from __future__ import annotations

from pathlib import Path

import pytest
from typer.testing import CliRunner

from controlmill.__main__ import app
from controlmill.schemas.errors import MillError
from controlmill.training.commands import train
from controlmill.training.config import TrainConfig


def test_help_names_every_setting() -> None:
    text = CliRunner().invoke(app, ["train", "--help"], env={"COLUMNS": "200"}).output
    assert all(f"--{name.replace('_', '-')}" in text for name in TrainConfig.__annotations__)


def test_packages_of_training_that_are_not_installed(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(MillError, match=r"accelerate, tensorboard, matplotlib: pip install '\.\[train\]' in"):
        train("dataset", tmp_path / "never", {"condition": "canny"})


def test_what_sample_is_asked_for(nothing_loads: None, tmp_path: Path) -> None:
    words = ["--out", "x.xyz", "--count", "0", "--seed", "-1", "--steps", "-1", "--guidance-scale", "nan"]
    done = CliRunner().invoke(app, ["sample", str(tmp_path), *words])
    assert isinstance(done.exception, MillError)
    assert str(done.exception).split("\n  ") == [
        "--steps -1: must be 0 or more",
        "--guidance-scale nan: must be a finite number",
        "--seed -1: must be from 0 to below 2**63",
        "--count 0: must be 1 or more",
        "--out x.xyz: the name must end in one of .png, .jpg, .jpeg, .webp",
    ]


def test_a_setting_of_a_recipe_is_turned_off_by_a_flag(scenes_folder: Path, tmp_path: Path) -> None:
    (tmp_path / "mine.toml").write_text('condition = "canny"\nconnection = "lite"\nonly_mid_control = true\n')
    words = ["train", str(scenes_folder), str(tmp_path / "run"), "--recipe", str(tmp_path / "mine.toml"), "--estimate"]
    refused = CliRunner().invoke(app, words)
    assert "--only-mid-control needs the copied encoder" in str(refused.exception)
    done = CliRunner().invoke(app, [*words, "--no-only-mid-control", "--device", "cpu"])
    assert done.exception is None, done.exception


def test_training_names_its_base_first(scenes_folder: Path, small_base: Path, tmp_path: Path) -> None:
    words = ["--condition", "canny", "--base", str(small_base), "--steps", "1", "--held-out", "0", "--device", "cpu"]
    done = CliRunner().invoke(app, ["train", str(scenes_folder), str(tmp_path / "run"), *words])
    assert done.exception is None, done.exception
    assert done.stderr.splitlines()[0] == f"base: {small_base} (64x64)"


def test_an_estimate_names_the_base_and_says_where_pictures_are_of_another_size(scenes_folder: Path) -> None:
    words = ["--condition", "canny", "--crop-size", "32", "--estimate", "--device", "cpu"]
    lines = CliRunner().invoke(app, ["train", str(scenes_folder), "never", *words]).stderr.splitlines()
    assert lines[0] == "base: tiny (64x64, a toy; --base chooses another)"
    assert "pictures are 32x32, and the base was trained on 64x64: it may sample them badly" in lines
