"""The command evaluate: measures of pictures, whose numbers an independent computation gives from the files."""

from __future__ import annotations

import json
import shutil
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from controlmill.evaluation.features.aesthetic import AestheticHead
from controlmill.evaluation.features.clip import CLIP336Pictures, CLIPPictures, CLIPTexts
from controlmill.evaluation.features.distances import cmmd
from controlmill.evaluation.features.lpips import LPIPS
from controlmill.schemas.dataset import Dataset
from controlmill.schemas.images.codecs import decode_image
from controlmill.schemas.views.verify import verify
from tests.evaluation.features import random_weights
from tests.evaluation.features.random_weights import loaded
from tests.helpers import command, digests, places, rows
from tests.schemas.views.compare.test_build import page_data

PROTOCOL = """
title = "quality alone"
source = "none"
measures = ["fid", "cmmd", "clip_score", "clip_aesthetic", "lpips"]
pictures_per_row = 2
[sampling]
steps = 1
[not_comparable]
clip_score = "it is a test"
"""
PICTURES = 2


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small CLIP, its head and LPIPS; no InceptionV3."""
    folder = tmp_path_factory.mktemp("weights")
    random_weights.write_clip(folder)
    random_weights.write_lpips(folder)
    random_weights.write_aesthetic(folder, random_weights.WIDTH)
    return folder


@pytest.fixture(scope="module")
def evaluated(
    scenes_folder: Path, weights: Path, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, Path, list[str]]:
    """(source, results of another method's pictures, the words of the command)."""
    folder = tmp_path_factory.mktemp("quality")
    source = Path(shutil.copytree(scenes_folder, folder / "source"))
    (folder / "pictures.toml").write_text(PROTOCOL)
    for row in rows(source, "images"):
        path = folder / "theirs" / row["source"].rpartition(".")[0]
        path.parent.mkdir(parents=True, exist_ok=True)
        picture = decode_image(row["image"]["bytes"])
        for number in range(PICTURES):
            darker = (picture * (0.9 - 0.3 * number)).astype(np.uint8)
            Image.fromarray(darker[:, ::-1] if number else darker).save(f"{path}_{number}.png")
    words = ["--pictures", str(folder / "theirs"), str(source), str(folder / "results"), "--condition", "canny"]
    words += ["--protocol", str(folder / "pictures.toml"), "--weights", str(weights), "--device", "cpu"]
    ended = command("evaluate", *words)
    assert ended.returncode == 0, ended.stderr
    assert "fid left out: these weights were not found" in ended.stdout + ended.stderr
    return source, folder / "results", words


def features(network: Any, items: Sequence[Any]) -> np.ndarray:
    return np.stack([network.forward([network.preprocess(item)])[0] for item in items]).astype(float)


def test_each_number_is_that_of_an_independent_computation(
    evaluated: tuple[Path, Path, list[str]], weights: Path
) -> None:
    source, results, _ = evaluated
    assert list(verify(Dataset.open(results))) == list(verify(Dataset.open(source))) == []
    record = json.loads((results / "results.json").read_text())
    assert (record["truth"], record.get("judged")) == ("canny", None)
    found = {measure["measure"]: measure for measure in record["measures"]}
    values = {name: measure["values"][0].get("value") for name, measure in found.items()}
    assert values["fid"] is None
    assert "weights were not found" in found["fid"]["note"]
    true = [decode_image(row["image"]["bytes"]) for row in rows(source, "images")]
    images = rows(results, "images")
    pictures = [decode_image(row["image"]["bytes"]) for row in images]

    wide = loaded(CLIP336Pictures, weights)
    one, other = features(wide, pictures), features(wide, true)
    kernel = {
        name: np.exp(-((a[:, None] - b[None]) ** 2).sum(-1) / 200).mean()
        for name, (a, b) in {"xx": (one, one), "yy": (other, other), "xy": (one, other)}.items()
    }
    assert values["cmmd"] == pytest.approx(1000 * (kernel["xx"] + kernel["yy"] - 2 * kernel["xy"]), rel=1e-3)
    assert values["cmmd"] > 0
    assert "low" not in found["cmmd"]["values"][0] or found["cmmd"]["values"][0]["low"] is None

    embeddings = features(loaded(CLIPPictures, weights), pictures)
    captions = {number: row["caption"] for number, row in enumerate(rows(source, "images")) if row["caption"]}
    texts = loaded(CLIPTexts, weights)
    number_of = {place: number for number, place in enumerate(dict.fromkeys(place(row) for row in images))}
    scores, beauty, groups = defaultdict(list), defaultdict(list), defaultdict(list)
    head = AestheticHead(weights / "sac+logos+ava1-l14-linearMSE.pth").scores(embeddings)
    for row, embedding, picture, score in zip(images, embeddings, pictures, head, strict=True):
        number = number_of[place(row)]
        if number in captions:
            cosine = float(embedding @ features(texts, [captions[number]])[0])
            scores[number].append(max(0.0, 100 * cosine))
        beauty[number].append(score)
        groups[number].append(picture)
    assert values["clip_score"] == pytest.approx(np.mean([np.mean(row) for row in scores.values()]), rel=1e-3)
    assert found["clip_score"]["values"][0]["rows"] == len(captions)
    assert values["clip_aesthetic"] == pytest.approx(np.mean([np.mean(row) for row in beauty.values()]), rel=1e-3)
    network = loaded(LPIPS, weights)
    distances = [network.distances([network.preprocess(one) for one in group])[0, 1] for group in groups.values()]
    assert values["lpips"] == pytest.approx(np.mean(distances), rel=1e-3)
    value = found["lpips"]["values"][0]
    assert value["low"] <= value["value"] <= value["high"]


def test_pictures_can_be_sorted_by_what_is_kept_of_them(
    evaluated: tuple[Path, Path, list[str]], tmp_path: Path
) -> None:
    ended = command("compare", str(evaluated[1]), "--out", str(tmp_path / "page"))
    assert ended.returncode == 0, ended.stderr
    data = page_data(tmp_path / "page")
    assert {measure["name"]: measure["why"] for measure in data["measures"]} == {
        **dict.fromkeys(("fid", "cmmd"), "no single picture has one"),
        **dict.fromkeys(("clip_score", "clip_aesthetic", "lpips"), ""),
    }
    names = [data["measures"][column]["name"] for column in data["columns"]]
    assert names == ["clip_score", "clip_aesthetic", "lpips"]
    scores, distances = rows(evaluated[1], "picture_scores"), rows(evaluated[1], "lpips")
    stored = [
        [row["clip_score"], row["clip_aesthetic"], other["distance"]]
        for row, other in zip(scores, distances, strict=True)
    ]
    assert [cells[0][2] for _, _, _, cells in data["slots"]] == stored


def test_a_distance_of_groups_is_the_mean_over_the_pictures_of_a_row(
    evaluated: tuple[Path, Path, list[str]], tmp_path: Path
) -> None:
    """Picture j of every row against the rows' pictures; what the pictures are stays as it was."""
    source, results, words = evaluated
    copied = Path(shutil.copytree(results, tmp_path / "results"))
    (tmp_path / "pictures.toml").write_text(PROTOCOL.replace("[sampling]", "fid_of_groups = true\n[sampling]"))
    given = {str(results): str(copied), words[words.index("--protocol") + 1]: str(tmp_path / "pictures.toml")}
    ended = command("evaluate", *(given.get(word, word) for word in words))
    assert ended.returncode == 0, ended.stderr
    changed = {name for name, digest in digests(copied).items() if digests(results)[name] != digest}
    assert changed == {"results.json"}
    images = rows(copied, "images")
    embeddings = np.array([row["features"] for row in rows(copied, "clip_336")])
    true = np.array([row["features"] for row in rows(source, "clip_336")])
    samples = np.array([row["sample"] for row in images])
    expected = np.mean([cmmd(embeddings[samples == number], true) for number in range(PICTURES)])
    (found,) = (
        one for one in json.loads((copied / "results.json").read_text())["measures"] if one["measure"] == "cmmd"
    )
    assert found["values"][0]["value"] == pytest.approx(expected, rel=1e-6)
    assert expected != pytest.approx(cmmd(embeddings, true), rel=1e-3)


def test_of_few_rows_the_source_gets_no_features_and_the_numbers_are_the_same(
    evaluated: tuple[Path, Path, list[str]], scenes_folder: Path, tmp_path: Path
) -> None:
    """The results have those of their rows, one of each; where the source has them all, these are taken."""
    whole, _, words = evaluated
    source, before = tmp_path / "source", digests(whole)
    shutil.copytree(scenes_folder, source)
    given = dict(zip(words, words, strict=True)) | {words[2]: str(source), words[3]: str(tmp_path / "own")}
    ended = command("evaluate", *(given[word] for word in words), "--rows", "5")
    assert ended.returncode == 0, ended.stderr
    assert not {"clip_336", "clip_text"} & set(Dataset.open(source).tables())
    assert list(verify(Dataset.open(tmp_path / "own"))) == []
    images, true = rows(tmp_path / "own", "images"), rows(tmp_path / "own", "true_clip_336")
    assert [row["features"] is not None for row in true] == [True, False] * 5
    stored = {(row["shard"], row["row"]): row["features"] for row in with_places(whole, "clip_336")}
    for image, row in zip(images[::2], true[::2], strict=True):
        np.testing.assert_allclose(row["features"], stored[place(image)], atol=1e-5)
    given |= {words[2]: str(whole), words[3]: str(tmp_path / "taken")}
    ended = command("evaluate", *(given[word] for word in words), "--rows", "5")
    assert ended.returncode == 0, ended.stderr
    assert digests(whole) == before
    assert "true_clip_336" not in Dataset.open(tmp_path / "taken").tables()
    records = [json.loads((tmp_path / name / "results.json").read_text()) for name in ("own", "taken")]
    values = [[measure["values"][0].get("value") for measure in record["measures"]] for record in records]
    assert values[0] == [None if value is None else pytest.approx(value, rel=1e-4) for value in values[1]]
    assert len([value for value in values[0] if value is not None]) == 4


def with_places(dataset: Path, table: str) -> list[dict[str, Any]]:
    return [
        {"shard": shard, "row": row, **stored}
        for (shard, row), stored in zip(places(dataset), rows(dataset, table), strict=True)
    ]


def place(row: dict[str, Any]) -> tuple[int, int]:
    return row["of_shard"], row["of_row"]


def test_a_second_evaluation_computes_nothing_again(evaluated: tuple[Path, Path, list[str]]) -> None:
    source, results, words = evaluated
    before = digests(source), digests(results)
    ended = command("evaluate", *words)
    assert ended.returncode == 0, ended.stderr
    assert (digests(source), digests(results)) == before
    shown = command("inspect", str(results))
    assert "lpips-alex; " in shown.stdout
