"""The reproduction from pictures to its page, at toy scale."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from recipes.reproduce import Scale, reproduce


def test_the_reproduction_runs_from_photos_to_the_page(
    small_base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A few dozen steps through the same commands."""
    monkeypatch.setattr("recipes.reproduce.SEEDS", (0,))
    monkeypatch.setattr("recipes.reproduce.find_weights", _none)
    scale = Scale(
        130,
        (20, 60),
        steps=10,
        batch_size=4,
        evaluations=2,
        evaluation_rows=4,
        evaluation_samples=2,
        base=str(small_base),
    )
    page = tmp_path / "docs" / "reproduce.md"
    page.parent.mkdir()
    reproduce(tmp_path / "work", page, scale)
    text = page.read_text()
    for name in ("canny-seed0", "canny-gaussian", "canny-lite", "canny-20", "segmentation", "depth"):
        assert f"| {name} |" in text
    for name in ("seeds", "ablations", "conditions", "samples_canny-seed0", "samples_depth"):
        assert (page.parent / "reproduce" / f"{name}.png").stat().st_size > 1000
    before = page.stat().st_mtime_ns
    reproduce(tmp_path / "work", page, scale)  # nothing is trained again
    assert page.stat().st_mtime_ns > before


def _none(choices: Any, folder: Path) -> None:
    from controlmill.schemas.errors import MillError

    raise MillError("no weights")
