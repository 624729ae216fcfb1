"""Every layout, read by its trainer's documented rule: each row has its own picture, map and caption."""

from __future__ import annotations

import io
import json
import subprocess
import tarfile
import tomllib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from PIL import Image

import controlmill
from controlmill.schemas.dataset import Dataset
from controlmill.schemas.exports.plan import make_plan
from controlmill.schemas.exports.targets import TARGETS, target_named
from controlmill.schemas.exports.targets.files import toml
from tests.helpers import LINUX, command

Pair = tuple[bytes, bytes, str]  # picture, map, caption


def export(dataset: Path, out: Path, to: str, conditions: str = "depth") -> str:
    ended = command("export", str(dataset), str(out), "--to", to, "--conditions", conditions)
    assert ended.returncode == 0, ended.stderr
    return ended.stderr


def diffusers(out: Path) -> list[Pair]:
    rows = [row for path in sorted(out.glob("data/*.parquet")) for row in pq.read_table(path).to_pylist()]
    return [(row["image"]["bytes"], row["conditioning_image"]["bytes"], row["text"]) for row in rows]


def named_in(out: Path, lines: list[dict[str, str]], image: str, control: str, text: str) -> list[Pair]:
    return [((out / line[image]).read_bytes(), (out / line[control]).read_bytes(), line[text]) for line in lines]


def json_lines(path: Path) -> list[dict[str, str]]:
    return [json.loads(line) for line in path.read_text("ascii").splitlines()]


def imagefolder(out: Path) -> list[Pair]:
    lines = json_lines(out / "metadata.jsonl")
    return named_in(out, lines, "image_file_name", "conditioning_image_file_name", "text")


def webdataset(out: Path) -> list[Pair]:
    rows: dict[str, dict[str, bytes]] = {}
    for path in sorted(out.glob("data/*.tar")):
        with tarfile.open(path) as tar:
            for member in tar:
                key, ending = member.name.split(".", 1)
                opened = tar.extractfile(member)
                assert opened
                rows.setdefault(key, {})[ending] = opened.read()
    return [(row.get("jpg") or row["png"], row["depth.png"], row["txt"].decode()) for row in rows.values()]


def by_basename(folders: list[tuple[str, str]]) -> list[Pair]:
    """kohya and ai-toolkit: a map in the other folder has the name of its picture up to the ending."""
    found = []
    for images, maps in folders:
        for image in sorted(path for path in Path(images).iterdir() if path.suffix != ".txt"):
            (control,) = (path for path in Path(maps).iterdir() if path.stem == image.stem)
            text = image.with_suffix(".txt").read_text("utf-8").splitlines()[0].strip()
            found.append((image.read_bytes(), control.read_bytes(), text))
    return found


def kohya(out: Path) -> list[Pair]:
    config = tomllib.loads((out / "config.toml").read_text("utf-8"))
    (dataset,) = tomllib.loads(Path(config["dataset_config"]).read_text("utf-8"))["datasets"]
    assert (dataset["resolution"], dataset["enable_bucket"]) == (64, False)
    assert {subset["caption_extension"] for subset in dataset["subsets"]} == {".txt"}
    return by_basename([(subset["image_dir"], subset["conditioning_data_dir"]) for subset in dataset["subsets"]])


def ai_toolkit(out: Path) -> list[Pair]:
    (process,) = json.loads((out / "config.json").read_text("ascii"))["config"]["process"]
    return by_basename([(one["folder_path"], one["control_path"][0]) for one in process["datasets"]])


def simpletuner(out: Path) -> list[Pair]:
    """A map has its picture's path below the folder, with the ending; a caption's lines are several captions."""
    config = json.loads((out / "config.json").read_text("ascii"))
    images, maps, texts = json.loads(Path(config["data_backend_config"]).read_text("ascii"))
    assert (images["conditioning_data"], maps["dataset_type"]) == ([maps["id"]], "conditioning")
    assert texts["default"] is True
    found = []
    for image in sorted(Path(images["instance_data_dir"]).rglob("*.png")):
        control = Path(maps["instance_data_dir"]) / image.relative_to(images["instance_data_dir"])
        text = image.with_suffix(".txt").read_bytes()
        assert control.with_suffix(".txt").read_bytes() == text
        assert b"\n" not in text
        found.append((image.read_bytes(), control.read_bytes(), text.decode()))
    return found


def musubi_tuner(out: Path) -> list[Pair]:
    (dataset,) = tomllib.loads((out / "dataset.toml").read_text("utf-8"))["datasets"]
    lines = json_lines(Path(dataset["image_jsonl_file"]))
    assert all(Path(line["control_path"]).is_absolute() for line in lines)
    return named_in(out, lines, "image_path", "control_path", "caption")


def diffsynth(out: Path) -> list[Pair]:
    lines = json.loads((out / "metadata.json").read_text("ascii"))
    return named_in(out, lines, "image", "controlnet_image", "prompt")


def videox_fun(out: Path) -> list[Pair]:
    lines = json.loads((out / "metadata.json").read_text("ascii"))
    assert {(line["width"], line["height"], line["type"]) for line in lines} == {(64, 64, "image")}
    return named_in(out, lines, "file_path", "control_file_path", "text")


def original(out: Path) -> list[Pair]:
    return named_in(out, json_lines(out / "prompt.json"), "target", "source", "prompt")


RULES: dict[str, Callable[[Path], list[Pair]]] = {
    rule.__name__.replace("_", "-"): rule
    for rule in (
        *(diffusers, imagefolder, webdataset, kohya, simpletuner),
        *(ai_toolkit, musubi_tuner, diffsynth, videox_fun, original),
    )
}


def pixels(data: bytes) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(data)).convert("RGB"))


@pytest.fixture(scope="module")
def wanted(scenes_folder: Path) -> list[tuple[np.ndarray, np.ndarray, str]]:
    found = []
    for row in controlmill.open_dataset(scenes_folder).rows("images", "depth"):
        image, depth = row["images"], row["depth"]
        assert isinstance(image, np.ndarray) and isinstance(depth, np.ndarray)
        eight = np.repeat((depth >> 8).astype(np.uint8)[..., None], 3, axis=2)
        found.append((image, eight, row.columns("images")["caption"] or ""))
    return found


@pytest.mark.parametrize("to", TARGETS)
def test_every_row_has_its_own_picture_map_and_caption(
    to: str, scenes_folder: Path, tmp_path: Path, wanted: list[tuple[np.ndarray, np.ndarray, str]]
) -> None:
    out = tmp_path / "a 'name'"
    said = export(scenes_folder, out, to)
    assert "96 rows, none left out" in said
    read = RULES[to](out)
    assert len(read) == len(wanted)
    for (image, control, text), (picture, depth, caption) in zip(read, wanted, strict=True):
        np.testing.assert_array_equal(pixels(image), picture)
        np.testing.assert_array_equal(pixels(control), depth)
        assert text == caption


def test_any_text_can_be_written_as_toml() -> None:
    text = "".join(map(chr, [*range(0x250), 0x2028, 0xFEFF, 0x1F40E]))
    assert tomllib.loads(f"text = {toml(text)}\npath = {toml(Path(text[1:]))}") == {"text": text, "path": text[1:]}


@LINUX
def test_a_folder_that_settings_cannot_name_is_refused(scenes_folder: Path, tmp_path: Path) -> None:
    ended = command("export", str(scenes_folder), str(tmp_path / "\udcff"), "--to", "kohya", "--conditions", "depth")
    assert (ended.returncode, "its name is not UTF-8" in ended.stderr) == (1, True), ended.stderr
    assert not list(tmp_path.iterdir())


def test_there_is_a_rule_for_every_layout() -> None:
    assert list(RULES) == list(TARGETS)


@LINUX  # whose ln has -T
def test_the_papers_code_does_not_train_on_what_was_there_before(scenes_folder: Path, tmp_path: Path) -> None:
    plan = make_plan(Dataset.open(scenes_folder), "original", ["depth"], tmp_path / "out")
    link, _, _ = target_named("original").command(plan).partition(" && ")
    (tmp_path / "training").mkdir()
    for _ in range(2):
        assert subprocess.run(["sh", "-c", link], cwd=tmp_path, check=False).returncode == 0
        assert (tmp_path / "training/fill50k").readlink() == tmp_path / "out"
    (tmp_path / "training/fill50k").unlink()
    (tmp_path / "training/fill50k").mkdir()  # the tutorial's own
    assert subprocess.run(["sh", "-c", link], cwd=tmp_path, check=False, capture_output=True).returncode == 1


@pytest.mark.parametrize("to", ["diffusers", "imagefolder", "webdataset", "simpletuner", "ai-toolkit", "musubi-tuner"])
def test_a_row_has_all_conditions_or_is_left_out_and_counted(to: str, scenes_folder: Path, tmp_path: Path) -> None:
    said = export(scenes_folder, tmp_path / "out", to, "canny,scribble")
    assert "94 rows, 2 left out (2 scribble: missing)" in said


@pytest.mark.parametrize("to", ["kohya", "diffsynth", "videox-fun", "original"])
def test_a_layout_of_one_condition_says_so(to: str, scenes_folder: Path, tmp_path: Path) -> None:
    ended = command("export", str(scenes_folder), str(tmp_path / "out"), "--to", to, "--conditions", "canny,depth")
    assert ended.returncode == 1
    assert f"--to {to} has one condition a picture: name one of canny, depth" in ended.stderr
    assert not (tmp_path / "out").exists()


def test_columns_of_several_conditions_have_their_names(scenes_folder: Path, tmp_path: Path) -> None:
    said = export(scenes_folder, tmp_path / "out", "diffusers", "depth,canny")
    assert "--conditioning_image_column depth" in said
    (path,) = (tmp_path / "out/data").iterdir()
    assert pq.read_schema(path).names == ["image", "depth", "canny", "text", "key"]


def test_stored_bytes_are_not_encoded_again_where_they_need_not_be(scenes_folder: Path, tmp_path: Path) -> None:
    export(scenes_folder, tmp_path / "out", "diffusers", "segmentation")
    rows = list(controlmill.open_dataset(scenes_folder).rows("images", "segmentation"))
    for (image, control, _), row in zip(diffusers(tmp_path / "out"), rows, strict=True):
        assert (image, control) == (row.data("images"), row.data("segmentation"))


def test_datasets_reads_parquet_and_files_as_pairs(
    scenes_folder: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    wanted: list[tuple[np.ndarray, np.ndarray, str]],
) -> None:
    from datasets import load_dataset

    for to in ("diffusers", "imagefolder"):
        export(scenes_folder, tmp_path / to, to)
        rows = load_dataset(str(tmp_path / to), split="train", cache_dir=str(tmp_path / "cache"))
        assert rows.column_names[:3] == ["image", "conditioning_image", "text"]
        assert [(len(rows), rows[number]["text"]) for number in (0, 50)] == [(96, wanted[n][2]) for n in (0, 50)]
        np.testing.assert_array_equal(np.asarray(rows[50]["conditioning_image"].convert("RGB")), wanted[50][1])
