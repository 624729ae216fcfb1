"""Families of bases: which one a base is of; a second one is a file and a row, and nothing that uses bases knows it."""

from __future__ import annotations

import ast
import itertools
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

from controlmill.annotators.runtime.placement import Placement
from controlmill.bases.registry import load_base, read_facts
from controlmill.bases.stable_diffusion import StableDiffusionFacts
from controlmill.bases.stable_diffusion_xl import StableDiffusionXLFacts
from controlmill.pipelines.engine.run_folder import Run
from controlmill.pipelines.engine.shards import Job, run_shard
from controlmill.pipelines.stages.encode import plan_encode
from controlmill.schemas.dataset import Dataset
from controlmill.schemas.errors import MillError
from controlmill.schemas.files.documents import plain
from controlmill.schemas.files.shardfile import ShardFile, ShardWriter, read_footer
from controlmill.schemas.names import shard_file
from controlmill.schemas.views.verify import verify
from tests.helpers import rows
from tests.training_runs import begin, losses, make_inputs, short_config

ROOT = Path(__file__).parents[2]


def encoded(dataset: Path, base: Path) -> None:
    """Make the caches of a dataset, in this process."""
    stage = plan_encode(str(dataset), str(base), Placement(), 2, True, False, "fp32")[0]
    opened = Dataset.open(dataset)
    job = Job(opened.storage, Run.start(opened.storage).id, stage, stage.outputs(), 1)
    for shard in range(opened.shards):
        assert run_shard(job, shard)["status"] == "done", Run(opened.storage, job.run).failures()
    for table in job.outputs:
        opened.finish(table)


def test_another_family_is_encoded_cached_and_trained_with_its_own_arrays(
    small_xl: Path, dataset: Path, tmp_path: Path
) -> None:
    folder = shutil.copytree(dataset, tmp_path / "dataset")
    encoded(folder, small_xl)
    found = rows(folder, "embeddings")
    captions = [row["caption"] for row in rows(folder, "images")]
    assert [row["pooled"] is None for row in found] == [not caption for caption in captions]
    assert [(row["shape"], row["pooled_shape"]) for row in found] == [([24, 96], [48])] * len(found)
    assert not [fault for fault in verify(Dataset.open(folder), pixels=True) if "embeddings" in fault.where]

    settings = {"steps": 1, "batch_size": 4, "prompt_dropout": 0.3, "crop_size": 0}
    cached = begin(folder, tmp_path / "cached", short_config(small_xl, **settings))
    assert cached.prepared.caches.tables == ["latents", "embeddings"]
    samples = next(cached.prepared.loader(cached.config).batches())
    inputs = make_inputs(cached.base, samples, cached.prepared.condition, cached.config, cached.empty)
    want = make_inputs(cached.base, samples, cached.prepared.condition, cached.config)
    assert set(inputs.prompt) == {"embedding", "pooled"}
    for name, tensor in inputs.prompt.items():
        torch.testing.assert_close(tensor, want.prompt[name], atol=1e-5, rtol=0)
    cached.train()
    uncached = begin(folder, tmp_path / "plain", short_config(small_xl, caches="off", **settings))
    uncached.train()
    np.testing.assert_allclose(losses(tmp_path / "cached"), losses(tmp_path / "plain"), rtol=0, atol=1e-5)

    without_a_column(folder / shard_file("embeddings", 0), "pooled_shape")
    assert "its column pooled_shape is not there, not list<item: int32>" in [
        fault.found for fault in verify(Dataset.open(folder))
    ]


def without_a_column(path: Path, column: str) -> None:
    """Write a file of a table again, without a column."""
    with path.open("rb") as file, ShardFile(file) as parquet:
        footer, table = read_footer(parquet), parquet.read().drop_columns([column])
    with ShardWriter(path, table.schema.remove_metadata(), plain(footer.provenance)) as writer:
        for end, size in zip(itertools.accumulate(footer.groups), footer.groups, strict=True):
            writer.write_group(table.slice(end - size, size).to_pylist())
        writer.close(plain(footer.summary))


def test_which_family_a_base_is_of_is_told_by_its_parts(small_xl: Path, small_base: Path, tmp_path: Path) -> None:
    assert type(read_facts(str(small_xl))) is StableDiffusionXLFacts
    assert type(read_facts(str(small_base))) is StableDiffusionFacts
    folder = shutil.copytree(small_xl, tmp_path / "base")
    index = folder / "model_index.json"
    index.write_text(json.dumps({**json.loads(index.read_text()), "text_encoder": [None, None]}))  # as the refiner's
    with pytest.raises(MillError, match=r"only bases of Stable Diffusion 1\.x and 2\.x and .* XL are supported"):
        read_facts(str(folder))


def test_who_uses_a_base_knows_its_protocol_alone() -> None:
    known = {"base", "configuration", "controlnet_file", "noise_schedule", "pixels", "registry", "sampling"}
    for room in ("evaluation", "pipelines", "training"):
        for path in (ROOT / room).rglob("*.py"):
            for node in ast.walk(ast.parse(path.read_text("utf-8"))):
                if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("controlmill.bases"):
                    assert (node.module or "").removeprefix("controlmill.bases.") in known, f"{path}: {node.module}"


def test_a_loaded_base_computes_at_its_precision_and_a_trainable_one_keeps_its_denoiser_whole(small_base: Path) -> None:
    frozen = load_base(str(small_base), torch.device("cpu"), "bf16")
    trainable = load_base(str(small_base), torch.device("cpu"), "bf16", trainable=True)
    assert (frozen.denoiser.dtype, trainable.denoiser.dtype) == (torch.bfloat16, torch.float32)
    assert frozen.dtype == trainable.dtype == torch.bfloat16
