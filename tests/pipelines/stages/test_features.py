"""Features of a dataset are what their networks say of its stored pictures and captions, made once."""

from __future__ import annotations

import os
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from controlmill.annotators.runtime.placement import Placement
from controlmill.evaluation.features.catalogue import find_feature_weights, without_weights
from controlmill.evaluation.features.clip import CLIPPictures, CLIPTexts
from controlmill.pipelines import annotation
from controlmill.pipelines.stages.features import DiversityStep, Features, grouped, plan_features
from controlmill.schemas.dataset import Dataset
from controlmill.schemas.errors import MillError, Refused
from controlmill.schemas.images.codecs import decode_image
from controlmill.schemas.names import index_file, shard_file
from controlmill.schemas.views.behind import behind_lines
from controlmill.schemas.views.verify import verify
from tests.evaluation.features import random_weights
from tests.evaluation.features.random_weights import loaded
from tests.helpers import KeptResources, command, digests, make, rows, write_photos

TABLES = ("clip", "clip_text")


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("weights")
    random_weights.write_clip(folder)
    random_weights.write_lpips(folder)
    random_weights.write_aesthetic(folder, random_weights.WIDTH)
    return folder


def plan(folder: Path, weights: Path, batch_size: int = 0) -> Features:
    found, missing = find_feature_weights(["clip_score"], str(weights))
    assert not missing
    return plan_features(Dataset.open(folder), TABLES, found, "cpu", batch_size)


@pytest.fixture(scope="module")
def described(tmp_path_factory: pytest.TempPathFactory, weights: Path) -> Path:
    """Ten pictures in three shards, every other one with a caption, and their features."""
    folder = tmp_path_factory.mktemp("features")
    make(write_photos(folder / "photos"), folder / "dataset", "canny")
    annotation.annotate(str(folder / "dataset"), (plan(folder / "dataset", weights, 3),), KeptResources())
    return folder / "dataset"


def test_features_are_those_of_the_stored_pictures_and_captions(described: Path, weights: Path) -> None:
    dataset = Dataset.open(described)
    assert not list(verify(dataset))
    assert dataset.condition_tables() == ["canny"]
    pictures, texts = loaded(CLIPPictures, weights), loaded(CLIPTexts, weights)
    stored = zip(*(rows(described, table) for table in ("images", *TABLES)), strict=True)
    for image, features, text in stored:
        assert image["key"] == features["key"] == text["key"]
        picture = decode_image(image["image"]["bytes"])
        (expected,) = pictures.forward([pictures.preprocess(picture)])
        np.testing.assert_allclose(features["features"], expected, atol=1e-5)
        if image["caption"]:
            (expected,) = texts.forward([texts.preprocess(image["caption"])])
            np.testing.assert_allclose(text["features"], expected, atol=1e-5)
        else:
            assert (text["features"], text["reason"]) == (None, "missing")
    assert "clip-vit-large-patch14; " in command("inspect", str(described)).stdout


def test_a_second_time_computes_nothing_and_says_the_batch_it_was_begun_with(described: Path, weights: Path) -> None:
    before = digests(described)
    again = plan(described, weights)
    assert {place.batch_size for place in again.tables.values()} == {3}
    annotation.annotate(str(described), (again,), KeptResources())
    assert digests(described) == before
    with pytest.raises(MillError, match="was made in another way"):
        annotation.annotate(str(described), (plan(described, weights, 2),), KeptResources())


def test_features_of_captions_that_are_not_complete_are_not_planned(described: Path, tmp_path: Path) -> None:
    results, source = Dataset.open(described), Path(shutil.copytree(described, tmp_path / "source"))
    assert plan_features(results, ["true_clip_text"], {}, "cpu", source=results).captions_sha256
    (source / index_file("images")).unlink()
    with pytest.raises(MillError, match=r"images of .* is not complete"):
        plan_features(results, ["true_clip_text"], {}, "cpu", source=Dataset.open(source))


def test_what_was_cut_off_goes_on_to_the_same_bytes(described: Path, weights: Path, tmp_path: Path) -> None:
    cut = Path(shutil.copytree(described, tmp_path / "cut"))
    for table, shard in (("clip", 1), ("clip_text", 0)):
        (cut / index_file(table)).unlink()
        (cut / shard_file(table, shard)).unlink()
    os.truncate(cut / shard_file("clip_text", 1), 100)  # the first that is there
    assert {place.batch_size for place in plan(cut, weights).tables.values()} == {3}
    annotation.annotate(str(cut), (plan(cut, weights),), KeptResources())
    assert digests(cut) == digests(described)


def test_features_that_are_behind_are_told_and_made_where_they_are_taken_next(
    described: Path, weights: Path, tmp_path: Path
) -> None:
    grown = Path(shutil.copytree(described, tmp_path / "grown"))
    ended = command("extend", str(grown), str(write_photos(tmp_path / "more" / "photos", 2)))
    assert ended.returncode == 0, ended.stderr
    line = f"clip, clip_text; bring up to date with: controlmill evaluate RUN {grown} RESULTS"
    assert any(line in said for said in behind_lines(Dataset.open(grown)))
    before = digests(grown)
    annotation.annotate(str(grown), (plan(grown, weights),), KeptResources())
    after = digests(grown)
    assert not any(table in line for line in behind_lines(Dataset.open(grown)) for table in TABLES)
    assert {name: after[name] for name in before if name.endswith(".parquet")}.items() <= before.items()


def test_measures_that_lack_weights_are_known(weights: Path) -> None:
    found, missing = find_feature_weights(["fid", "clip_score", "clip_aesthetic"], str(weights))
    assert [(names, file.name) for names, file in missing] == [("fid", "pt_inception-2015-12-05-6726825d.pth")]
    assert without_weights(["fid", "clip_score"], found) == ["fid"]


def test_diversity_is_the_mean_distance_to_the_other_pictures_of_a_row(
    weights: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rng = np.random.default_rng(0)
    pictures = [rng.integers(0, 256, (64, 64, 3), dtype=np.uint8) for _ in range(4)]
    images = [
        {
            "key": str(number),
            "image": {"bytes": cv2.imencode(".png", picture)[1].tobytes()},
            "width": 64,
            "height": 64,
            "of_shard": 0,
            "of_row": number // 3,
            "prompt_kind": "none",
        }
        for number, picture in enumerate(pictures)
    ]
    found, _ = find_feature_weights(["lpips"], str(weights))
    step = DiversityStep("lpips", found, Placement())
    several, alone = grouped(iter(images))
    network = step.network()
    seen: list[int] = []
    forward = network.forward

    def counted(batch: Sequence[np.ndarray]) -> list[Any]:
        seen.append(len(batch))
        return list(forward(batch))

    monkeypatch.setattr(network, "forward", counted)
    values = [row["distance"] for row in step.do(several)["lpips"]]
    assert (several["key"], seen) == (("0", "1", "2"), [3]), "each picture goes through the network once"
    inputs = [network.preprocess(decode_image(row["image"]["bytes"])) for row in images[:3]]
    expected = [
        np.mean([network.distance(*network.forward([one, other])) for other in inputs if other is not one])
        for one in inputs
    ]
    assert values == pytest.approx(expected, rel=1e-4)
    with pytest.raises(Refused, match="one picture"):
        step.do(alone)
