"""Encode: the caches say what the base's encoders say, and the job keeps the promises of the others."""

from __future__ import annotations

import itertools
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch

from controlmill.annotators.runtime.placement import Placement
from controlmill.bases.loading import load_part
from controlmill.bases.registry import read_facts
from controlmill.pipelines import annotation
from controlmill.pipelines.engine import process
from controlmill.pipelines.engine.faults import Failure, JobFault
from controlmill.pipelines.engine.rows import run_rows
from controlmill.pipelines.engine.shards import check_outputs
from controlmill.pipelines.engine.worker import this_worker
from controlmill.pipelines.stages.encode import plan_encode
from controlmill.schemas.annotator_records import PlacementRecord
from controlmill.schemas.caches import cache_schema, fault, pack, unpack
from controlmill.schemas.dataset import Dataset
from controlmill.schemas.errors import MillError
from controlmill.schemas.files.shardfile import ShardFile, ShardWriter, read_footer
from controlmill.schemas.images.codecs import decode_image, encode_map
from controlmill.schemas.names import index_file, shard_file
from controlmill.schemas.views.verify import verify
from tests.helpers import KeptResources, command, digests, make, rows, write_photos
from tests.schemas.views.changed_datasets import write_captions
from tests.small_base import save_small_base


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_small_base(tmp_path_factory.mktemp("base") / "small")


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Ten pictures in three shards, every other one with a caption."""
    folder = tmp_path_factory.mktemp("encode")
    make(write_photos(folder / "photos"), folder / "dataset", "canny")
    return folder / "dataset"


@pytest.fixture(scope="module")
def encoded(plain: Path, base: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = shutil.copytree(plain, tmp_path_factory.mktemp("encoded") / "dataset")
    done = command("encode", str(folder), "--base", str(base), "--text", "--flip", "--batch-size", "3")
    assert done.returncode == 0, done.stderr
    return folder


def test_the_command_makes_aligned_caches_and_changes_nothing_else(plain: Path, encoded: Path) -> None:
    before, after = digests(plain), digests(encoded)
    assert {name for name, digest in before.items() if after[name] != digest} == {"README.md"}
    made = Dataset.open(encoded)
    assert not list(verify(made))
    assert {"latents", "embeddings"} < set(made.tables())
    assert made.condition_tables() == ["canny"]
    assert [row["key"] for row in rows(encoded, "latents")] == [row["key"] for row in rows(encoded, "images")]
    shown = command("inspect", str(encoded), "--contact-sheet", str(encoded.parent / "sheet.png"))
    assert shown.returncode == 0, shown.stderr
    assert "mirrored too; cpu fp32, batch 3" in shown.stdout


def test_moments_are_those_of_the_vae_and_of_the_mirrored_picture(encoded: Path, base: Path) -> None:
    vae = load_part(str(base), "vae")
    for image, row in zip(rows(encoded, "images"), rows(encoded, "latents"), strict=True):
        pixels = torch.from_numpy(decode_image(image["image"]["bytes"])).permute(2, 0, 1)[None].float() / 127.5 - 1
        for name, given in (("moments", pixels), ("mirrored", pixels.flip(3))):
            posterior = vae.encode(given).latent_dist
            mean, std = unpack(row[name], row["shape"], "fp32")
            np.testing.assert_allclose(mean, posterior.mean[0].numpy(), atol=1e-5)
            np.testing.assert_allclose(std, posterior.std[0].numpy(), atol=1e-5)


def test_embeddings_are_those_of_the_captions_and_nulls_stand_for_none(encoded: Path, base: Path) -> None:
    encoder, tokenizer = (load_part(str(base), part) for part in ("text_encoder", "tokenizer"))
    found = rows(encoded, "embeddings")
    captions = [row["caption"] for row in rows(encoded, "images")]
    assert [row["embedding"] is None for row in found] == [not caption for caption in captions]
    for caption, row in zip(captions, found, strict=True):
        if caption:
            tokens = tokenizer([caption], padding="max_length", truncation=True, return_tensors="pt").input_ids
            want = encoder(tokens)[0][0].detach().numpy()
            np.testing.assert_allclose(unpack(row["embedding"], row["shape"], "fp32"), want, atol=1e-5)


def test_provenance_says_which_encoder_and_which_images(encoded: Path, base: Path) -> None:
    made = Dataset.open(encoded)
    images, latents = made.index("images"), made.index("latents")
    assert images and latents
    encoder = latents.provenance.encoded_by
    assert encoder.sha256 == read_facts(str(base)).encoder_digest("latents")
    assert encoder.placement == PlacementRecord("cpu", "fp32", 3, 1)
    assert [entry.images_sha256 for entry in latents.shards] == images.digests
    assert str(base) not in str(latents)


def test_run_again_changes_nothing_and_another_base_is_an_error(encoded: Path, base: Path, tmp_path: Path) -> None:
    before = digests(encoded)
    again = command("encode", str(encoded), "--base", str(base), "--text", "--flip")  # with the batch it was begun
    assert again.returncode == 0, again.stderr
    assert digests(encoded) == before
    moved = shutil.copytree(base, tmp_path / "moved")  # where a base lies is nothing
    again = command("encode", str(encoded), "--base", str(moved), "--text", "--flip")
    assert again.returncode == 0, again.stderr
    vae = load_part(str(moved), "vae")
    with torch.no_grad():
        vae.encoder.conv_in.weight.mul_(1.01)
    vae.save_pretrained(moved / "vae")
    refused = command("encode", str(encoded), "--base", str(moved), "--text", "--flip")
    assert refused.returncode == 1
    assert "latents was made in another way" in refused.stderr and "encoder.sha256" in refused.stderr
    assert digests(encoded) == before


def test_killed_and_run_again_ends_in_the_same_bytes(plain: Path, encoded: Path, base: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(plain, tmp_path / "dataset")
    words = ("encode", str(folder), "--base", str(base), "--text", "--flip", "--batch-size", "3")
    job = subprocess.Popen([sys.executable, "-m", "controlmill", *words], stderr=subprocess.DEVNULL)
    while job.poll() is None and not (folder / shard_file("latents", 0)).exists():
        time.sleep(0.005)
    os.kill(job.pid, signal.SIGKILL)
    job.wait()
    done = command(*words)
    assert done.returncode == 0, done.stderr
    assert digests(folder) == digests(encoded)


def test_two_shards_in_flight_make_the_same_bytes(
    plain: Path, encoded: Path, base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(process, "shards_in_flight", lambda *_: 2)
    folder = shutil.copytree(plain, tmp_path / "dataset")
    plan = plan_encode(str(folder), str(base), Placement(), 3, True, True, "fp32")
    with KeptResources(threads=1) as resources:
        annotation.annotate(str(folder), plan, resources)
    assert digests(folder) == digests(encoded)


def test_a_worker_with_other_packages_or_another_base_is_refused(
    plain: Path, base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    moved = shutil.copytree(base, tmp_path / "base")
    stage = plan_encode(str(plain), str(moved), Placement(), 1, True, False, "fp32")[0]
    stated = stage.outputs()
    check_outputs(stage, stated)
    with monkeypatch.context() as patched:
        patched.setattr(
            "controlmill.pipelines.stages.encode.package_versions", lambda *names: dict.fromkeys(names, "0")
        )
        with pytest.raises(JobFault, match=r"make latents in another way(.|\n)*encoder\.packages\.diffusers"):
            check_outputs(stage, stated)
    (moved / "vae" / "diffusion_pytorch_model.safetensors").write_bytes(b"")
    check_outputs(stage, stated)  # what a run has found stays true for it
    with this_worker().shard("another run"), pytest.raises(JobFault, match=r"on \S+: .*not a whole"):
        check_outputs(stage, stated)


def test_captions_that_are_not_complete_are_not_encoded(plain: Path, base: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(plain, tmp_path / "dataset")
    write_captions(folder)
    plan = plan_encode(str(folder), str(base), Placement(), 1, True, False, "fp32")
    assert plan[0].outputs()["embeddings"].provenance["captions"]["table"] == "captions"
    (folder / index_file("captions")).unlink()
    (folder / shard_file("captions", 2)).unlink()
    with pytest.raises(MillError, match=r"captions is not complete \(2 of 3 shards\): run the annotate command again"):
        plan_encode(str(folder), str(base), Placement(), 1, True, False, "fp32")
    assert plan_encode(str(folder), str(base), Placement(), 1, False, False, "fp32")[0].outputs().keys() == {"latents"}


def test_caches_of_a_dataset_that_grew_go_on(plain: Path, base: Path, tmp_path: Path) -> None:
    folder, photos = shutil.copytree(plain, tmp_path / "dataset"), tmp_path / "photos"
    shutil.copytree(plain.parent / "photos", photos)
    encode = ("encode", str(folder), "--base", str(base), "--text")
    captions = ("annotate", str(folder), "--captions-from", str(photos))
    for words in (captions, encode):
        assert command(*words).returncode == 0
    before = {name: digest for name, digest in digests(folder).items() if name.endswith(".parquet")}
    write_photos(photos, 14)
    extended = command("extend", str(folder), str(photos), "--shard-size", "4")
    assert f"captions; bring up to date with: controlmill annotate {folder} --captions-from FOLDER" in extended.stderr
    assert f"embeddings; bring up to date with: controlmill encode {folder} --base BASE --text" in extended.stderr
    for words in (captions, encode, ("annotate", str(folder))):
        done = command(*words)
        assert done.returncode == 0, done.stderr
    assert {name: digests(folder)[name] for name in before} == before
    assert not list(verify(Dataset.open(folder)))
    (photos / "part1" / "001.txt").write_text("another caption")
    assert command(*captions, "--overwrite", "captions").returncode == 0
    assert Dataset.open(folder).state("embeddings").status == "stale"
    assert Dataset.open(folder).state("latents").status == "complete"
    assert "embeddings is stale" in command(*encode).stderr
    assert command(*encode, "--overwrite", "embeddings").returncode == 0
    assert not list(verify(Dataset.open(folder)))


def test_half_is_half_the_bytes(plain: Path, encoded: Path, base: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(plain, tmp_path / "dataset")
    done = command("encode", str(folder), "--base", str(base), "--half", "--batch-size", "3")
    assert done.returncode == 0, done.stderr
    assert not (folder / "embeddings").exists()
    assert not list(verify(Dataset.open(folder)))
    for small, whole in zip(rows(folder, "latents"), rows(encoded, "latents"), strict=True):
        assert small["mirrored"] is None
        assert 2 * len(small["moments"]) == len(whole["moments"])
        values = unpack(whole["moments"], whole["shape"], "fp32")
        np.testing.assert_allclose(unpack(small["moments"], small["shape"], "fp16"), values, rtol=1e-3, atol=1e-6)


def test_one_bad_picture_is_one_null_with_a_reason(encoded: Path, base: Path) -> None:
    stage = plan_encode(str(encoded), str(base), Placement(), 2, False, False, "fp32")[0]
    step = stage.steps["latents"]  # type: ignore[attr-defined]
    good, bad, other = rows(encoded, "images")[:3]
    bad["image"]["bytes"] = bad["image"]["bytes"][:100]
    odd = {
        **other,
        "width": 66,
        "height": 62,
        "image": {"bytes": encode_map("rgb", np.zeros((62, 66, 3), np.uint8), (62, 66))},
    }
    found = list(run_rows(step, [good, bad, odd, other], 1, lambda: None))
    assert [isinstance(row, Failure) for row in found] == [False, True, True, False]
    assert "sides in multiples of 4" in found[2].error
    row = {"mirrored": None, **found[0]["latents"]}
    assert fault("latents", {"reason": None, **row}, ("moments",), "fp32") is None
    cut = {**row, "moments": b"1234"}
    assert "moments: not" in (fault("latents", {"reason": None, **cut}, ("moments",), "fp32") or "")
    with pytest.raises(ValueError, match="not finite in fp16"):
        pack(np.float32([1e6]), "fp16")


def test_verify_finds_a_cache_that_was_changed(encoded: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(encoded, tmp_path / "dataset")
    path = folder / shard_file("latents", 1)
    with path.open("rb") as file, ShardFile(file) as parquet:
        footer, cut = read_footer(parquet), parquet.read().to_pylist()
    cut[1]["moments"] = cut[1]["moments"][:-4]
    with ShardWriter(path, cache_schema("latents", ("moments",)), footer.provenance) as writer:
        for end, size in zip(itertools.accumulate(footer.groups), footer.groups, strict=True):
            writer.write_group(cut[end - size : end])
        writer.close(footer.summary)
    found = [fault.found for fault in verify(Dataset.open(folder))]
    assert any("by its index" in text for text in found), found


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--base", "./nowhere"), "--base ./nowhere: no such file or folder"),
        (("--base", "tiny", "--dtype", "fp16"), "--dtype fp16: must be one of fp32, bf16"),
        (("--overwrite", "canny"), "--overwrite canny: this command makes latents"),
    ],
)
def test_bad_use_is_a_clear_error(plain: Path, base: Path, words: tuple[str, ...], message: str) -> None:
    given = words if "--base" in words else ("--base", str(base), *words)
    done = command("encode", str(plain), *given)
    assert done.returncode == 1
    assert message in done.stderr
    assert not (plain / "latents").exists()
