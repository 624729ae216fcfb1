"""What a run trains on is named by segments, and stays what it was when the dataset grows."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from controlmill.pipelines.corpora.folder import FolderCorpus
from controlmill.pipelines.growing import extend
from controlmill.schemas.dataset import Dataset
from controlmill.schemas.errors import MillError
from controlmill.training.data.selection import Selection
from controlmill.training.run.prepare import prepare
from tests.helpers import SMALL, KeptResources, command, make, write_photos
from tests.training_runs import short_config


def rows_of(selection: Selection) -> tuple[set[tuple[int, int]], set[tuple[int, int]]]:
    """(shard, row) of those trained on, and of those held out."""
    train, held_out = (part[["shard", "row"]].tolist() for part in (selection.train, selection.held_out))
    return set(train), set(held_out)


def test_a_run_keeps_its_segments_when_the_dataset_grows(small_base: Path, tmp_path: Path) -> None:
    photos, address = write_photos(tmp_path / "photos", 12), tmp_path / "dataset"
    make(photos, address, "canny")
    config = short_config(small_base, held_out=0.3)
    before = prepare(str(address), config)
    assert before.segments == "0..0"
    write_photos(photos, 20)
    with KeptResources(threads=1) as resources:
        extend(str(address), [FolderCorpus(str(photos))], resources, SMALL, 4)
    first = replace(config, segments="0..0")
    behind = prepare(str(address), first)  # the table is behind, and has all that the run names
    with pytest.raises(MillError, match="canny is behind"):
        prepare(str(address), config)
    assert command("annotate", str(address)).returncode == 0
    again, grown = prepare(str(address), first), prepare(str(address), config)
    assert before.digests == behind.digests == again.digests != grown.digests
    assert rows_of(before.selection) == rows_of(again.selection)
    for old, new in zip(rows_of(before.selection), rows_of(grown.selection), strict=True):
        assert old < new  # no row has changed sides
    second = prepare(str(address), replace(config, segments="1", max_train_samples=3))
    assert second.segments == "1..1"
    assert {shard for shard, _ in rows_of(second.selection)[0]} <= set(Dataset.open(address).config.segments[1].range)
    assert len(second.selection.train) == 3
    with pytest.raises(MillError, match=r"--segments 0..2: .* has 2 segments, 0..1"):
        prepare(str(address), replace(config, segments="0..2"))


def test_the_base_is_said_with_the_size_that_it_knows(small_base: Path, scenes_folder: Path) -> None:
    config = short_config(small_base)
    assert prepare(str(scenes_folder), config).base_said(config) == f"base: {small_base} (64x64)"
    config = replace(config, base="tiny")
    said = "base: tiny (64x64, a toy; --base chooses another)"
    assert prepare(str(scenes_folder), config).base_said(config) == said


def test_pictures_of_another_size_than_the_bases_are_said(small_base: Path, scenes_folder: Path) -> None:
    config = short_config(small_base)
    prepared = prepare(str(scenes_folder), config)
    assert prepared.size_said(config) == ""
    said = "pictures are 32x32, and the base was trained on 64x64: it may sample them badly"
    assert prepared.size_said(replace(config, crop_size=32)) == said
