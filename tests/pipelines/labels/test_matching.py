"""Labels and pictures counted against each other before a job."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from PIL import Image

from controlmill.annotators.runtime.placement import Placement
from controlmill.pipelines import annotation, ingestion, planning
from controlmill.pipelines.engine.stage import Plan
from controlmill.pipelines.options import MapOptions
from controlmill.pipelines.stages.map_folders import parse_map_folders
from controlmill.schemas.dataset import Dataset
from controlmill.schemas.errors import MillError
from tests.helpers import SMALL, KeptResources, rows


def grey(path: Path, value: int = 100) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("L", (64, 64), value).save(path)


@pytest.fixture
def few(tmp_path: Path) -> Path:
    """Pictures of which two share a stem, and one has no map; a map of none; a folder that two links lead to."""
    for number, name in enumerate(("a.png", "a.bmp", "b.png", "c/d.png", "e/d.png")):
        grey(tmp_path / "photos" / name, number * 20)
    grey(tmp_path / "shared" / "d.PNG")
    for name in ("a.tif", "z.png"):
        grey(tmp_path / "maps/hed" / name)
    for name in ("c", "e"):
        (tmp_path / "maps/hed" / name).symlink_to(tmp_path / "shared")
    (tmp_path / "shared" / "back").symlink_to(tmp_path / "maps/hed")
    return tmp_path


def plan_of(maps: Path) -> Plan:
    imports = parse_map_folders(MapOptions(maps, ()))
    return planning.plan_conditions([], planning.everywhere(Placement()), None, imports, str(maps), SMALL)


@pytest.mark.parametrize("at_once", [True, False])
def test_maps_and_pictures_are_counted_before_the_job(
    few: Path, at_once: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    photos, dataset = str(few / "photos"), str(few / "dataset")
    with KeptResources(threads=1) as resources:
        if at_once:
            annotation.build(photos, dataset, SMALL, plan_of(few / "maps"), resources)
        else:
            ingestion.ingest(photos, dataset, SMALL, resources)
            annotation.annotate(dataset, plan_of(few / "maps"), resources)
    said = capsys.readouterr().err
    assert "hed: 4 of 5 pictures have a map" in said
    assert "hed: 1 pictures have none, and become nulls: b.png" in said
    assert "hed: 1 maps are taken for several pictures each: a.tif" in said
    assert "hed: 1 of 4 maps belong to no picture here: z.png" in said
    assert [row["reason"] for row in rows(few / "dataset", "hed")] == [None, None, "missing", None, None]


def test_maps_of_other_pictures_stop_a_build_when_it_has_listed(few: Path) -> None:
    shutil.rmtree(few / "maps/hed")
    grey(few / "maps/hed/other.png")
    with KeptResources(threads=1) as resources, pytest.raises(MillError, match="none of 5 pictures has one") as told:
        annotation.build(str(few / "photos"), str(few / "dataset"), SMALL, plan_of(few / "maps"), resources)
    said = (
        ": a map has the path and the stem of its picture (the first pictures are a.bmp, a.png, b.png, the first maps"
    )
    assert f"of the 1 maps in {few}/maps/hed{said}" in str(told.value)
    assert not Dataset.open(few / "dataset").committed("images")
