"""What `datasets` reads by the card is what is in the files, also where it has read another dataset of that name."""

from __future__ import annotations

import json
import re
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import pyarrow.parquet as pq
import pytest
from datasets import load_dataset
from datasets.exceptions import NonMatchingSplitsSizesError

from controlmill.schemas.annotator_records import AnnotatorRecord
from controlmill.schemas.dataset import Dataset
from controlmill.schemas.images.codecs import encode_map
from controlmill.schemas.index import TableState
from controlmill.schemas.names import index_file
from controlmill.schemas.views import card
from tests.schemas.views.changed_datasets import edit, rewrite, write_condition


@pytest.fixture
def load(tmp_path: Path) -> Any:
    """`load_dataset` with one cache for all."""

    def load(folder: Path, table: str, **options: Any) -> Any:
        return load_dataset(str(folder), table, split="train", cache_dir=str(tmp_path / "cache"), **options)

    return load


def copied(dataset: Path, parent: Path) -> Path:
    return Path(shutil.copytree(dataset, parent / "dataset"))


def change(folder: Path, table: str, **values: Any) -> None:
    """As a redo does: other rows, as many as before."""
    rewrite(folder, table, edit(0, **values))


def test_another_dataset_of_that_name_is_not_taken_for_the_one_before(
    dataset: Path, tmp_path: Path, load: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    mine, other = copied(dataset, tmp_path / "mine"), copied(dataset, tmp_path / "other")
    for folder, caption in ((mine, "of mine"), (other, "of the other")):
        change(folder, "images", caption=caption)
    for folder, caption in ((mine, "of mine"), (other, "of the other"), (mine, "of mine")):
        monkeypatch.chdir(folder.parent)
        assert caption in load(Path("dataset"), "images")["caption"][:]
        assert caption in [row["caption"] for row in load(Path("dataset"), "images", streaming=True)]


def test_a_table_that_was_redone_is_read_anew(dataset: Path, tmp_path: Path, load: Any) -> None:
    folder = copied(dataset, tmp_path)
    before = load(folder, "canny")["low"][:]
    change(folder, "canny", low=-7)
    assert -7 not in before
    assert -7 in load(folder, "canny")["low"][:]


def test_features_are_those_of_the_files_and_a_wrong_count_is_an_error(
    dataset: Path, tmp_path: Path, load: Any
) -> None:
    said = json.loads(pq.read_schema(dataset / "canny/0000/00000000.parquet").metadata[b"huggingface"])
    wanted = datasets.Features.from_dict(said["info"]["features"])
    assert load(dataset, "canny").features == load(dataset, "canny", streaming=True).features == wanted
    folder = copied(dataset, tmp_path)
    index = json.loads((folder / index_file("canny")).read_text())
    index["shards"][0]["rows"] += 1
    (folder / index_file("canny")).write_text(json.dumps(index))
    card.write(Dataset.open(folder))
    with pytest.raises(NonMatchingSplitsSizesError):
        load(folder, "canny")


def test_a_table_without_rows_is_no_config(dataset: Path, tmp_path: Path) -> None:
    assert "rejected" in datasets.get_dataset_config_names(str(dataset))
    folder = copied(dataset, tmp_path)
    index = json.loads((folder / index_file("rejected")).read_text())
    for entry in index["shards"]:
        entry["rows"] = 0
    (folder / index_file("rejected")).write_text(json.dumps(index))
    card.write(Dataset.open(folder))
    assert "rejected" not in datasets.get_dataset_config_names(str(folder))
    assert "| rejected | 0 |" in (folder / "README.md").read_text()


@pytest.mark.parametrize(
    ("table", "condition", "variant", "told"),
    [
        ("canny", "canny", "fixed", "Canny edges: canny=fixed"),
        ("edges", "canny", "random", "Canny edges: canny=random"),
        ("canny", "canny", "imported", "Canny edges: imported"),
        ("strokes", "strokes", "imported", "imported"),
    ],
)
def test_a_condition_is_told_with_what_made_it(
    dataset: Path, table: str, condition: str, variant: str, told: str
) -> None:
    opened = Dataset.open(dataset)
    index = opened.index("canny")
    assert index
    provenance = replace(index.provenance, annotator=AnnotatorRecord(condition, variant, 1))
    state = TableState(table, "complete", 2, replace(index, provenance=provenance))
    assert f"| {table} | {index.rows} | 0 | {told} |" in card.dataset_card(opened.config, [state])


def test_pictures_that_were_not_fitted_are_not_called_so(dataset: Path) -> None:
    config = Dataset.open(dataset).config
    assert "pictures fitted to 128 pixels (crop)" in card.dataset_card(config, [])
    as_they_were = replace(config, ingest=replace(config.ingest, fit="none"))
    assert "Made by ControlMill: pictures of their own sizes," in card.dataset_card(as_they_were, [])


def snippets(folder: Path) -> str:
    """The card's Python."""
    text = (folder / "README.md").read_text()
    blocks = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    return "".join(blocks).replace("path/to/this/folder", str(folder))


def test_what_the_card_shows_leaves_out_what_is_null(dataset: Path, tmp_path: Path, load: Any) -> None:
    folder = copied(dataset, tmp_path)
    captions = pq.read_table(folder / "images/0000/00000001.parquet").column("caption").to_pylist()
    given = next(row for row, caption in enumerate(captions) if caption)
    rewrite(folder, "canny", edit(given, map=None, reason="failed"))
    found: dict[str, Any] = {}
    exec(snippets(folder).replace('split="train"', f'split="train", cache_dir="{tmp_path}"'), found)
    images, maps = found["images"], found["maps"]
    assert images["key"][:] == maps["key"][:]
    assert all(images["caption"][:])
    assert None not in maps["map"][:]
    assert 0 < len(maps) < sum(caption is not None for caption in load(folder, "images")["caption"][:])


def test_sixteen_bits_become_eight_as_the_card_shows(dataset: Path, tmp_path: Path) -> None:
    folder = copied(dataset, tmp_path)
    deep = np.arange(128 * 128, dtype=np.uint16).reshape(128, 128) * 4
    write_condition(folder, "depth", lambda _: {"map": {"bytes": encode_map("gray16", deep), "path": "d.png"}})
    found: dict[str, Any] = {}
    exec(snippets(folder).replace('split="train"', f'split="train", cache_dir="{tmp_path}"'), found)
    assert found["rgb"].mode == "RGB"
    assert np.array_equal(np.asarray(found["rgb"])[..., 1], deep >> 8)
    clipped = np.asarray(found["row"]["map"].convert("RGB"))  # as the card says; where this fails, it need not any more
    assert (clipped == 255).mean() > 0.9
