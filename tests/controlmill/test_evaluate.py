"""The command evaluate: results are a dataset whose numbers can be computed again from its files alone."""

from __future__ import annotations

import json
import shutil
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
from tests.controlmill.evaluations import ROWS, Evaluate
from tests.helpers import command, digests, places, rows
from tests.schemas.views.compare.test_build import page_data


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


def test_rows_that_were_trained_on_are_said_to_be(evaluate: Evaluate, results: Path, tmp_path: Path) -> None:
    ended = evaluate(tmp_path / "results", "--all-rows", "--rows", "2", "--prompts", "none")
    assert ended.returncode == 0, ended.stderr
    measures = [json.loads((path / "results.json").read_text())["measures"] for path in (tmp_path / "results", results)]
    trained, held_out = (["trained on" in measure.get("note", "") for measure in those] for those in measures)
    assert all(trained)
    assert not any(held_out)


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


def test_results_can_be_compared_on_a_page(results: Path, tmp_path: Path) -> None:
    ended = command("compare", str(results), "--out", str(tmp_path / "page"))
    assert ended.returncode == 0, ended.stderr
    data = page_data(tmp_path / "page")
    scores = [row["f1"] for row in rows(results, "scores")][: 4 * ROWS]
    at = [data["measures"][column]["name"] for column in data["columns"]].index("f1")
    assert [cells[0][2][at] for _, _, _, cells in data["slots"]] == scores
    assert len(list((tmp_path / "page" / "pictures").rglob("*.png"))) >= 2 * len(scores)
