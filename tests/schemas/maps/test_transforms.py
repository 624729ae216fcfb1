"""Mirrored and cropped maps stay true; maps as pictures and as control images."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from PIL import Image

from controlmill.annotators.base import Annotator
from controlmill.annotators.normals import BaeNormals, DPTNormals
from controlmill.annotators.segmentation import UperNetClasses
from controlmill.schemas.conditions import CONDITIONS, Condition
from controlmill.schemas.errors import MillError
from controlmill.schemas.files.documents import made_of
from controlmill.schemas.images.codecs import encode_map
from controlmill.schemas.maps.labels import VOID
from controlmill.schemas.maps.transforms import (
    POSE_COLOURS,
    POSE_JOINT_PAIRS,
    POSE_LIMB_PAIRS,
    Augment,
    augment,
    control_image,
    control_picture,
    mirror_map,
)
from controlmill.schemas.provenance import Provenance
from controlmill.schemas.stored import stored_condition


def stored(name: str, **annotator: Any) -> Condition:
    """A condition as the provenance of its table tells it."""
    said = {
        "table": name,
        "kind": CONDITIONS[name].kind,
        "annotator": {"condition": name, "variant": "any", "version": 1, **annotator},
    }
    return stored_condition(made_of(Provenance, said))


MAPS = [stored(name, x_channel=2) for name in CONDITIONS if name != "caption"]


def random_map(condition: Condition, rng: np.random.Generator, height: int = 24, width: int = 32) -> np.ndarray:
    if condition.name == "pose":
        colours = np.array([(0, 0, 0), *POSE_COLOURS], np.uint8)
        return colours[rng.integers(0, len(colours), (height, width))]
    if condition.kind == "gray16":
        return rng.integers(0, 65536, (height, width)).astype(np.uint16)
    if condition.kind == "binary":
        return (rng.random((height, width)) < 0.3).astype(np.uint8) * 255
    shape = (height, width, 3) if condition.kind == "rgb" else (height, width)
    return rng.integers(0, 150, shape).astype(np.uint8)


@pytest.mark.parametrize("condition", MAPS, ids=lambda condition: condition.name)
def test_mirroring_twice_changes_nothing_and_once_flips_the_geometry(condition: Condition) -> None:
    array = random_map(condition, np.random.default_rng(1))
    once = mirror_map(condition, array)
    np.testing.assert_array_equal(mirror_map(condition, once), array)
    if condition.mirror == "pixels":
        np.testing.assert_array_equal(once, array[:, ::-1])
    assert once.dtype == array.dtype


@pytest.mark.parametrize("annotator", [DPTNormals(), BaeNormals()], ids=lambda annotator: annotator.variant)
def test_a_mirrored_normal_is_the_normal_of_the_mirrored_surface(annotator: Annotator) -> None:
    """What each annotator stores: of a surface and of its mirror image, and the mirrored map of the former."""
    depth = np.cumsum(np.random.default_rng(0).random((8, 12), np.float32), axis=1)
    other = depth[:, ::-1].copy()
    if annotator.variant == "bae":
        vectors = np.stack([np.full((8, 12), -0.5), np.zeros((8, 12)), np.full((8, 12), 0.8)], axis=2)
        depth, other = vectors, vectors * (-1, 1, 1)
    picture = np.zeros((8, 12, 3), np.uint8)
    condition = stored_condition(
        made_of(Provenance, {"table": "normals", "kind": "rgb", "annotator": annotator.provenance()})
    )
    found = mirror_map(condition, annotator.annotate(picture, depth, {}).map)
    wanted = annotator.annotate(picture, other, {}).map
    assert np.abs(found.astype(int) - wanted).max() <= 1


def test_imported_normals_are_not_mirrored_blindly() -> None:
    with pytest.raises(MillError, match="which channel"):
        mirror_map(stored("normals", variant="imported"), np.zeros((4, 6, 3), np.uint8))


def test_imported_drawings_of_poses_are_not_mirrored() -> None:
    """What is scaled has pixels that are no colour of a limb: they would stay on the wrong side."""
    with pytest.raises(MillError, match="exact colours"):
        mirror_map(stored("pose", variant="imported"), np.zeros((4, 6, 3), np.uint8))
    mirror_map(stored("pose", variant="body"), np.zeros((4, 6, 3), np.uint8))


@pytest.mark.parametrize("variant", ["upernet", "imported"])
def test_labels_have_the_colours_that_they_are_stored_with(variant: str) -> None:
    labels = np.append(np.arange(149, dtype=np.uint8), VOID).astype(np.uint8).reshape(10, 15)
    data = encode_map("labels", labels, palette=UperNetClasses().palette)
    seen = np.asarray(Image.open(io.BytesIO(data)).convert("RGB"))
    found = control_picture(stored("segmentation", variant=variant), labels)
    np.testing.assert_array_equal(found, seen)
    assert found[-1, -1].tolist() == [0, 0, 0], "void"


@pytest.mark.parametrize(("share", "pairs"), [(1.0, POSE_JOINT_PAIRS), (0.6, POSE_LIMB_PAIRS)])
def test_a_mirrored_pose_exchanges_left_and_right(share: float, pairs: tuple[tuple[int, int], ...]) -> None:
    paint = [tuple(int(value * share) for value in colour) for colour in POSE_COLOURS]
    partner = {**dict(pairs), **{b: a for a, b in pairs}}
    for part, colour in enumerate(paint[: 18 if share == 1.0 else 17]):
        canvas = np.zeros((3, 5, 3), np.uint8)
        canvas[1, 0] = colour
        assert tuple(mirror_map(CONDITIONS["pose"], canvas)[1, 4]) == paint[partner.get(part, part)]


@given(st.integers(0, 2**20), st.integers(1, 24), st.booleans())
def test_picture_and_maps_are_cut_and_mirrored_together(seed: int, crop: int, mirror: bool) -> None:
    rng = np.random.default_rng(seed)
    place = np.arange(24 * 32).reshape(24, 32)
    image = np.dstack([place % 256, place // 256, place * 0]).astype(np.uint8)
    depth = CONDITIONS["depth"]
    window = Augment(crop, mirror).draw(rng, 24, 32)
    cut, maps = augment(image, {"depth": place.astype(np.uint16)}, {"depth": depth}, window)
    np.testing.assert_array_equal(cut[..., 0] + 256 * cut[..., 1].astype(int), maps["depth"])
    assert cut.shape[:2] == (crop, crop)


@given(arrays(np.uint8, (8, 8), elements=st.integers(0, 149)), st.integers(0, 2**20))
def test_labels_stay_labels(labels: np.ndarray, seed: int) -> None:
    window = Augment(4, True).draw(np.random.default_rng(seed), 8, 8)
    _, maps = augment(np.zeros((8, 8, 3), np.uint8), {"s": labels}, {"s": CONDITIONS["segmentation"]}, window)
    assert set(np.unique(maps["s"])) <= set(np.unique(labels))


@pytest.mark.parametrize("condition", MAPS, ids=lambda condition: condition.name)
def test_control_images_are_three_channels_from_0_to_1(condition: Condition) -> None:
    made = control_image(condition, random_map(condition, np.random.default_rng(2)))
    assert made.shape == (3, 24, 32)
    assert made.dtype == np.float32
    assert 0 <= made.min() < made.max() <= 1


def test_depth_keeps_its_low_byte() -> None:
    made = control_image(CONDITIONS["depth"], np.array([[1000, 1001]], np.uint16))
    assert made[0, 0, 0] != made[0, 0, 1]


def test_mirroring_is_off_by_default() -> None:
    assert not any(Augment().draw(np.random.default_rng(i), 8, 8)[4] for i in range(50))
