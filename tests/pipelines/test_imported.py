"""Imported maps go through the geometry of their images, pixel for pixel."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from controlmill.annotators.base import Placement
from controlmill.pipelines import build
from controlmill.pipelines.imported import parse_columns, refit
from controlmill.pipelines.ingest import IngestConfig
from controlmill.pipelines.jobs import Means
from controlmill.schemas.codecs import decode_image, decode_map
from controlmill.schemas.dataset import Dataset
from controlmill.schemas.errors import MillError, Refused
from controlmill.schemas.maps import map_plane
from controlmill.schemas.pictures import Limits, open_picture
from controlmill.schemas.verify import verify
from PIL import Image

from tests.helpers import rows

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
    imports = parse_columns(str(corpus / "maps"), KINDS)
    plan = build.plan_conditions([], build.everywhere(Placement()), None, imports, str(corpus / "maps"), config)
    with Means(threads=1) as means:
        build.ingest(str(corpus / "photos"), str(target), config, means)
        return build.annotate(str(target), plan, means)


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
    """A map of 64x64 through the geometry of a 64x64 picture that was kept as it is."""
    row = {f"{a}{b}": 64 for a in ("", "original_") for b in ("width", "height")}
    row |= {"crop_x": 0, "crop_y": 0, "crop_w": 64, "crop_h": 64}
    return refit(map_plane(picture, kind), kind, row)  # type: ignore[arg-type]


@pytest.mark.parametrize("kind", ["binary", "gray8", "rgb"])
def test_what_is_transparent_is_black(kind: str) -> None:
    lines = np.zeros((64, 64, 4), np.uint8)
    lines[10, :] = 255
    found = refitted(Image.fromarray(lines), kind)
    assert (found[10] == 255).all()
    assert not np.delete(found, 10, axis=0).any()


def test_a_map_of_a_pixel_is_not_made_larger() -> None:
    with pytest.raises(Refused, match="1x1 is too coarse for 64x64"):
        refitted(Image.new("L", (1, 1)), "gray8")
    assert refitted(Image.new("L", (8, 8)), "gray8").shape == (64, 64)


@pytest.mark.parametrize("turn", range(1, 9))
def test_a_map_is_turned_as_its_metadata_says(turn: int) -> None:
    import io

    from PIL import ImageOps

    exif, out = Image.Exif(), io.BytesIO()
    exif[0x0112] = turn
    Image.fromarray(np.arange(64 * 64, dtype=np.uint8).reshape(64, 64) * 3).save(out, "PNG", exif=exif)
    wanted = np.asarray(ImageOps.exif_transpose(Image.open(out)))
    found = refitted(open_picture(out.getvalue(), Limits()).decode(), "gray8")
    np.testing.assert_array_equal(found, wanted)


def test_maps_of_another_folder_are_not_mixed_in(corpus: Path, tmp_path: Path) -> None:
    import shutil

    from controlmill.pipelines.imported import listing_sha256

    shutil.copytree(corpus / "maps", tmp_path / "maps")
    assert listing_sha256(str(tmp_path / "maps")) == listing_sha256(str(corpus / "maps"))
    (tmp_path / "maps/depth/wide.png").write_bytes(b"x")
    assert listing_sha256(str(tmp_path / "maps")) != listing_sha256(str(corpus / "maps"))


def test_labels_are_stored_as_ids_with_a_palette(made: Dataset) -> None:
    import io

    stored = rows(Path(made.storage.root), "labels")[0]["map"]["bytes"]
    picture = Image.open(io.BytesIO(stored))
    assert picture.mode == "P"
    assert set(np.unique(np.asarray(picture))) <= {0, 1, 2, 3}


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        (["depth=rgb"], "depth is gray16"),
        (["labels"], "kinds are"),
        (["images=rgb"], "not a table's"),
        (["nowhere=rgb"], "no folder nowhere"),
        ([], "--condition-column labels=KIND"),
        (["caption"], "captions are not imported"),
    ],
)
def test_bad_columns_are_clear_errors(corpus: Path, columns: list[str], message: str) -> None:
    with pytest.raises(MillError, match=message):
        parse_columns(str(corpus / "maps"), columns)


def test_thin_lines_survive_down_to_a_quarter_of_the_size() -> None:
    from controlmill.pipelines.imported import refit

    lines = np.zeros((400, 400), np.uint8)
    lines[:, 200] = 255
    row: dict[str, Any] = {
        **{"original_width": 400, "original_height": 400, "width": 128, "height": 128},
        **{"crop_x": 0, "crop_y": 0, "crop_w": 400, "crop_h": 400},
    }
    assert refit(Image.fromarray(lines), "binary", row).max(axis=1).min() == 255
