"""The listing as it is stored: fixed before work starts; what it passes over is counted in bounded memory."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from controlmill.pipelines.corpora.listing import LARGEST_SHARD, SHARDS, shard_size_for
from controlmill.pipelines.corpora.passed_over import KINDS_KEPT, MOST_KINDS, Counts
from controlmill.schemas.dataset import Dataset
from controlmill.schemas.errors import MillError
from tests.helpers import make, rows, scene, write_photos


def test_a_listing_is_fixed_before_work_starts(tmp_path: Path) -> None:
    photos = write_photos(tmp_path / "photos", 4)
    make(photos, tmp_path / "dataset", "canny")
    scene(9).save(photos / "new.png")
    make(photos, tmp_path / "dataset", "canny")
    assert len(rows(tmp_path / "dataset", "images")) == 4


def test_kinds_are_counted_in_bounded_memory_and_the_most_frequent_are_kept() -> None:
    counts = Counts()
    for number in range(2 * MOST_KINDS):
        counts.add(f".{number}", 1 + (number % 7 == 0))
    said = counts.said()
    assert said["files"] == 2 * MOST_KINDS + len(range(0, 2 * MOST_KINDS, 7))
    assert len(counts._kinds) == MOST_KINDS
    assert list(said["most"].values()) == [2] * KINDS_KEPT


@given(st.integers(1, 200_000))
def test_a_corpus_has_shards_for_several_workers_and_none_larger_than_the_largest(pictures: int) -> None:
    size = shard_size_for(pictures)
    assert size % 16 == 0
    assert size <= LARGEST_SHARD
    assert -(-pictures // size) <= SHARDS or size == LARGEST_SHARD
    assert -(-pictures // size) >= min(SHARDS // 2, -(-pictures // 16))


def test_the_size_of_shards_follows_from_the_listing_unless_it_is_given(tmp_path: Path) -> None:
    photos = write_photos(tmp_path / "photos", 20)
    make(photos, tmp_path / "dataset", "canny", shard_size=None)
    dataset = Dataset.open(tmp_path / "dataset")
    assert (dataset.config.segments[0].shard_size, dataset.shards) == (16, 2)
    make(photos, tmp_path / "dataset", "canny", shard_size=16)
    make(photos, tmp_path / "dataset", "canny", shard_size=None)
    with pytest.raises(MillError, match="--shard-size: 16, now 8"):
        make(photos, tmp_path / "dataset", "canny", shard_size=8)


def test_a_corpus_of_more_shards_than_an_index_can_hold_is_refused_and_larger_shards_are_taken(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("controlmill.pipelines.corpora.listing.MAX_SHARDS", 2)
    photos = write_photos(tmp_path / "photos", 5)
    with pytest.raises(MillError, match=r"at most 2 shards and with 2 pictures .* \(--shard-size 8\)"):
        make(photos, tmp_path / "dataset", "canny", shard_size=2)
    make(photos, tmp_path / "dataset", "canny", shard_size=8)
    assert Dataset.open(tmp_path / "dataset").shards == 1
