"""Caches: training with them is training without them, only faster; what does not fit is said or refused."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from accelerate.state import AcceleratorState
from diffusers import AutoencoderKL, UNet2DConditionModel
from safetensors.torch import load_file

from controlmill.bases import encoders
from controlmill.bases.stable_diffusion import Base
from controlmill.schemas.dataset import index_file, shard_file
from controlmill.schemas.errors import MillError
from controlmill.training import start
from controlmill.training.data import reader
from controlmill.training.data.cache_use import base_digest
from controlmill.training.run.log import read_log
from controlmill.training.step import make_inputs
from controlmill.training.trainer import Trainer
from tests.schemas.views.test_verify import write_captions


def losses(run: Path) -> list[float]:
    return [line["loss"] for line in read_log(run) if "loss" in line]


def weights(run: Path) -> dict[str, torch.Tensor]:
    return load_file(run / "diffusion_pytorch_model.safetensors")


@pytest.fixture
def begin(cached_folder):
    """A trainer on the dataset with caches."""

    def go(folder: Path, config, dataset: Path = cached_folder) -> Trainer:
        AcceleratorState._reset_state(reset_partial_state=True)
        return Trainer(folder, config, start.begin(str(dataset), folder, config), resume=False)

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
def test_losses_with_caches_are_those_without(changes, begin, settings, tmp_path):
    config = settings(steps=6, batch_size=6, **changes)
    cached = begin(tmp_path / "cached", config)
    assert cached.prepared.caches.tables == ["latents", "embeddings"]
    cached.train()
    plain = begin(tmp_path / "plain", settings(steps=6, batch_size=6, caches="off", **changes))
    assert not plain.prepared.caches.tables
    plain.train()
    np.testing.assert_allclose(losses(tmp_path / "cached"), losses(tmp_path / "plain"), rtol=0, atol=1e-5)
    assert losses(tmp_path / "cached") != losses(tmp_path / "plain")  # they did not come the same way


def test_no_picture_is_decoded_and_no_encoder_runs(begin, settings, tmp_path, monkeypatch):
    made = begin(tmp_path / "run", settings())

    def forbidden(*_):
        raise AssertionError("called while training")

    monkeypatch.setattr(reader, "decode_image", forbidden)
    monkeypatch.setattr(Base, "encode_images", forbidden)
    monkeypatch.setattr(Base, "encode_prompts", forbidden)
    assert made.train() == 4


def test_a_resumed_run_is_equal_bit_for_bit(begin, settings, tmp_path):
    begin(tmp_path / "whole", settings(steps=7, random_flip=True)).train()
    begin(tmp_path / "cut", settings(steps=3, random_flip=True)).train()
    config, prepared = start.resume(tmp_path / "cut", {"steps": 7, "loader_workers": 2})
    Trainer(tmp_path / "cut", config, prepared, resume=True).train()
    one, two = weights(tmp_path / "whole"), weights(tmp_path / "cut")
    assert all(torch.equal(one[name], two[name]) for name in one)
    assert losses(tmp_path / "whole") == losses(tmp_path / "cut")


def test_a_run_goes_on_with_the_caches_that_it_began_with(begin, settings, dataset_folder, cached_folder, tmp_path):
    folder = tmp_path / "dataset"
    shutil.copytree(dataset_folder, folder)
    begin(tmp_path / "without", settings(steps=1), folder).train()
    for table in ("latents", "embeddings"):
        shutil.copytree(cached_folder / table, folder / table)
        shutil.copy(cached_folder / index_file(table), folder / index_file(table))
    _, prepared = start.resume(tmp_path / "without", {"steps": 2})
    assert not prepared.caches.tables
    begin(tmp_path / "with", settings(steps=1), folder).train()
    shutil.rmtree(folder / "latents")
    with pytest.raises(MillError, match="latents: it is gone"):
        start.resume(tmp_path / "with", {"steps": 2})


def test_a_dropped_prompt_gets_the_embedding_of_the_empty_one(settings, cached_folder, small_base):
    config = settings(batch_size=48)
    prepared = start.prepare(str(cached_folder), config)
    base = Base(str(small_base), torch.device("cpu"))
    empty = base.encode_prompts([""])[0]
    dropped = []
    for samples in (next(prepared.loader(config).batches(0)), next(prepared.loader(config).batches(2))):
        ordered = sorted(samples, key=lambda sample: sample.row)
        given = make_inputs(base, ordered, prepared.condition, config, empty).text
        want = make_inputs(base, ordered, prepared.condition, config).text
        torch.testing.assert_close(given, want, atol=1e-5, rtol=0)
        dropped.append({s.row for s, text in zip(ordered, given, strict=True) if torch.equal(text, empty)})
        assert 10 < len(dropped[-1]) < 38
    every = settings(prompt_dropout=1.0)
    assert all(torch.equal(text, empty) for text in make_inputs(base, ordered, prepared.condition, every, empty).text)


def test_a_mirrored_sample_has_the_moments_of_the_mirrored_picture(settings, cached_folder):
    seen = {False: 0, True: 0}
    config = settings(batch_size=24, random_flip=True)
    cached = next(start.prepare(str(cached_folder), config).loader(config).batches())
    plain = settings(batch_size=24, random_flip=True, caches="off")
    decoded = next(start.prepare(str(cached_folder), plain).loader(plain).batches())
    base = Base(config.base, torch.device("cpu"))
    for with_cache, without in zip(cached, decoded, strict=True):
        assert with_cache.row == without.row
        assert np.array_equal(with_cache.maps["canny"], without.maps["canny"])
        pixels = torch.from_numpy(without.image).permute(2, 0, 1)[None].float() / 127.5 - 1
        mean = base.vae.encode(pixels).latent_dist.mean[0].numpy()
        np.testing.assert_allclose(with_cache.moments[0], mean, atol=1e-5)
        seen[bool(np.abs(with_cache.moments[0][..., ::-1] - mean).max() < 1e-5)] += 1
    assert seen[False] == 24  # a flip of latents is never the latents of a flip


def test_a_base_with_another_vae_trains_without_and_says_why(settings, cached_folder, small_base, tmp_path):
    other = changed_base(small_base, tmp_path / "other", "encoder")
    prepared = start.prepare(str(cached_folder), settings(base=str(other)))
    assert prepared.caches.tables == ["embeddings"]
    assert "latents not used: it was made by another VAE" in prepared.caches.said()
    other = changed_base(small_base, tmp_path / "decoder", "decoder")  # has no say in moments
    assert base_digest("latents", str(other)) == base_digest("latents", str(small_base))
    words = ["train", cached_folder, tmp_path / "run", "--condition", "canny", "--base", tmp_path / "other"]
    words += ["--steps", "1", "--batch-size", "2", "--held-out", "0", "--evaluation-samples", "0", "--device", "cpu"]
    command = [sys.executable, "-m", "controlmill", *map(str, words)]
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    lines = [line for line in done.stderr.splitlines() if line.startswith("caches: ")]
    assert len(lines) == 1 and "embeddings are used; latents not used" in lines[0]


def test_images_or_captions_that_changed_are_said(settings, cached_folder, tmp_path):
    for table, change in (("latents", "images_sha256"), ("embeddings", "captions")):
        folder = tmp_path / table
        shutil.copytree(cached_folder, folder)
        path = folder / index_file(table)
        index = json.loads(path.read_text())
        if change == "captions":
            index["provenance"]["captions"] = {"table": "captions", "sha256": "0"}
        else:
            index["shards"][1]["images_sha256"] = "0" * 64
        path.write_text(json.dumps(index))
        caches = start.prepare(str(folder), settings()).caches
        assert table not in caches.tables
        assert f"made from other {'captions' if change == 'captions' else 'images'}" in caches.unused[table]


def test_captions_that_are_stale_or_half_made_are_not_trained_on(settings, dataset_folder, tmp_path):
    folder = shutil.copytree(dataset_folder, tmp_path / "dataset")
    config = settings(caches="off")
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


def test_crop_and_mirror_are_refused_where_the_cache_cannot_serve(settings, cached_folder, tmp_path):
    with pytest.raises(MillError, match="--crop-size 32 with the cache latents: its moments are of whole pictures"):
        start.prepare(str(cached_folder), settings(crop_size=32))
    assert start.prepare(str(cached_folder), settings(crop_size=32, caches="off")).selection
    folder = tmp_path / "dataset"
    shutil.copytree(cached_folder, folder)
    path = folder / index_file("latents")
    index = json.loads(path.read_text())
    index["provenance"]["mirrored"] = False
    path.write_text(json.dumps(index))
    with pytest.raises(MillError, match="lacks the moments of mirrored pictures"):
        start.prepare(str(folder), settings(random_flip=True))
    assert start.prepare(str(folder), settings()).caches.latents


def test_a_base_of_other_sizes_is_an_error_before_anything_is_loaded(
    settings, cached_folder, small_base, tmp_path, monkeypatch
):
    def forbidden(*_, **__):
        raise AssertionError("weights were loaded")

    for part, name, value, message in (
        ("vae", "block_out_channels", [8, 16], "VAE of 4 channels and factor 4"),
        ("unet", "cross_attention_dim", 48, "embeddings of width 32"),
    ):
        other = tmp_path / part
        shutil.copytree(small_base, other)
        path = other / part / "config.json"
        path.write_text(json.dumps({**json.loads(path.read_text()), name: value}))
        with monkeypatch.context() as patched:
            if part == "vae":
                patched.setattr(encoders, "_load", forbidden)
            patched.setattr(UNet2DConditionModel, "from_pretrained", forbidden)
            with pytest.raises(MillError, match=message):
                start.prepare(str(cached_folder), settings(base=str(other)))


def test_rows_that_could_not_be_encoded_are_left_out_and_counted(begin, settings, cached_folder, tmp_path):
    folder = tmp_path / "dataset"
    shutil.copytree(cached_folder, folder)
    path = folder / shard_file("latents", 0)
    table = pq.read_table(path)
    rows = table.to_pylist()
    rows[7] |= {"moments": None, "mirrored": None, "shape": None, "reason": "failed", "error": "ValueError"}
    pq.write_table(pa.Table.from_pylist(rows, table.schema), path)
    made = begin(tmp_path / "run", settings(batch_size=95, steps=1), folder)
    assert made.prepared.selection.left_out == {"latents: failed": 1}
    assert len(made.prepared.selection.train) == 95
    assert made.train() == 1
