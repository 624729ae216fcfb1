"""One picture of a trained ControlNet for a user."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image
from typer.testing import CliRunner

from controlmill.__main__ import app


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
