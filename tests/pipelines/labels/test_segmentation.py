"""Segmentation: each dataset's values become the classes of its label set, on the right picture."""

from __future__ import annotations

import errno
import json
import os
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from controlmill.pipelines.engine.faults import JobFault
from controlmill.pipelines.labels.layouts import LAYOUTS, find_layout
from controlmill.schemas.errors import MillError
from controlmill.schemas.maps.label_files import named_set
from tests.pipelines.labels.labelled import label_of, map_of, quarters, reason_of, save, source_at

FOLDERS = (  # layout, a label's path, its picture, values in its quarters, the classes' names
    (
        *("ade20k", "annotations/training/ADE_train_00000007.png", "training/ADE_train_00000007.jpg"),
        *((0, 1, 150, 3), (None, "wall", "flag", "sky"), "segmentation"),
    ),
    (
        *("cityscapes", "gtFine/val/a/a_000001_000019_gtFine_labelIds.png", "val/a/a_000001_000019_leftImg8bit.png"),
        *((0, 7, 33, 26), (None, "road", "bicycle", "car"), "cityscapes"),
    ),
    (
        *("cityscapes-trainids", "a_000001_000019_gtFine_labelTrainIds.png", "a_000001_000019_leftImg8bit.png"),
        *((255, 0, 18, 13), (None, "road", "bicycle", "car"), "cityscapes"),
    ),
    (
        *("bdd100k", "val/7d128593-0ccfea4c_train_id.png", "10k/val/7d128593-0ccfea4c.jpg"),
        *((255, 0, 18, 13), (None, "road", "bicycle", "car"), "bdd100k"),
    ),
    (
        *("voc", "VOC2012/SegmentationClass/2007_000032.png", "JPEGImages/2007_000032.jpg"),
        *((255, 0, 15, 20), (None, "background", "person", "tvmonitor"), "voc"),
    ),
    (
        *("coco-stuff", "train2017/000000000139.png", "COCO_train2014_000000000139.jpg"),
        *((255, 0, 181, 91), (None, "person", "wood", "banner"), "coco_stuff"),
    ),
    (
        *("coco-stuff-pixelmaps", "stuff_val2017_pixelmaps/000000000139.png", "val2017/000000000139.jpg"),
        *((0, 183, 182, 92), (None, None, "wood", "banner"), "coco_stuff_pixelmaps"),
    ),
)


@pytest.mark.parametrize("case", FOLDERS, ids=[case[0] for case in FOLDERS])
def test_values_become_classes(case: tuple[Any, ...], tmp_path: Path) -> None:
    layout, path, picture, values, names, table = case
    save(tmp_path / path, quarters(values))
    save(tmp_path / "other.png", quarters((9, 9, 9, 9)))
    assert find_layout("segmentation", str(tmp_path)).name == layout
    source = source_at("segmentation", tmp_path)
    assert source.condition.table == table
    classes = named_set(LAYOUTS[layout].label_set).classes
    ids = [255 if name is None else classes.index(name) for name in names]
    np.testing.assert_array_equal(map_of(source, picture), quarters(tuple(ids)))  # type: ignore[arg-type]
    assert reason_of(source, "holiday.jpg") == "missing"


def test_full_ade20k_takes_its_classes_from_two_channels(tmp_path: Path) -> None:
    wall, sky = 2978, 2420
    values = quarters((wall, sky, 1, 0), dtype=np.uint16)
    coded = np.stack([values // 256 * 10, values % 256, np.zeros_like(values)], axis=2).astype(np.uint8)
    save(tmp_path / "training/street/ADE_train_00016869_seg.png", coded)
    save(tmp_path / "training/street/ADE_train_00016869_parts_1.png", coded)
    source = source_at("segmentation", tmp_path)
    assert source.condition.table == "segmentation"
    found = map_of(source, "street/ADE_train_00016869.jpg")
    np.testing.assert_array_equal(found, quarters((0, 2, 255, 255)))


def test_a_label_goes_through_the_geometry_of_its_picture(tmp_path: Path) -> None:
    save(tmp_path / "annotations/ADE_val_00000001.png", np.arange(1, 97, dtype=np.uint8).reshape(8, 12))
    source = source_at("segmentation", tmp_path)
    found = map_of(source, "ADE_val_00000001.jpg", (12, 8), (2, 0, 8, 8), (16, 16))
    ids = np.arange(96).reshape(8, 12)[:, 2:10]
    np.testing.assert_array_equal(found, np.repeat(np.repeat(ids, 2, 0), 2, 1))
    assert reason_of(source, "ADE_val_00000001.jpg", (8, 12)) == "size_mismatch"


def test_labels_of_one_name_are_told_apart_by_their_folders(tmp_path: Path) -> None:
    for number, split in enumerate(("training", "validation")):
        save(tmp_path / f"annotations/{split}/ADE_val_00000001.png", np.full((8, 8), number + 1, np.uint8))
    source = source_at("segmentation", tmp_path)
    assert map_of(source, "images/validation/ADE_val_00000001.jpg").max() == 1
    assert reason_of(source, "ADE_val_00000001.jpg") == "ambiguous"


def write_panoptic(folder: Path) -> Path:
    """Two pictures of COCO's form; the second has a segment that its annotation does not name."""
    segments = {3226956: 1, 70000: 200}
    for name, ids in (("000000000001", (3226956, 70000, 0, 70000)), ("000000000002", (5, 5, 5, 5))):
        values = quarters(ids, dtype=np.uint32)
        coded = np.stack([values % 256, values // 256 % 256, values // 65536], axis=2).astype(np.uint8)
        save(folder / f"panoptic_val2017/{name}.png", coded)
    annotations = [
        {
            "image_id": number,
            "file_name": f"{number:012d}.png",
            "segments_info": [{"id": id, "category_id": category, "iscrowd": 0} for id, category in segments.items()],
        }
        for number in (1, 2)
    ]
    written = {
        "annotations": annotations,
        "images": [{"id": number, "file_name": f"{number:012d}.jpg"} for number in (1, 2)],
        "categories": [{"id": 1, "name": "person", "isthing": 1}, {"id": 200, "name": "rug-merged", "isthing": 0}],
    }
    path = folder / "panoptic_val2017.json"
    path.write_text(json.dumps(written), "utf-8")
    return path


def test_what_a_corpus_does_not_look_at_has_no_labels(tmp_path: Path) -> None:
    values = {"training": (1, 1, 1, 1), "#recycle/training": (2, 2, 2, 2), ".old/training": (3, 3, 3, 3)}
    for folder, ids in values.items():
        save(tmp_path / f"annotations/{folder}/ADE_train_00000001.png", quarters(ids))
    source = source_at("segmentation", tmp_path / "annotations")
    assert (map_of(source, "training/ADE_train_00000001.jpg") == 0).all()


def test_labels_that_are_gone_stop_the_job(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    save(tmp_path / "annotations/deep/ADE_val_00000001.png", quarters((1, 2, 3, 0)))
    source = source_at("segmentation", tmp_path / "annotations")
    listed = os.scandir

    def scandir(path: str) -> Any:
        if path.endswith("deep"):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), path)
        return listed(path)

    with monkeypatch.context() as patched, pytest.raises(JobFault, match="deep cannot be listed: Permission denied"):
        patched.setattr(os, "scandir", scandir)
        label_of(source, "ADE_val_00000001.jpg")
    (tmp_path / "annotations").rename(tmp_path / "elsewhere")
    with pytest.raises(JobFault, match="annotations: no such folder"):
        label_of(source, "ADE_val_00000001.jpg")


def test_panoptic_segments_become_their_categories(tmp_path: Path) -> None:
    source = source_at("segmentation", write_panoptic(tmp_path), table="coco")
    assert source.condition.table == "coco"
    np.testing.assert_array_equal(map_of(source, "val2017/000000000001.jpg"), quarters((0, 1, 255, 1)))
    assert "segment 5 is not in the JSON" in label_of(source, "000000000002.jpg")["error"]
    assert reason_of(source, "000000000003.jpg") == "missing"


def test_a_panoptic_file_that_leads_out_of_its_folder_is_refused(tmp_path: Path) -> None:
    path = write_panoptic(tmp_path)
    source = source_at("segmentation", path)
    Image.fromarray(np.zeros((8, 8, 3), np.uint8)).save(tmp_path / "secret.png")
    path.write_text(path.read_text("utf-8").replace('"000000000001.png"', '"../secret.png"'), "utf-8")
    assert "below the corpus" in label_of(source_at("segmentation", path), "000000000001.jpg")["error"]
    path.write_text(path.read_text("utf-8").replace('"../secret.png"', '"train/1.png"'), "utf-8")  # not unpacked
    assert reason_of(source_at("segmentation", path), "000000000001.jpg") == "missing"
    shutil.rmtree(path.with_suffix(""))
    with pytest.raises(JobFault, match="cannot be read any more"):
        label_of(source, "000000000001.jpg")


def test_panoptic_pngs_are_not_taken_for_coco_stuff(tmp_path: Path) -> None:
    folder = tmp_path / "panoptic_val2017"
    coded = np.stack([quarters((1, 2, 3, 0))] * 3, axis=2)
    (folder / "000000000001.png").parent.mkdir()
    (folder / "000000000001.png").write_bytes(b"no picture")
    assert source_at("segmentation", folder).condition.table == "coco_stuff"  # it cannot be told
    save(folder / "000000000001.png", coded)
    for options in ({}, {"layout": "coco-stuff"}):
        with pytest.raises(MillError, match=r"1\.png is RGB, as COCO's panoptic PNGs are, .* name that instead"):
            source_at("segmentation", folder, **options)


def test_what_is_not_panoptic_is_an_error(tmp_path: Path) -> None:
    path = write_panoptic(tmp_path)
    whole = path.read_text("utf-8")
    for broken, words in (
        (whole[:-40], "not JSON"),
        (whole.replace('"id": 200', '"id": 1'), "two meanings"),
        (whole.replace('"categories"', '"kinds"'), "classes: from 1"),
        ("[]", "COCO's form"),
    ):
        path.write_text(broken, "utf-8")
        with pytest.raises(MillError, match=words):
            source_at("segmentation", path)
    path.write_text(whole.replace("segments_info", "bbox"), "utf-8")
    with pytest.raises(MillError, match="no segments_info: it is not a panoptic file"):
        source_at("segmentation", path)


def test_a_place_without_labels_says_what_there_could_be(tmp_path: Path) -> None:
    save(tmp_path / "a.png", quarters((1, 2, 3, 4)))
    with pytest.raises(MillError, match=r"no labels of a known layout(.|\n)*ade20k: ADE20K SceneParse150"):
        source_at("segmentation", tmp_path)
    with pytest.raises(MillError, match="--layout none: of segmentation there are ade20k"):
        source_at("segmentation", tmp_path, layout="none")


def test_what_is_about_labels_of_another_kind_is_refused(tmp_path: Path) -> None:
    with pytest.raises(MillError) as found:
        source_at("segmentation", tmp_path, frame="opengl", picture_column="file", pick="first")
    assert str(found.value).split("\n  ") == [
        "--frame is for labels of normals, not of segmentation",
        "--picture-column is for labels of captions, not of segmentation",
    ]
