"""The commands train and sample: what they offer, and bad use."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
from typer.testing import CliRunner

from controlmill.__main__ import app
from controlmill.schemas.errors import MillError
from controlmill.training.commands import sample, train
from controlmill.training.config import TrainConfig


def test_help_names_every_setting() -> None:
    text = CliRunner().invoke(app, ["train", "--help"], env={"COLUMNS": "200"}).output
    assert all(f"--{name.replace('_', '-')}" in text for name in TrainConfig.__annotations__)


def test_packages_of_training_that_are_not_installed(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(MillError, match=r"accelerate, tensorboard, matplotlib: pip install '\.\[train\]' in"):
        train("dataset", tmp_path / "never", recipe=None, resume=False, estimate=False, condition="canny")


def test_what_sample_is_asked_for(nothing_loads: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("controlmill.evaluation.sample.draw", None)
    with pytest.raises(MillError) as found:
        sample(tmp_path, out=tmp_path / "x.xyz", count=0, seed=-1, steps=-1, guidance=math.nan)
    assert str(found.value).split("\n  ") == [
        "--count is 1 or more, not 0",
        "--seed is 0 or more, not -1",
        "--steps is 0 or more, not -1",
        "--guidance-scale is a finite number, not nan",
        f"--out {tmp_path / 'x.xyz'}: the name ends in one of .png, .jpg, .jpeg, .webp",
    ]
