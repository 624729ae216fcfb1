"""Depth: units, what is unknown, and which picture it belongs to, as each dataset documents it."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from controlmill.pipelines.labels.depth import planar_depth
from controlmill.pipelines.labels.layouts import find_layout
from controlmill.pipelines.labels.source import LabelSource
from controlmill.schemas.errors import MillError
from controlmill.schemas.images.codecs import decode_map
from tests.pipelines.labels.labelled import label_of, quarters, reason_of, save, source_at

METRES = (1.0, 2.0, 4.0, 0.0)  # the last quarter is unknown
PNGS = (
    (
        *("kitti", "train/2011_09_26_drive_0001_sync/proj_depth/groundtruth/image_02/0000000005.png", 256, 0),
        "2011_09_26/2011_09_26_drive_0001_sync/image_02/data/0000000005.png",
    ),
    (
        *("kitti-selection", "2011_09_26_drive_0002_sync_groundtruth_depth_0000000008_image_02.png", 256, 0),
        "image/2011_09_26_drive_0002_sync_image_0000000008_image_02.png",
    ),
    (*("7scenes", "chess/seq-01/frame-000007.depth.png", 1000, 65535), "chess/seq-01/frame-000007.color.png"),
    (*("nyu", "bathroom/sync_depth_00045.png", 1000, 0), "bathroom/rgb_00045.jpg"),
)


def metres(row: dict[str, Any]) -> np.ndarray:
    """Distances, NaN where unknown, from what is stored."""
    assert row.get("map"), row
    array = decode_map("gray16", row["map"]["bytes"]).astype(np.float64)
    inverse = row["raw_min"] + array / 65535 * (row["raw_max"] - row["raw_min"])
    return np.where(array > 0, 1 / inverse, np.nan)


def check(source: LabelSource, picture: str) -> None:
    """The picture has the depths of ``METRES``."""
    assert source.condition.table == "depth"
    wanted = np.where(quarters(METRES, dtype=np.float64) > 0, quarters(METRES, dtype=np.float64), np.nan)
    np.testing.assert_allclose(metres(label_of(source, picture)), wanted, rtol=2e-3)


@pytest.mark.parametrize("case", PNGS, ids=[case[0] for case in PNGS])
def test_pngs_have_their_unit_and_their_unknown(case: tuple[Any, ...], tmp_path: Path) -> None:
    layout, path, scale, unknown, picture = case
    values = quarters(tuple(round(value * scale) or unknown for value in METRES), dtype=np.uint16)  # type: ignore[arg-type]
    save(tmp_path / path, values)
    assert find_layout("depth", str(tmp_path)).name == layout
    check(source_at("depth", tmp_path), picture)


def test_frames_of_one_name_are_told_apart_by_their_scenes(tmp_path: Path) -> None:
    for number, scene in enumerate(("chess/seq-01", "chess/seq-02", "fire/seq-01")):
        save(
            tmp_path / f"{scene}/frame-000000.depth.png",
            quarters((500 * (number + 1), 9000, 9000, 9000), dtype=np.uint16),
        )
    source = source_at("depth", tmp_path)
    for number, scene in enumerate(("chess/seq-01", "chess/seq-02", "fire/seq-01")):
        found = metres(label_of(source, f"{scene}/frame-000000.color.png"))
        assert found[0, 0] == pytest.approx(0.5 * (number + 1), rel=1e-3)
    assert reason_of(source, "seq-01/frame-000000.color.png") == "ambiguous"


def write_diode(folder: Path, **arrays: np.ndarray) -> None:
    depth = quarters(METRES, dtype=np.float32)[..., None]
    depth[7, 7] = 300  # masked
    parts = {"depth": depth, "depth_mask": (quarters(METRES, dtype=np.float32) > 0).astype(np.float32), **arrays}
    folder.mkdir(parents=True, exist_ok=True)
    for name, array in parts.items():
        np.save(folder / f"00000_00000_indoors_000_000_{name}.npy", array)


def test_diode_is_masked(tmp_path: Path) -> None:
    folder = tmp_path / "indoors/scene_00000/scan_00000"
    write_diode(folder)
    source, picture = source_at("depth", tmp_path), "scan_00000/00000_00000_indoors_000_000.png"
    check(source, picture)
    write_diode(folder, depth_mask=np.ones((4, 4)))
    assert reason_of(source, picture) == "size_mismatch"
    write_diode(folder, depth=np.array([[{}]], object))
    assert reason_of(source, picture) in ("wrong_kind", "not_an_image"), "nothing is unpickled"
    (folder / "00000_00000_indoors_000_000_depth_mask.npy").unlink()
    assert reason_of(source, picture) == "missing"


def write_hypersim(path: Path, array: np.ndarray, **options: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with h5py.File(path, "w") as file:
        file.create_dataset("dataset", data=array, **options)


def test_hypersim_distances_become_planar(tmp_path: Path) -> None:
    path = tmp_path / "ai_001_001/images/scene_cam_00_geometry_hdf5/frame.0003.depth_meters.hdf5"
    picture = "ai_001_001/images/scene_cam_00_final_preview/frame.0003.tonemap.jpg"
    plane = quarters(METRES, dtype=np.float64)
    focal = 886.81 * 8 / 1024
    middle = np.arange(8) - 3.5
    distance = plane * np.sqrt(1 + (middle**2 + middle[:, None] ** 2) / focal**2)
    for options in ({}, {"chunks": (3, 5), "compression": "gzip", "shuffle": True, "fletcher32": True}):
        write_hypersim(path, np.where(plane > 0, distance, np.nan).astype(np.float32), **options)
        check(source_at("depth", tmp_path), picture)
    assert planar_depth(np.full((768, 1024), 5.0))[384, 512] == pytest.approx(5, rel=1e-5)
    write_hypersim(path, np.zeros((2, 2, 2)))
    assert reason_of(source_at("depth", tmp_path), picture) == "wrong_kind"
    path.write_bytes(path.read_bytes()[:700])
    assert reason_of(source_at("depth", tmp_path), picture) == "not_an_image"


def test_hdf5_does_not_lead_elsewhere_nor_grow(tmp_path: Path) -> None:
    path = tmp_path / "scene_cam_00_geometry_hdf5/frame.0000.depth_meters.hdf5"
    picture = "scene_cam_00_final_preview/frame.0000.tonemap.jpg"
    write_hypersim(tmp_path / "other.hdf5", np.ones((8, 8)))
    path.parent.mkdir()

    def reason(write: Any) -> str:
        with h5py.File(path, "w") as file:
            write(file)
        return reason_of(source_at("depth", tmp_path), picture)

    def linked(file: Any) -> None:
        file["dataset"] = h5py.ExternalLink(str(tmp_path / "other.hdf5"), "dataset")

    def outside(file: Any) -> None:
        file.create_dataset("dataset", (8, 8), "f4", external=[(str(tmp_path / "other.hdf5"), 0, 256)])

    def huge(file: Any) -> None:
        file.create_dataset("dataset", (1 << 20, 1 << 20), "f4", chunks=(64, 64))

    def bomb(file: Any) -> None:
        import zlib

        made = file.create_dataset("dataset", (8, 8), "f4", chunks=(8, 8), compression="gzip")
        made.id.write_direct_chunk((0, 0), zlib.compress(bytes(1 << 24)))

    assert reason(linked) == "wrong_kind"
    assert reason(outside) == "wrong_kind"
    assert reason(huge) == "too_many_pixels"
    assert reason(bomb) == "truncated"


@pytest.mark.parametrize("chunks", [None, (1, 8, 4), (2, 3, 8)])
def test_the_labelled_set_of_nyu_is_by_number_and_turned(chunks: tuple[int, ...] | None, tmp_path: Path) -> None:
    path = tmp_path / "nyu_depth_v2_labeled.mat"
    depths = np.full((3, 8, 8), 9.0, np.float32)
    depths[1] = quarters(METRES, dtype=np.float32).T
    with h5py.File(path, "w") as file:
        file.create_dataset("depths", data=depths, chunks=chunks, compression="gzip" if chunks else None)
    source = source_at("depth", path)
    check(source, "images/0002.png")
    assert reason_of(source, "0004.png") == "missing"
    with pytest.raises(MillError, match="counted from 1"):
        source.open().read("0000.png", 1 << 20)
    path.write_bytes(io.BytesIO(b"MATLAB 5.0 MAT-file").getvalue())
    with pytest.raises(MillError, match="not NYU's labelled set"):
        source.open()
