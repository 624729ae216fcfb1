"""Edges of several annotators, and normals of a stated frame."""

from __future__ import annotations

import contextlib
import struct
import zlib
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from scipy.io import savemat

from controlmill.schemas.errors import MillError, Refused
from controlmill.schemas.files.documents import made_of
from controlmill.schemas.maps.matlab import load_variables
from controlmill.schemas.maps.transforms import mirror_map
from controlmill.schemas.provenance import Provenance
from controlmill.schemas.stored import stored_condition
from tests.pipelines.labels.labelled import map_of, quarters, reason_of, save, source_at

DRAWN = [quarters((1, 0, 0, 0)), quarters((1, 1, 0, 0))]


def write_bsds(folder: Path, drawn: list[np.ndarray], **options: Any) -> Path:
    cells = np.empty((1, len(drawn)), object)
    for number, edges in enumerate(drawn):
        cells[0, number] = {"Segmentation": edges.astype(np.uint16), "Boundaries": edges.astype(bool)}
    path = folder / "train/2092.mat"
    path.parent.mkdir(exist_ok=True)
    savemat(path, {"groundTruth": cells}, **options)
    return path


@pytest.mark.parametrize("compressed", [False, True])
def test_edges_are_the_mean_the_first_or_all_annotators(compressed: bool, tmp_path: Path) -> None:
    write_bsds(tmp_path, DRAWN, do_compression=compressed)
    for annotators, kind, wanted in (
        ("mean", "gray8", (255, 128, 0, 0)),
        ("first", "binary", (255, 0, 0, 0)),
        ("union", "binary", (255, 255, 0, 0)),
    ):
        source = source_at("edges", tmp_path, annotators=annotators)
        assert (source.condition.table, source.condition.kind) == ("edges", kind)
        np.testing.assert_array_equal(map_of(source, "images/train/2092.jpg"), quarters(wanted))


def test_edges_that_are_none_are_refused(tmp_path: Path) -> None:
    path = write_bsds(tmp_path, [DRAWN[0], quarters((1, 0, 0, 0), 4)])
    source = source_at("edges", tmp_path)
    assert reason_of(source, "2092.jpg") == "wrong_kind"
    savemat(path, {"other": DRAWN[0]})
    assert reason_of(source, "2092.jpg") == "wrong_kind"
    path.write_bytes(b"MATLAB 7.3")
    assert reason_of(source, "2092.jpg") == "not_an_image"


def test_a_mat_file_that_was_tampered_with_is_refused_and_takes_no_memory(tmp_path: Path) -> None:
    path = write_bsds(tmp_path, DRAWN, do_compression=False)
    data = path.read_bytes()
    rng = np.random.default_rng(0)
    for _ in range(300):
        bad = bytearray(data[: rng.integers(140, len(data))] if rng.random() < 0.3 else data)
        for at in rng.integers(126, len(bad), 3):
            bad[at] = rng.integers(256)
        with contextlib.suppress(Refused):
            load_variables(bytes(bad), 1 << 20)
    bomb = zlib.compress(bytes(1 << 24))
    packed = data[:128] + struct.pack("<II", 15, len(bomb)) + bomb
    with pytest.raises(Refused, match="unfolds to more"):
        load_variables(packed, 1 << 20)


def facing(frame: str) -> np.ndarray:
    """Four walls, in a frame: one that is faced, one whose normal is to the left, one upwards, one unknown."""
    walls = np.array([(0, 0, 1), (1, 0, 0), (0, 1, 0), (0, 0, 0)], np.float32)  # x left, y up, z towards the camera
    signs = {"dsine": (1, 1, 1), "opengl": (-1, 1, 1), "opencv": (-1, -1, -1)}[frame]
    return (walls * np.array(signs, np.float32))[quarters((0, 1, 2, 3))]


STORED = np.array([(128, 128, 255), (255, 128, 128), (128, 255, 128), (0, 0, 0)], np.uint8)[quarters((0, 1, 2, 3))]


@pytest.mark.parametrize("frame", ["opengl", "opencv", "dsine"])
def test_normals_of_any_frame_are_stored_in_one(frame: str, tmp_path: Path) -> None:
    np.save(tmp_path / "00000_indoors_000_000_normal.npy", facing(frame))
    source = source_at("normals", tmp_path, frame=frame)
    np.testing.assert_array_equal(map_of(source, "00000_indoors_000_000.png"), STORED)


def test_pngs_of_normals_are_unknown_where_they_are_black(tmp_path: Path) -> None:
    vectors = facing("dsine")
    pixels = np.where(vectors.any(axis=2, keepdims=True), np.rint(vectors * 127.5 + 127.5), 0).astype(np.uint8)
    save(tmp_path / "000000_normal.png", pixels)
    with pytest.raises(MillError, match="--frame: say in which"):
        source_at("normals", tmp_path)
    source = source_at("normals", tmp_path, frame="dsine")
    assert np.abs(map_of(source, "000000_img.png").astype(int) - STORED).max() <= 1
    smaller = map_of(source, "000000_img.png", (8, 8), size=(4, 4))
    assert np.abs(smaller.astype(int) - STORED[::2, ::2]).max() <= 1, "unknown pixels take no part"
    save(tmp_path / "000000_normal.png", np.full((8, 8, 3), 255, np.uint8))
    assert reason_of(source, "000000_img.png") == "wrong_kind"


def test_normals_of_hypersim_know_their_frame_and_can_be_mirrored(tmp_path: Path) -> None:
    path = tmp_path / "ai_001_001/images/scene_cam_00_geometry_hdf5/frame.0000.normal_cam.hdf5"
    path.parent.mkdir(parents=True)
    with h5py.File(path, "w") as file:
        file["dataset"] = facing("opengl").astype(np.float16)
    source = source_at("normals", tmp_path)
    found = map_of(source, "ai_001_001/images/scene_cam_00_final_preview/frame.0000.tonemap.jpg")
    np.testing.assert_array_equal(found, STORED)
    with pytest.raises(MillError, match="are opengl"):
        source_at("normals", tmp_path, frame="opencv")

    condition = stored_condition(
        made_of(Provenance, {"table": "normals", "kind": "rgb", "annotator": source.made_by()})
    )
    assert mirror_map(condition, found)[0, 0].tolist() == [0, 128, 128]
