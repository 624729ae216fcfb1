"""The listing as it is stored: fixed before work starts; what it passes over is counted in bounded memory."""

from __future__ import annotations

from pathlib import Path

from controlmill.pipelines.corpora.corpus import KINDS_KEPT, MOST_KINDS, Counts
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
