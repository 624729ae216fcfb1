"""The command evaluate --pictures: another method's pictures."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from PIL import Image

from controlmill.schemas.dataset import Dataset
from controlmill.schemas.images.codecs import decode_image
from controlmill.schemas.views.verify import verify
from tests.helpers import command, places, rows


def test_pictures_of_another_method_have_the_same_measures(scenes_folder: Path, protocol: Path, tmp_path: Path) -> None:
    given = tmp_path / "theirs"
    for number, row in enumerate(rows(scenes_folder, "images")):
        mode, ending = (("RGB", "png"), ("RGBA", "png"), ("RGB", "bmp"), ("RGB", "tif"))[number % 4]
        path = given / f"{row['source'].rpartition('.')[0]}_0.{ending}"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(decode_image(row["image"]["bytes"])).convert(mode).save(path)
    next(given.rglob("*.png")).write_bytes(b"no picture")
    words = ["--pictures", str(given), str(scenes_folder), str(tmp_path / "results"), "--condition", "canny"]
    words += ["--protocol", str(protocol), "--pictures-per-row", "1", "--prompts", "user"]
    ended = command("evaluate", *words)
    assert ended.returncode == 0, ended.stderr
    assert list(verify(Dataset.open(tmp_path / "results"))) == []
    scores = rows(tmp_path / "results", "scores")
    assert len(scores) == len(places(scenes_folder)) - 1
    assert {score["f1"] for score in scores} == {1.0}, "whatever their files are, nothing is lost of them"
    (refused,) = rows(tmp_path / "results", "rejected")
    assert refused["reason"] == "not_an_image"
    assert f"f1, prompt user: 1 of {len(scores) + 1} rows have no value and count for nothing" in ended.stderr
    assert "not clearly better than chance" not in ended.stderr
    (given / "stranger.png").write_bytes(b"")
    ended = command("evaluate", *words[:3], str(tmp_path / "other"), *words[4:])
    assert ended.returncode == 1
    assert "pictures of no row of the dataset (1):\n  stranger.png" in ended.stderr
    assert not (tmp_path / "other").exists()


def test_pictures_of_the_right_kind_that_ignore_their_maps_are_at_chance(
    scenes_folder: Path, protocol: Path, tmp_path: Path
) -> None:
    images = rows(scenes_folder, "images")
    for row, other in zip(images, [*images[7:], *images[:7]], strict=True):
        path = tmp_path / "theirs" / f"{row['source'].rpartition('.')[0]}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(decode_image(other["image"]["bytes"])).save(path)
    words = ["--pictures", str(tmp_path / "theirs"), str(scenes_folder), str(tmp_path / "results")]
    words += ["--condition", "canny", "--protocol", str(protocol), "--pictures-per-row", "1", "--prompts", "user"]
    ended = command("evaluate", *words)
    assert ended.returncode == 0, ended.stderr
    record = json.loads((tmp_path / "results/results.json").read_text())
    for value in (measure["values"][0] for measure in record["measures"]):
        assert value["value"] == pytest.approx(value["chance"], abs=0.05)
        assert value["gain_low"] <= 0 <= value["gain_high"]
    assert "f1, prompt user: not clearly better than chance" in ended.stderr
