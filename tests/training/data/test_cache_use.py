"""Caches: training with them is training without them, only faster; what does not fit is said or refused."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from diffusers import AutoencoderKL, UNet2DConditionModel

from controlmill.bases import digests
from controlmill.bases.registry import load_base, read_facts
from controlmill.bases.stable_diffusion import StableDiffusion
from controlmill.schemas.dataset import Dataset
from controlmill.schemas.errors import MillError
from controlmill.schemas.names import index_file, shard_file
from controlmill.training import start
from controlmill.training.config import TrainConfig
from controlmill.training.data import reader
from controlmill.training.trainer import Trainer
from tests import training_runs
from tests.helpers import command
from tests.schemas.views.changed_datasets import write_captions
from tests.training_runs import Begin, MakeConfig, losses, make_inputs, weights


@pytest.fixture
def begin(scenes_with_caches: Path) -> Begin:
    """A trainer on the dataset with caches."""

    def go(folder: Path, config: TrainConfig, dataset: Path = scenes_with_caches) -> Trainer:
        return training_runs.begin(dataset, folder, config)

    return go


def changed_base(base: Path, folder: Path, part: str) -> Path:
    """A copy of a base with one weight of its VAE's encoder or decoder moved."""
    shutil.copytree(base, folder)
    vae = AutoencoderKL.from_pretrained(folder, subfolder="vae")
    with torch.no_grad():
        getattr(vae, part).conv_in.weight[0, 0, 0, 0] += 0.5
    vae.save_pretrained(folder / "vae")
    return folder


@pytest.mark.parametrize("changes", [{}, {"random_flip": True, "noise_offset": 0.1, "micro_batch_size": 3}])
def test_losses_with_caches_are_those_without(
    changes: dict[str, Any], begin: Begin, short_config: MakeConfig, tmp_path: Path
) -> None:
    config = short_config(steps=6, batch_size=6, **changes)
    cached = begin(tmp_path / "cached", config)
    assert cached.prepared.caches.tables == ["latents", "embeddings"]
    cached.train()
    plain = begin(tmp_path / "plain", short_config(steps=6, batch_size=6, caches="off", **changes))
    assert not plain.prepared.caches.tables
    plain.train()
    np.testing.assert_allclose(losses(tmp_path / "cached"), losses(tmp_path / "plain"), rtol=0, atol=1e-5)


def test_no_picture_is_decoded_and_no_encoder_runs(
    begin: Begin, short_config: MakeConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = begin(tmp_path / "run", short_config())
    assert made.empty is not None  # encoded once

    def forbidden(*_: Any) -> None:
        raise AssertionError("called while training")

    monkeypatch.setattr(reader, "decode_image", forbidden)
    monkeypatch.setattr(StableDiffusion, "encode_images", forbidden)
    monkeypatch.setattr(StableDiffusion, "encode_prompts", forbidden)
    assert made.train() == 4


def test_a_resumed_run_is_equal_bit_for_bit(begin: Begin, short_config: MakeConfig, tmp_path: Path) -> None:
    begin(tmp_path / "whole", short_config(steps=7, random_flip=True)).train()
    begin(tmp_path / "cut", short_config(steps=3, random_flip=True)).train()
    config, prepared = start.resume(tmp_path / "cut", {"steps": 7, "loader_workers": 2})
    Trainer(tmp_path / "cut", config, prepared, resume=True).train()
    one, two = weights(tmp_path / "whole"), weights(tmp_path / "cut")
    assert all(torch.equal(one[name], two[name]) for name in one)
    assert losses(tmp_path / "whole") == losses(tmp_path / "cut")


def test_a_run_goes_on_with_the_caches_that_it_began_with(
    begin: Begin, short_config: MakeConfig, scenes_folder: Path, scenes_with_caches: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "dataset"
    shutil.copytree(scenes_folder, folder)
    begin(tmp_path / "without", short_config(steps=1), folder).train()
    for table in ("latents", "embeddings"):
        shutil.copytree(scenes_with_caches / table, folder / table)
        shutil.copy(scenes_with_caches / index_file(table), folder / index_file(table))
    _, prepared = start.resume(tmp_path / "without", {"steps": 2})
    assert not prepared.caches.tables
    begin(tmp_path / "with", short_config(steps=1), folder).train()
    shutil.rmtree(folder / "latents")
    with pytest.raises(MillError, match="latents: it is gone"):
        start.resume(tmp_path / "with", {"steps": 2})


def test_a_dropped_prompt_gets_the_embedding_of_the_empty_one(
    short_config: MakeConfig, scenes_with_caches: Path, small_base: Path
) -> None:
    config = short_config(batch_size=48)
    prepared = start.prepare(str(scenes_with_caches), config)
    base = load_base(str(small_base), torch.device("cpu"))
    empty = base.encode_prompts([""])
    blank = empty["embedding"][0]
    dropped = []
    for samples in (next(prepared.loader(config).batches(0)), next(prepared.loader(config).batches(2))):
        ordered = sorted(samples, key=lambda sample: sample.row)
        given = make_inputs(base, ordered, prepared.condition, config, empty).prompt["embedding"]
        want = make_inputs(base, ordered, prepared.condition, config).prompt["embedding"]
        torch.testing.assert_close(given, want, atol=1e-5, rtol=0)
        dropped.append({s.row for s, text in zip(ordered, given, strict=True) if torch.equal(text, blank)})
        assert 10 < len(dropped[-1]) < 38
    every = short_config(prompt_dropout=1.0)
    prompts = make_inputs(base, ordered, prepared.condition, every, empty).prompt["embedding"]
    assert all(torch.equal(text, blank) for text in prompts)


def test_a_mirrored_sample_has_the_moments_of_the_mirrored_picture(
    short_config: MakeConfig, scenes_with_caches: Path
) -> None:
    seen = {False: 0, True: 0}
    config = short_config(batch_size=24, random_flip=True)
    cached = next(start.prepare(str(scenes_with_caches), config).loader(config).batches())
    plain = short_config(batch_size=24, random_flip=True, caches="off")
    decoded = next(start.prepare(str(scenes_with_caches), plain).loader(plain).batches())
    base = load_base(config.base, torch.device("cpu"))
    for with_cache, without in zip(cached, decoded, strict=True):
        assert with_cache.row == without.row
        assert np.array_equal(with_cache.maps["canny"], without.maps["canny"])
        pixels = torch.from_numpy(without.image).permute(2, 0, 1)[None].float() / 127.5 - 1
        mean = base.vae.encode(pixels).latent_dist.mean[0].numpy()
        np.testing.assert_allclose(with_cache.latents["moments"][0], mean, atol=1e-5)
        seen[bool(np.abs(with_cache.latents["moments"][0][..., ::-1] - mean).max() < 1e-5)] += 1
    assert seen[False] == 24  # a flip of latents is never the latents of a flip


def test_a_base_with_another_vae_trains_without_and_says_why(
    short_config: MakeConfig, scenes_with_caches: Path, small_base: Path, tmp_path: Path
) -> None:
    other = changed_base(small_base, tmp_path / "other", "encoder")
    prepared = start.prepare(str(scenes_with_caches), short_config(base=str(other)))
    assert prepared.caches.tables == ["embeddings"]
    assert "latents not used: it was made by another VAE" in prepared.caches.said()
    other = changed_base(small_base, tmp_path / "decoder", "decoder")  # has no say in moments
    assert read_facts(str(other)).encoder_digest("latents") == read_facts(str(small_base)).encoder_digest("latents")
    words = ["train", scenes_with_caches, tmp_path / "run", "--condition", "canny", "--base", tmp_path / "other"]
    words += ["--steps", "1", "--batch-size", "2", "--held-out", "0", "--evaluation-samples", "0", "--device", "cpu"]
    done = command(*map(str, words))
    assert done.returncode == 0, done.stderr
    lines = [line for line in done.stderr.splitlines() if line.startswith("caches: ")]
    assert len(lines) == 1 and "embeddings are used; latents not used" in lines[0]


def test_images_or_captions_that_changed_are_said(
    short_config: MakeConfig, scenes_with_caches: Path, tmp_path: Path
) -> None:
    for table, change in (("latents", "images_sha256"), ("embeddings", "captions")):
        folder = tmp_path / table
        shutil.copytree(scenes_with_caches, folder)
        path = folder / index_file(table)
        index = json.loads(path.read_text())
        if change == "captions":
            index["provenance"]["captions"] = {"table": "captions"}
        else:
            index["shards"][1]["images_sha256"] = "0" * 64
        path.write_text(json.dumps(index))
        caches = start.prepare(str(folder), short_config()).caches
        assert table not in caches.tables
        assert f"made from other {'captions' if change == 'captions' else 'images'}" in caches.unused[table]


def test_captions_that_are_stale_or_half_made_are_not_trained_on(
    short_config: MakeConfig, scenes_folder: Path, tmp_path: Path
) -> None:
    folder = shutil.copytree(scenes_folder, tmp_path / "dataset")
    config = short_config(caches="off")
    before = start.prepare(str(folder), config).digests["captions"]
    write_captions(folder)
    assert start.prepare(str(folder), config).digests["captions"] != before
    path = folder / index_file("captions")
    index = json.loads(path.read_text())
    index["shards"][1]["images_sha256"] = "0" * 64
    path.write_text(json.dumps(index))
    with pytest.raises(MillError, match="captions is stale, made from earlier images: redo it first"):
        start.prepare(str(folder), config)
    path.unlink()
    (folder / shard_file("captions", 0)).unlink()
    with pytest.raises(MillError, match=r"captions is not complete \(2 of 3 shards\): run the annotate command again"):
        start.prepare(str(folder), config)


def test_crop_and_mirror_are_refused_where_the_cache_cannot_serve(
    short_config: MakeConfig, scenes_with_caches: Path, tmp_path: Path
) -> None:
    with pytest.raises(MillError, match="--crop-size 32 with the cache latents: it is of whole pictures"):
        start.prepare(str(scenes_with_caches), short_config(crop_size=32))
    assert start.prepare(str(scenes_with_caches), short_config(crop_size=32, caches="off")).selection
    folder = tmp_path / "dataset"
    shutil.copytree(scenes_with_caches, folder)
    path = folder / index_file("latents")
    index = json.loads(path.read_text())
    index["provenance"]["mirrored"] = False
    path.write_text(json.dumps(index))
    with pytest.raises(MillError, match="lacks the moments of mirrored pictures"):
        start.prepare(str(folder), short_config(random_flip=True))
    assert start.prepare(str(folder), short_config()).caches.latents


def test_a_base_of_other_sizes_is_an_error_before_anything_is_loaded(
    short_config: MakeConfig,
    scenes_with_caches: Path,
    small_base: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def forbidden(*_: Any, **__: Any) -> None:
        raise AssertionError("weights were loaded")

    for part, name, value, message in (
        ("vae", "block_out_channels", [8, 16], "factor 4 instead of 2"),
        ("unet", "cross_attention_dim", 48, "width 32 instead of 48"),
    ):
        other = tmp_path / part
        shutil.copytree(small_base, other)
        path = other / part / "config.json"
        path.write_text(json.dumps({**json.loads(path.read_text()), name: value}))
        with monkeypatch.context() as patched:
            if part == "vae":
                patched.setattr(digests, "weights_of", forbidden)
            patched.setattr(UNet2DConditionModel, "from_pretrained", forbidden)
            with pytest.raises(MillError, match=message):
                start.prepare(str(scenes_with_caches), short_config(base=str(other)))


def test_rows_that_could_not_be_encoded_are_left_out_and_counted(
    begin: Begin, short_config: MakeConfig, scenes_with_caches: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "dataset"
    shutil.copytree(scenes_with_caches, folder)
    path = folder / shard_file("latents", 0)
    table = pq.read_table(path)
    rows = table.to_pylist()
    rows[7] |= {"moments": None, "mirrored": None, "shape": None, "reason": "failed", "error": "ValueError"}
    pq.write_table(pa.Table.from_pylist(rows, table.schema), path)
    Dataset.open(folder).finish("latents")
    made = begin(tmp_path / "run", short_config(batch_size=95, steps=1), folder)
    assert made.prepared.selection.left_out == {"latents: failed": 1}
    assert len(made.prepared.selection.train) == 95
    assert made.train() == 1
