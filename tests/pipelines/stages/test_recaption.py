"""Captions that were edited, or came later: taken into a table of their own, at the cost of nothing else."""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from pathlib import Path

import pytest

from controlmill.annotators.catalogue import parse_conditions
from controlmill.annotators.runtime.placement import Placement
from controlmill.pipelines import annotation, planning
from controlmill.pipelines.engine.mend import redo_aim
from controlmill.pipelines.stages import recaption as module
from controlmill.schemas import redo
from controlmill.schemas.dataset import Dataset
from controlmill.schemas.errors import MillError
from controlmill.schemas.files.documents import plain
from controlmill.schemas.views.verify import verify
from tests.helpers import KeptResources, digests, rows


def recaption(dataset: Path, folder: Path, overwrite: Sequence[str] = ()) -> None:
    plan = planning.plan_conditions([], planning.everywhere(Placement()), None, captions_from=str(folder))
    with KeptResources(threads=2) as resources:
        annotation.annotate(str(dataset), plan, resources, overwrite)


def test_captions_are_refreshed_alone(photos: Path, dataset: Path, tmp_path: Path) -> None:
    copy, folder = shutil.copytree(dataset, tmp_path / "dataset"), shutil.copytree(photos, tmp_path / "photos")
    (folder / "part1/001.txt").write_text("edited", "utf-8")
    (folder / "part0/000.caption").write_text("new", "utf-8")
    (folder / "part0/003.txt").unlink()
    (folder / "part2/005.txt").write_bytes(b"\xff\xff")
    (folder / "metadata.jsonl").write_text(json.dumps({"file_name": "part2/002.webp", "text": "from metadata"}))
    before = digests(copy)
    recaption(copy, folder)
    after = digests(copy)
    assert {name for name in after if after[name] != before.get(name)} == {
        *(f"captions/0000/{shard:08d}.parquet" for shard in range(4)),
        *("_tables/captions.json", "README.md"),
    }
    sources = [row["source"] for row in rows(copy, "images")]
    found = dict(zip(sources, rows(copy, "captions"), strict=True))
    said = {source: row["caption"] for source, row in found.items()}
    assert said["part1/001.png"] == "edited"
    assert said["part0/000.jpg"] == "new"
    assert said["part2/002.webp"] == "from metadata"
    assert said["part1/007.JPEG"] == "scene 7"
    assert (said["part0/003.JPEG"], found["part0/003.JPEG"]["reason"]) == (None, "missing")
    assert found["part2/005.png"]["reason"] == "bad_caption"
    assert "005.txt" in found["part2/005.png"]["error"]
    assert not list(verify(Dataset.open(copy)))

    recaption(copy, folder)  # nothing is to be done
    assert digests(copy) == after
    (folder / "part1/001.txt").write_text("edit 2", "utf-8")
    (folder / "part0/009.txt").unlink()
    with pytest.raises(MillError, match=r"2 captions in .* are not those .*: --overwrite captions takes them in"):
        recaption(copy, folder)
    assert digests(copy) == after
    # a redo that was cut off before the last edit does not go on with what it made
    dataset = Dataset.open(copy)
    redo.begin(dataset.storage, "captions", redo_aim(dataset, plain(dataset.footer("captions", 0).provenance.shared)))
    shutil.copytree(copy / "captions", copy / "_redo/captions")
    recaption(copy, folder, ["captions"])
    assert [row["caption"] for row in rows(copy, "captions")][sources.index("part1/001.png")] == "edit 2"


def test_a_folder_that_is_of_another_dataset_is_an_error(
    dataset: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "other").mkdir()
    with pytest.raises(MillError, match="has neither a caption nor a picture at the place of"):
        recaption(dataset, tmp_path / "other")
    with monkeypatch.context() as patched, pytest.raises(MillError, match=r"the place of //a\.png"):
        patched.setattr(module, "_sources", lambda *_: iter(["//a.png", "../b.png"]))
        recaption(dataset, tmp_path / "other")
    with pytest.raises(MillError, match="no such folder"):
        recaption(dataset, tmp_path / "none")
    with pytest.raises(MillError, match="captions: annotate it or import it, not both"):
        planning.plan_conditions(parse_conditions("caption"), planning.everywhere(Placement()), None, captions_from="x")
