"""Imported maps go through the geometry of their images, pixel for pixel."""

from __future__ import annotations

import io
import os
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageOps

from controlmill.annotators.runtime.placement import Placement
from controlmill.pipelines import annotation, ingestion, planning
from controlmill.pipelines.engine.stage import Plan
from controlmill.pipelines.labels.source import refit
from controlmill.pipelines.options import MapOptions
from controlmill.pipelines.stages.ingest import IngestConfig
from controlmill.pipelines.stages.map_folders import parse_map_folders
from controlmill.schemas.dataset import Dataset
from controlmill.schemas.errors import MillError, Refused
from controlmill.schemas.images.codecs import decode_image, decode_map
from controlmill.schemas.images.formats import Limits
from controlmill.schemas.maps.meaning import Reading
from controlmill.schemas.maps.planes import read_map
from controlmill.schemas.maps.transforms import control_picture
from controlmill.schemas.views.report import empty_lines, provenance_text, table_report
from controlmill.schemas.views.verify import verify
from controlmill.training.data.filters import Filter
from controlmill.training.data.selection import select
from tests.helpers import KeptResources, digests, rows

KINDS = ("labels=labels", "depth", "edges=binary", "soft=gray8", "paint=rgb")


def quadrants(width: int, height: int) -> np.ndarray:
    """Ids 0 to 3 in four quarters, off centre."""
    across, down = np.meshgrid(np.arange(width), np.arange(height))
    return ((across >= width * 0.45) + 2 * (down >= height * 0.6)).astype(np.uint8)


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Photographs whose maps say the same as their pixels, so that any shift shows."""
    folder = tmp_path_factory.mktemp("imported")
    for name, (width, height) in {"wide": (200, 128), "tall": (128, 230), "a/exact": (128, 128)}.items():
        ids = quadrants(width, height)
        maps = {
            "photos": Image.fromarray(np.stack([ids * 80] * 3, axis=2)),
            "maps/labels": Image.fromarray(ids),
            "maps/depth": Image.fromarray(ids.astype(np.uint16) * 20_000),
            "maps/edges": Image.fromarray(np.where(ids == 3, 255, 0).astype(np.uint8)),
            "maps/soft": Image.fromarray(ids * 80).resize((width * 2, height * 2), Image.Resampling.NEAREST),
            "maps/paint": Image.fromarray(np.stack([ids * 80] * 3, axis=2)),
        }
        maps["maps/labels"].putpalette(range(0, 12))
        for place, picture in maps.items():
            path = folder / place / f"{name}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            picture.save(path)
    (folder / "maps/soft/wide.png").unlink()
    Image.new("L", (50, 50)).save(folder / "maps/edges/tall.png")
    Image.new("RGB", (128, 230)).save(folder / "maps/labels/tall.png")
    (folder / "maps/paint/tall.png").write_bytes(b"no picture")
    return folder


@pytest.fixture(scope="module", params=["crop", "bucket", "none"])
def made(corpus: Path, request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    target = tmp_path_factory.mktemp("made") / "dataset"
    config = IngestConfig(128, request.param, Limits(min_side=16))
    imports = parse_map_folders(MapOptions(corpus / "maps", KINDS))
    plan = planning.plan_conditions([], planning.everywhere(Placement()), None, imports, str(corpus / "maps"), config)
    with KeptResources(threads=1) as resources:
        ingestion.ingest(str(corpus / "photos"), str(target), config, resources)
        return annotation.annotate(str(target), plan, resources)


def test_every_kind_lies_on_its_picture(made: Dataset) -> None:
    folder = Path(made.storage.root)
    assert not list(verify(made))
    images = rows(folder, "images")
    tables = {table: rows(folder, table) for table in ("labels", "depth", "edges", "soft", "paint")}
    for number, image in enumerate(images):
        truth = np.rint(decode_image(image["image"]["bytes"])[..., 0] / 80).astype(np.uint8)
        ids = {
            "labels": lambda array: array,
            "depth": lambda array: np.rint(array / 20_000),
            "soft": lambda array: np.rint(array / 80),
            "paint": lambda array: np.rint(array[..., 1] / 80),
            "edges": lambda array: np.where(array, 3, 0),
        }
        for table, found in tables.items():
            if found[number]["map"] is None:
                continue
            array = ids[table](decode_map(made.condition(table).kind, found[number]["map"]["bytes"]))
            expected = np.where(truth == 3, 3, 0) if table == "edges" else truth
            assert array.shape == truth.shape
            assert (array != expected).mean() < 0.03, f"{table} {number}"


def test_what_cannot_be_imported_is_null_with_its_reason(made: Dataset) -> None:
    reasons = {
        (table, image["source"]): row["reason"]
        for table in ("labels", "depth", "edges", "soft", "paint")
        for image, row in zip(
            rows(Path(made.storage.root), "images"), rows(Path(made.storage.root), table), strict=True
        )
        if row["map"] is None
    }
    assert reasons == {
        ("soft", "wide.png"): "missing",
        ("edges", "tall.png"): "size_mismatch",
        ("labels", "tall.png"): "wrong_kind",
        ("paint", "tall.png"): "not_an_image",
    }


def refitted(picture: Image.Image, kind: str) -> np.ndarray:
    """A map through the geometry of a 64x64 picture that was kept as it is."""
    row = {f"{a}{b}": 64 for a in ("", "original_") for b in ("width", "height")}
    row |= {"crop_x": 0, "crop_y": 0, "crop_w": 64, "crop_h": 64}
    out = io.BytesIO()
    picture.save(out, "PNG", exif=picture.getexif())
    reading = Reading(kind)  # type: ignore[arg-type]
    return refit(read_map(out.getvalue(), reading, Limits(min_side=1)), reading, row)[0]


def test_a_map_of_a_pixel_is_not_made_larger() -> None:
    with pytest.raises(Refused, match="1x1 is too coarse for 64x64"):
        refitted(Image.new("L", (1, 1)), "gray8")
    assert refitted(Image.new("L", (8, 8)), "gray8").shape == (64, 64)


@pytest.mark.parametrize("turn", range(1, 9))
def test_a_map_is_turned_as_its_metadata_says(turn: int) -> None:
    exif, out = Image.Exif(), io.BytesIO()
    exif[0x0112] = turn
    Image.fromarray(np.arange(64 * 64, dtype=np.uint8).reshape(64, 64) * 3).save(out, "PNG", exif=exif)
    wanted = np.asarray(ImageOps.exif_transpose(Image.open(out)))
    np.testing.assert_array_equal(refitted(Image.open(out), "gray8"), wanted)


def test_labels_are_stored_as_ids_with_a_palette(made: Dataset) -> None:
    stored = rows(Path(made.storage.root), "labels")[0]["map"]["bytes"]
    picture = Image.open(io.BytesIO(stored))
    assert picture.mode == "P"
    assert set(np.unique(np.asarray(picture))) <= {0, 1, 2, 3}


def coverages(made: Dataset, table: str) -> list[float | None]:
    return [row["coverage"] for row in rows(Path(made.storage.root), table)]


def test_coverage_is_the_share_that_says_something(made: Dataset) -> None:
    for table, share in (("edges", 0.22), ("depth", 0.66), ("labels", 1)):
        found = coverages(made, table)
        maps = [row["map"] for row in rows(Path(made.storage.root), table)]
        assert [value is None for value in found] == [value is None for value in maps]
        assert all(abs(value - share) < 0.15 for value in found if value is not None)
    schema = made.footer("edges", 0).schema
    assert str(schema.field("coverage").type) == "float"


PHOTOS = ("a", "b", "c")


@pytest.fixture(scope="module")
def maps(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three photographs of 64x64, each with an edge map and ids of SceneParse150; all imported, not to be changed."""
    folder = tmp_path_factory.mktemp("maps")
    for number, name in enumerate(PHOTOS):
        save(folder / f"photos/{name}.png", np.full((64, 64, 3), 80 * number, np.uint8))
        edges, ids = np.zeros((64, 64), np.uint8), np.full((64, 64), 1, np.uint8)
        edges[20 + number] = 255 if number else 0
        ids[:, :16] = 0
        save(folder / f"maps/edges/{name}.bmp", edges)
        save(folder / f"maps/segmentation/{name}.png", ids)
    imported(folder)
    return folder


def save(path: Path, array: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(array).save(path)


def planned(folder: Path, **options: tuple[str, ...]) -> Plan:
    """The import of a folder's maps."""
    config = IngestConfig(64, "crop", Limits(min_side=16))
    words = {"condition_kind": ("edges=binary",), "label_set": ("ade20k-150",), **options}
    folders = parse_map_folders(MapOptions(folder / "maps", **words))
    return planning.plan_conditions([], planning.everywhere(Placement()), None, folders, str(folder / "maps"), config)


def imported(folder: Path, overwrite: tuple[str, ...] = (), **options: tuple[str, ...]) -> Dataset:
    """The maps of a folder, imported into a dataset of its photographs."""
    config = IngestConfig(64, "crop", Limits(min_side=16))
    with KeptResources(threads=1) as resources:
        ingestion.ingest(str(folder / "photos"), str(folder / "dataset"), config, resources)
        return annotation.annotate(str(folder / "dataset"), planned(folder, **options), resources, overwrite)


def test_empty_maps_are_stored_and_counted(maps: Path) -> None:
    made = Dataset.open(maps / "dataset")
    assert made.state("edges").empty == 1
    assert coverages(made, "edges") == pytest.approx([0, 1 / 64, 1 / 64])
    assert coverages(made, "segmentation") == [0.75] * 3
    assert not list(verify(made))
    report = table_report(made, ["edges"])
    assert [column.header for column in report.columns][4] == "empty"
    assert str(next(iter(report.columns[4].cells))) == "1"
    (line,) = empty_lines(made, ["images", "edges", "segmentation"])
    assert "1 of 3 maps are empty" in line
    assert "label set ade20k-150, 150 classes" in provenance_text(made.state("segmentation"))


def test_imported_segmentation_has_the_colours_and_ids_of_made_one(maps: Path) -> None:
    made = Dataset.open(maps / "dataset")
    stored = rows(maps / "dataset", "segmentation")[0]["map"]["bytes"]
    ids, colours = decode_map("labels", stored), np.asarray(Image.open(io.BytesIO(stored)).convert("RGB"))
    assert (ids[0, 0], ids[0, 20]) == (255, 0)
    assert colours[0, 0].tolist() == [0, 0, 0], "void"
    assert colours[0, 20].tolist() == [120, 120, 120], "wall"
    condition = made.condition("segmentation")
    assert condition.is_imported
    np.testing.assert_array_equal(control_picture(condition, ids), colours)
    reading = made.footer("segmentation", 0).provenance.made_by.reading
    assert reading and reading.label_set
    assert (reading.label_set.name, reading.label_set.void) == ("ade20k-150", (0,))
    with pytest.raises(MillError, match=r"reading\.label_set"):
        annotation.check_conditions(str(maps / "dataset"), planned(maps, label_set=()), ())


def test_rows_without_lines_are_left_out_by_coverage(maps: Path) -> None:
    made = Dataset.open(maps / "dataset")
    found = select(made, ["edges"], [Filter.parse("edges.coverage>0")])
    assert found.train["row"].tolist() == [1, 2]
    assert found.left_out == {"where": 1}


def check(folder: Path) -> None:
    """What a run of the same command finds before it does anything."""
    (stage,) = planned(folder)
    stage.check_unchanged(Dataset.open(folder / "dataset"), ())


def test_a_map_that_was_edited_is_noticed_and_only_its_table_is_redone(maps: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(maps, tmp_path / "copy")
    others = digests(folder / "dataset/segmentation")
    check(folder)
    path = folder / "maps/edges/b.bmp"
    there, edited = path.stat(), np.asarray(Image.open(path))[::-1]
    save(path, edited)
    os.utime(path, ns=(there.st_atime_ns, there.st_mtime_ns))
    assert path.stat().st_size == there.st_size, "neither its size nor its time tells"
    with pytest.raises(MillError, match=r"1 maps of edges .* \(of b.png\): --overwrite edges"):
        check(folder)
    made = imported(folder, ("edges",))
    assert decode_map("binary", rows(folder / "dataset", "edges")[1]["map"]["bytes"])[42].all()
    assert digests(folder / "dataset/segmentation") == others
    assert made.state("edges").status == "complete"
    check(folder)


def test_a_map_that_was_brought_or_mended_is_noticed(maps: Path, tmp_path: Path) -> None:
    folder = tmp_path / "copy"
    for part in ("photos", "maps"):
        shutil.copytree(maps / part, folder / part)
    path, other = folder / "maps/edges/b.bmp", folder / "maps/edges/c.bmp"
    right, mended = path.read_bytes(), other.read_bytes()
    path.rename(path.with_suffix(".exr"))
    save(other, np.full((64, 64), 255, np.uint8))
    imported(folder)
    found = {row["reason"]: row["error"] for row in rows(folder / "dataset", "edges") if row["reason"]}
    assert set(found) == {"missing", "wrong_kind"}
    assert "b.exr is there" in found["missing"]
    check(folder)
    path.write_bytes(right)
    other.write_bytes(mended)
    with pytest.raises(MillError, match="2 maps of edges"):
        check(folder)
