"""The command evaluate: results are a dataset whose numbers can be computed again from its files alone."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from diffusers import AutoencoderKL
from PIL import Image

from controlmill.schemas.dataset import Dataset
from controlmill.schemas.images.codecs import decode_image, decode_map
from controlmill.schemas.views.verify import verify
from tests.helpers import Ended, command, digests, places, rows
from tests.schemas.views.compare.test_build import page_data

PROTOCOL = """
title = "short"
source = "none"
measures = ["maps"]
prompts = ["none", "user"]
pictures_per_row = 2
[sampling]
steps = 1
guidance_scale = 2.0
[self_test]
controlnet = "CONTROLNET"
base = "BASE"
measure = "f1"
method = "somebody"
[published]
f1 = [{ method = "somebody", value = 0.5 }]
"""
ROWS = 8
Evaluate = Callable[..., Ended]


@pytest.fixture(scope="module")
def protocol(trained_once: Path, small_base: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A protocol of one step."""
    path = tmp_path_factory.mktemp("protocol") / "short.toml"
    folder = next(trained_once.glob("checkpoints/*/controlnet"))
    path.write_text(PROTOCOL.replace("CONTROLNET", str(folder)).replace("BASE", str(small_base)))
    return path


@pytest.fixture(scope="module")
def evaluate(trained_once: Path, scenes_folder: Path, protocol: Path) -> Evaluate:
    """Evaluates the run on rows that it held out."""

    def run(results: Path, *options: str) -> Ended:
        words = ("evaluate", str(trained_once), str(scenes_folder), str(results), "--protocol", str(protocol))
        return command(*words, "--rows", str(ROWS), "--batch-size", "8", "--device", "cpu", *options)

    return run


@pytest.fixture(scope="module")
def results(evaluate: Evaluate, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Results of a run; not to be changed."""
    folder = tmp_path_factory.mktemp("results") / "run"
    ended = evaluate(folder)
    assert ended.returncode == 0, ended.stderr
    return folder


def exact_f1(found: np.ndarray, true: np.ndarray) -> float:
    both = ((found > 0) & (true > 0)).sum()
    either = (found > 0).sum() + (true > 0).sum()
    return float(2 * both / either) if either else 1.0


def test_results_are_a_dataset_whose_numbers_are_those_of_an_independent_computation(
    results: Path, scenes_folder: Path
) -> None:
    assert list(verify(Dataset.open(results))) == []
    images, judged, scores = (rows(results, table)[: 4 * ROWS] for table in ("images", "canny", "scores"))
    source = dict(zip(places(scenes_folder), rows(scenes_folder, "canny"), strict=True))
    captions = dict(zip(places(scenes_folder), rows(scenes_folder, "images"), strict=True))
    order = [(row["of_shard"], row["of_row"]) for row in images[::4]]
    assert order == sorted(order)
    assert len(set(order)) == ROWS
    others = {place: order[(number + ROWS // 2) % ROWS] for number, place in enumerate(order)}
    of_kind: dict[str, dict[tuple[int, int], list[tuple[float, float]]]] = {"none": {}, "user": {}}
    for number, (image, map_of, score) in enumerate(zip(images, judged, scores, strict=True)):
        place = order[number // 4]
        assert (image["of_shard"], image["of_row"]) == place
        assert (image["prompt_kind"], image["sample"]) == (("none", "user")[number % 4 // 2], number % 2)
        assert image["caption"] == ("" if image["prompt_kind"] == "none" else captions[place]["caption"])
        truth = source[place]
        found = cv2.Canny(decode_image(image["image"]["bytes"]), truth["low"], truth["high"])
        assert (decode_map("binary", map_of["map"]["bytes"]) == found).all()
        assert (map_of["low"], map_of["high"]) == (truth["low"], truth["high"])
        assert score["f1"] == pytest.approx(exact_f1(found, decode_map("binary", truth["map"]["bytes"])))
        other = source[others[place]]
        by_chance = cv2.Canny(decode_image(image["image"]["bytes"]), other["low"], other["high"])
        expected = exact_f1(by_chance, decode_map("binary", other["map"]["bytes"]))
        assert score["f1_by_chance"] == pytest.approx(expected)
        of_kind[image["prompt_kind"]].setdefault(place, []).append((score["f1"], expected))
    said = json.loads((results / "results.json").read_text())
    (f1,) = (measure for measure in said["measures"] if measure["measure"] == "f1")
    for value in f1["values"]:
        means = np.array([np.mean(pictures, axis=0) for pictures in of_kind[value["prompt_kind"]].values()])
        assert value["rows"] == ROWS
        assert (value["value"], value["chance"]) == pytest.approx(means.mean(axis=0))
        assert value["low"] <= value["value"] <= value["high"]
        assert value["gain_low"] <= value["value"] - value["chance"] <= value["gain_high"]


def test_the_ceiling_is_of_rows_own_pictures_through_the_vae(
    results: Path, scenes_folder: Path, small_base: Path
) -> None:
    vae = AutoencoderKL.from_pretrained(small_base / "vae")
    source = {
        place: (image, row)
        for place, image, row in zip(
            places(scenes_folder), rows(scenes_folder, "images"), rows(scenes_folder, "canny"), strict=True
        )
    }
    behind = rows(results, "images")[4 * ROWS :]
    assert len(behind) == ROWS
    scores = []
    for image in behind:
        assert (image["prompt_kind"], image["caption"]) == ("ceiling", "")
        own, row = source[image["of_shard"], image["of_row"]]
        pixels = torch.from_numpy(decode_image(own["image"]["bytes"])).permute(2, 0, 1)[None].float() / 127.5 - 1
        with torch.no_grad():
            decoded = vae.decode(vae.encode(pixels).latent_dist.mean).sample[0]
        expected = ((decoded.permute(1, 2, 0).numpy() + 1) * 127.5).clip(0, 255)
        picture = decode_image(image["image"]["bytes"])
        np.testing.assert_allclose(picture, expected, atol=1)
        scores.append(exact_f1(cv2.Canny(picture, row["low"], row["high"]), decode_map("binary", row["map"]["bytes"])))
    said = json.loads((results / "results.json").read_text())
    (f1,) = (measure for measure in said["measures"] if measure["measure"] == "f1")
    assert [value["ceiling"] for value in f1["values"]] == [pytest.approx(np.mean(scores))] * 2


def test_results_say_what_made_them_without_paths(results: Path, trained_once: Path, small_base: Path) -> None:
    index = Dataset.open(results).index("images")
    assert index
    samples = index.provenance.samples
    assert samples
    assert samples.sampler
    assert (samples.condition, samples.protocol, samples.prompts) == ("canny", "short", ("none", "user"))
    assert [one.name for one in samples.sampler.controlnets] == [f"{trained_once.name} at step 2"]
    published = [path for path in results.rglob("*") if path.is_file() and path.name != "_local.json"]
    assert not [path for path in published if str(trained_once.parent).encode() in path.read_bytes()]
    assert not [path for path in published if str(small_base.parent).encode() in path.read_bytes()]


def test_only_rows_that_the_run_held_out_are_evaluated(results: Path, trained_once: Path, scenes_folder: Path) -> None:
    digest = {
        place: row["sha256"] for place, row in zip(places(scenes_folder), rows(scenes_folder, "images"), strict=True)
    }
    share = json.loads((trained_once / "run.json").read_text())["config"]["held_out"]
    for row in rows(results, "images"):
        assert int(digest[row["of_shard"], row["of_row"]][-8:], 16) / 2**32 < share


def test_inspect_shows_results_and_a_sheet_of_them(results: Path, tmp_path: Path) -> None:
    ended = command("inspect", str(results), "--contact-sheet", str(tmp_path / "sheet.png"))
    assert ended.returncode == 0, ended.stderr
    assert "f1, published: somebody 0.5 (none)" in ended.stdout
    assert "low, high as drawn for canny of the source" in ended.stdout
    assert Image.open(tmp_path / "sheet.png").height > 8 * 64


def test_results_that_are_complete_stay_as_they_are(results: Path, evaluate: Evaluate) -> None:
    before = digests(results)
    assert evaluate(results).returncode == 0
    assert digests(results) == before


def test_results_that_were_cut_off_end_in_the_same_bytes(results: Path, evaluate: Evaluate, tmp_path: Path) -> None:
    whole, cut = digests(results), Path(shutil.copytree(results, tmp_path / "cut"))
    for table in ("images", "rejected", "canny", "scores"):
        (cut / f"_tables/{table}.json").unlink()
    for name in ("images/0000/00000001", "rejected/0000/00000000", "canny/0000/00000000"):
        (cut / f"{name}.parquet").unlink()
    shutil.rmtree(cut / "scores")
    (cut / "results.json").unlink()
    (cut / "images/0000/00000000.parquet").write_bytes(b"half of it")
    assert evaluate(cut).returncode == 0
    assert digests(cut) == whole


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--pictures-per-row", "1"], "pictures per row: 2, now 1"),
        (["--rows", "7"], "rows: "),
        (["--batch-size", "4"], "batch_size: 8, now 4"),
    ],
)
def test_other_results_are_not_mixed_with_what_is_there(
    results: Path, evaluate: Evaluate, options: list[str], said: str
) -> None:
    before = digests(results)
    ended = evaluate(results, *options)
    assert ended.returncode == 1
    assert said in ended.stderr
    assert "choose another folder" in ended.stderr
    assert digests(results) == before


def test_what_is_sampled_otherwise_than_the_protocol_says_is_not_comparable(evaluate: Evaluate, tmp_path: Path) -> None:
    options = ["--steps", "2", "--sampler", "unipc", "--guidance-scale", "3.5", "--seed", "5"]
    ended = evaluate(tmp_path / "results", "--rows", "2", "--prompts", "none", *options)
    assert ended.returncode == 0, ended.stderr
    index = Dataset.open(tmp_path / "results").index("images")
    assert index
    assert index.provenance.samples
    assert index.provenance.samples.sampler
    settings = index.provenance.samples.sampler.settings
    assert [settings[name] for name in ("steps", "sampler", "guidance_scale", "seed")] == [2, "unipc", 3.5, 5]
    said = "not comparable: sampler 'unipc', not 'ddim'; steps 2, not 1; guidance_scale 3.5, not 2.0"
    assert said in ended.stderr


def test_results_do_not_grow(results: Path, photos: Path) -> None:
    for words in (["extend", str(results), str(photos)], ["retry", str(results)]):
        ended = command(*words)
        assert ended.returncode == 1
        assert "are results of controlmill evaluate" in ended.stderr


def test_a_self_test_says_whether_the_published_value_came_out(
    scenes_folder: Path, protocol: Path, results: Path, tmp_path: Path
) -> None:
    words = [str(scenes_folder), str(tmp_path / "results"), "--protocol", str(protocol), "--self-test"]
    words += ["--condition", "canny", "--device", "cpu"]
    refused = command("evaluate", *words, "--prompts", "none")
    assert "--self-test: the protocol says how: no --prompts" in refused.stderr
    ended = command("evaluate", *words, "--rows", "5")
    assert ended.returncode == 0, ended.stderr
    assert "self-test: not reproduced (published f1 of somebody: 0.5; here" in ended.stderr


def test_pictures_of_another_method_have_the_same_measures(scenes_folder: Path, protocol: Path, tmp_path: Path) -> None:
    given = tmp_path / "theirs"
    for row in rows(scenes_folder, "images"):
        path = given / f"{row['source'].rpartition('.')[0]}_0.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(decode_image(row["image"]["bytes"])).save(path)
    next(given.rglob("*.png")).write_bytes(b"no picture")
    words = ["--pictures", str(given), str(scenes_folder), str(tmp_path / "results"), "--condition", "canny"]
    words += ["--protocol", str(protocol), "--pictures-per-row", "1", "--prompts", "user"]
    ended = command("evaluate", *words)
    assert ended.returncode == 0, ended.stderr
    assert list(verify(Dataset.open(tmp_path / "results"))) == []
    scores = rows(tmp_path / "results", "scores")
    assert len(scores) == len(places(scenes_folder)) - 1
    assert {score["f1"] for score in scores} == {1.0}
    (refused,) = rows(tmp_path / "results", "rejected")
    assert refused["reason"] == "not_an_image"
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


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ("RUN DATASET", "give RUN|CONTROLNET DATASET RESULTS: 3 arguments, not 2"),
        ("RUN DATASET NEW --protocol paper-table2", "protocol paper-table2 is for segmentation, not for canny"),
        ("RUN DATASET NEW --protocol none", "no protocol is called 'none'"),
        ("RUN DATASET NEW --judge canny=nope", "canny has no variant 'nope'"),
        ("RUN DATASET NEW --judge hed", "the judge hed makes hed, the true maps of canny are canny"),
        ("RUN DATASET NEW --truth segmentation", "segmentation was made by no annotator that is here: name a judge"),
        ("RUN DATASET NEW --truth pose --judge pose=body", "pose=body: --accept-license openpose"),
        ("RUN DATASET NEW --truth pose --judge pose=body --accept-license openpose --weights EMPTY", "body_pose_model"),
        ("RUN DATASET NEW --prompts all", "--prompts all: some of none, default, auto, user"),
        ("RUN DATASET NEW --prompts auto --weights EMPTY", "blip"),
        ("RUN DATASET DATASET", "is a dataset, and no results of evaluate"),
        ("RUN DATASET NEW --base /no/such", "no such file or folder"),
        (
            "EMPTY DATASET NEW --condition canny --base tiny",
            "neither a run with a checkpoint, a ControlNet's folder nor a",
        ),
        ("DATASET NEW --self-test --condition canny", "the protocol controlmill names no published ControlNet"),
        ("--pictures EMPTY DATASET NEW --self-test", "--pictures: another method made them"),
        (
            "--pictures EMPTY DATASET NEW --condition canny --steps 3",
            "another method made them, so there is no --steps",
        ),
        ("RUN DATASET NEW --control-start 0.6 --control-end 0.5", "sampling: control_start 0.6, control_end 0.5"),
    ],
)
def test_what_does_not_fit_is_told_before_anything_is_sampled(
    trained_once: Path,
    scenes_folder: Path,
    tmp_path: Path,
    options: str,
    said: str,
) -> None:
    (tmp_path / "empty").mkdir()
    named = {"RUN": trained_once, "DATASET": scenes_folder, "NEW": tmp_path / "new", "EMPTY": tmp_path / "empty"}
    ended = command("evaluate", *(str(named.get(word, word)) for word in options.split()), "--device", "cpu")
    assert ended.returncode == 1
    assert said in ended.stderr
    assert not (tmp_path / "new").exists()


def test_a_run_that_trained_its_base_is_not_evaluated_with_another(
    trained_once: Path, scenes_folder: Path, small_base: Path, tmp_path: Path
) -> None:
    run = Path(shutil.copytree(trained_once, tmp_path / "run", symlinks=True))
    record = json.loads((run / "run.json").read_text())
    (run / "run.json").write_text(json.dumps({**record, "config": {**record["config"], "unlock": "decoder"}}))
    other = shutil.copytree(small_base, tmp_path / "other")
    ended = command("evaluate", str(run), str(scenes_folder), str(tmp_path / "new"), "--base", str(other))
    assert ended.returncode == 1
    assert "trained together with its base (--unlock decoder)" in ended.stderr


def test_results_can_be_compared_on_a_page(results: Path, tmp_path: Path) -> None:
    ended = command("compare", str(results), "--out", str(tmp_path / "page"))
    assert ended.returncode == 0, ended.stderr
    data = page_data(tmp_path / "page")
    scores = [row["f1"] for row in rows(results, "scores")][: 4 * ROWS]
    at = [data["measures"][column]["name"] for column in data["columns"]].index("f1")
    assert [cells[0][2][at] for _, _, _, cells in data["slots"]] == scores
    assert len(list((tmp_path / "page" / "pictures").rglob("*.png"))) >= 2 * len(scores)
