"""Exports, read by the trainers' own code. By hand: CONTROLMILL_PEERS is a folder of checkouts named as they are.

CONTROLMILL_PEERS=… pytest -m long tests/schemas/exports/test_peers.py
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import controlmill
from controlmill.schemas.images.codecs import map_picture
from controlmill.schemas.kinds import Kind
from tests.helpers import command

pytestmark = pytest.mark.long
ROOT = Path(__file__).parents[3]
KINDS: dict[str, Kind] = {"canny": "binary", "depth": "gray16", "segmentation": "labels", "pose": "rgb"}
# runs a script of diffusers, and keeps what its loop is given
DIFFUSERS = """
import sys, torch
sys.path.insert(0, sys.argv.pop(1))
import train_controlnet as script
seen, collate = [], script.collate_fn
def kept(examples):
    seen.append(collate(examples) | {"keys": [example["key"] for example in examples]})
    return seen[-1]
script.collate_fn = kept
kept_to = sys.argv.pop(1)
script.main(script.parse_args(sys.argv[1:]))
torch.save(seen, kept_to)
"""


def peer(name: str) -> Path:
    folder = Path(os.environ.get("CONTROLMILL_PEERS", "/nowhere")) / name
    if not folder.is_dir():
        pytest.skip(f"CONTROLMILL_PEERS has no {name}")
    return folder


def export(dataset: Path, out: Path, to: str, conditions: str) -> None:
    ended = command("export", str(dataset), str(out), "--to", to, "--conditions", conditions)
    assert ended.returncode == 0, ended.stderr


@pytest.fixture(scope="module")
def tiny_run(scenes_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of one step on the tiny base: a ControlNet for its VAE, which `from_unet` does not make."""
    peer("diffusers")
    folder = tmp_path_factory.mktemp("tiny") / "run"
    words = ["train", str(scenes_folder), str(folder), "--condition", "canny", "--base", "tiny", "--steps", "1"]
    assert command(*words, "--batch-size", "2", "--held-out", "0").returncode == 0
    return folder


@pytest.mark.parametrize("table", KINDS)
def test_diffusers_trains_three_steps_on_the_right_tensors(
    table: str, scenes_folder: Path, tiny_run: Path, tmp_path: Path
) -> None:
    import torch

    script = peer("diffusers") / "examples/controlnet"
    export(scenes_folder, tmp_path / "pairs", "diffusers", table)
    words = ["--pretrained_model_name_or_path", ROOT / "bases/tiny", "--controlnet_model_name_or_path", tiny_run]
    words += ["--train_data_dir", tmp_path / "pairs", "--resolution", 64, "--train_batch_size", 4]
    words += ["--max_train_steps", 3, "--output_dir", tmp_path / "out", "--cache_dir", tmp_path / "cache", "--seed", 0]
    told = [sys.executable, "-c", DIFFUSERS, script, tmp_path / "seen.pt", *words]
    environment = {**os.environ, "HF_HUB_OFFLINE": "1", "HF_HOME": str(tmp_path / "home")}
    ended = subprocess.run(list(map(str, told)), capture_output=True, text=True, check=False, env=environment)
    assert ended.returncode == 0, ended.stderr[-3000:]
    assert (tmp_path / "out/diffusion_pytorch_model.safetensors").is_file()
    wanted = {}
    for row in controlmill.open_dataset(scenes_folder).rows("images", table):
        data, image = row.data(table), row["images"]
        assert data is not None and isinstance(image, np.ndarray)
        wanted[row.key] = (image, np.asarray(map_picture(KINDS[table], data)))
    batches = torch.load(tmp_path / "seen.pt")
    assert len(batches) >= 3
    for batch in batches:
        for at, key in enumerate(batch["keys"]):
            image, control = wanted[key]
            found = batch["conditioning_pixel_values"][at].permute(1, 2, 0).numpy() * 255
            np.testing.assert_allclose(found, control, atol=0.01)
            found = (batch["pixel_values"][at].permute(1, 2, 0).numpy() + 1) * 127.5
            np.testing.assert_allclose(found, image, atol=0.01)


@pytest.mark.parametrize("table", ["depth", "segmentation"])
@pytest.mark.parametrize(
    ("to", "checkout"),
    [
        ("kohya", "sd-scripts"),
        ("musubi-tuner", "musubi-tuner"),
        ("diffsynth", "DiffSynth-Studio"),
        ("videox-fun", "VideoX-Fun"),
        ("original", "ControlNet"),
    ],
)
def test_a_trainers_dataset_sees_each_picture_with_its_own_map_and_caption(
    to: str, checkout: str, table: str, scenes_folder: Path, tmp_path: Path
) -> None:
    peers = peer(checkout).parent
    export(scenes_folder, tmp_path / "out", to, table)
    words = [sys.executable, "-m", "tests.schemas.exports.peers", to, peers, tmp_path / "out", tmp_path / "seen.npz"]
    ended = subprocess.run(list(map(str, words)), capture_output=True, text=True, check=False, cwd=ROOT)
    assert ended.returncode == 0, ended.stderr[-3000:]
    wanted = {}
    for row in controlmill.open_dataset(scenes_folder).rows("images", table):
        data, image = row.data(table), row["images"]
        assert data is not None and isinstance(image, np.ndarray)
        control = np.asarray(map_picture(KINDS[table], data))
        wanted[image.tobytes()] = (control.tobytes(), row.columns("images")["caption"])
    seen = np.load(tmp_path / "seen.npz")
    found = {
        image.tobytes(): (control.tobytes(), str(text))
        for image, control, text in zip(seen["images"], seen["maps"], seen["texts"], strict=True)
    }
    assert len(wanted) == 96
    assert found == wanted


def test_webdataset_sees_each_picture_with_its_own_map_and_caption(scenes_folder: Path, tmp_path: Path) -> None:
    import webdataset

    export(scenes_folder, tmp_path / "out", "webdataset", "depth")
    opened = webdataset.WebDataset(str(tmp_path / "out/data/00000.tar"), shardshuffle=False).decode("rgb8")
    rows = controlmill.open_dataset(scenes_folder).rows("images", "depth")
    for row, (image, control, text, about) in zip(
        rows, opened.to_tuple("jpg;png;webp", "depth.png", "txt", "json"), strict=True
    ):
        data, picture = row.data("depth"), row["images"]
        assert data is not None and isinstance(picture, np.ndarray)
        np.testing.assert_array_equal(image, picture)
        np.testing.assert_array_equal(control, np.asarray(map_picture("gray16", data)))
        assert (text, about["key"]) == (row.columns("images")["caption"], row.key)
