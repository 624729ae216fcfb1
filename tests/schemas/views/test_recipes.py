"""The recipes for reading in docs/datasets.md, run."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

PAGE = (Path(__file__).parents[3] / "docs" / "datasets.md").read_text("utf-8")
READING = PAGE.split("\n## Reading\n", 1)[1].split("\n## ", 1)[0]
RECIPES = re.findall(r"### ([^\n]+)\n(.*?)(?=\n### |\Z)", READING, re.DOTALL)
BLOCKS = {title: re.findall(r"```python\n(.*?)```", text, re.DOTALL) for title, text in RECIPES}


@pytest.fixture(autouse=True)
def _beside_the_dataset(scenes_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Recipes read ``dataset`` in the working folder; `datasets` caches in a folder of its own."""
    monkeypatch.chdir(scenes_folder.parent)
    import datasets

    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")


def run(title: str) -> dict[str, object]:
    """What the blocks of a section leave. The scenes have no table of captions, which the first recipe reads too."""
    names: dict[str, object] = {"__name__": "recipe"}
    for block in BLOCKS[title]:
        exec(compile(block.replace(', "captions"', "").replace('row["captions"]', "None"), title, "exec"), names)
    return names


@pytest.mark.parametrize("title", ["Python", "Plain PyTorch"])
def test_rows_are_read_with_our_reader(title: str) -> None:
    names = run(title)
    if title == "Plain PyTorch":
        pictures, edges = names["pictures"], names["edges"]
        assert (tuple(pictures.shape), tuple(edges.shape)) == ((4, 3, 64, 64), (4, 1, 64, 64))  # type: ignore[attr-defined]
        assert set(edges.unique().tolist()) == {0.0, 1.0}  # type: ignore[attr-defined]


def test_datasets_reads_tables_side_by_side() -> None:
    blocks = BLOCKS["Hugging Face datasets"]
    assert len(blocks) == 3
    names: dict[str, object] = {}
    for block in blocks[:2]:
        exec(block, names)
    assert len(names["images"]) == len(names["canny"]) == 96  # type: ignore[arg-type]
    exec('depth = load_dataset("dataset", "depth", split="train")[0:2]', names)
    exec(blocks[2], names)
    assert names["rgb"].mode == "RGB"  # type: ignore[attr-defined]


def test_duckdb_polars_and_daft_join_them() -> None:
    sql, polars, daft = BLOCKS["DuckDB, Polars, Daft"]
    for block, count in ((sql, len), (polars, len), (daft, lambda pairs: pairs.count_rows())):
        names: dict[str, object] = {}
        exec(block, names)
        assert count(names["pairs"]) == 96  # type: ignore[arg-type]
    assert names["pairs"].limit(1).to_pydict()["picture"][0].shape == (64, 64, 3)  # type: ignore[attr-defined]
