"""One picture of a trained ControlNet for a user."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
from PIL import Image
from typer.testing import CliRunner

from controlmill.__main__ import app
from controlmill.training.sample import draw
from tests.training_runs import MakeConfig, TrainRun


def test_sample_annotates_a_photo_and_draws(finished_run: Path, tmp_path: Path) -> None:
    photo = tmp_path / "photo.jpg"
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (90, 120, 3), np.uint8)).save(photo)
    arguments = [
        "sample",
        str(finished_run),
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


def test_a_picture_is_drawn_in_the_runs_shape_that_is_nearest_to_the_photos(
    train_run: TrainRun, short_config: MakeConfig, tmp_path: Path
) -> None:
    run = tmp_path / "run"
    train_run(run, short_config(steps=1))
    said = json.loads((run / "run.json").read_text())
    assert said["shapes"] == [[64, 64]]
    (run / "run.json").write_text(json.dumps({**said, "shapes": [[64, 64], [32, 96], [96, 32]]}))
    for width, height, shape in ((70, 60, (64, 64)), (200, 70, (32, 96)), (60, 200, (96, 32))):
        Image.new("RGB", (width, height)).save(tmp_path / "given.png")
        for image, control in ((tmp_path / "given.png", None), (None, tmp_path / "given.png")):
            (picture,), drawn = draw(run, image, control, "a", 0, 1, 1, 2.0, "cpu")
            assert picture.shape == drawn.shape == (*shape, 3)
