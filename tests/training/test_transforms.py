import numpy as np
import pytest
from controlmill.schemas.conditions import CONDITIONS
from controlmill.training.transforms import (
    POSE_COLOURS,
    POSE_JOINT_PAIRS,
    POSE_LIMB_PAIRS,
    Augment,
    augment,
    control_image,
    mirror_map,
)
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

MAPS = [condition for condition in CONDITIONS.values() if condition.kind != "text"]


def random_map(condition, rng, height=24, width=32) -> np.ndarray:
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
def test_mirroring_twice_changes_nothing_and_once_flips_the_geometry(condition):
    array = random_map(condition, np.random.default_rng(1))
    once = mirror_map(condition, array)
    np.testing.assert_array_equal(mirror_map(condition, once), array)
    if condition.mirror == "pixels":
        np.testing.assert_array_equal(once, array[:, ::-1])
    assert once.dtype == array.dtype


def test_a_mirrored_normal_is_the_normal_of_the_mirrored_surface():
    slope = np.zeros((4, 6, 3), np.uint8)
    slope[:, :3], slope[:, 3:] = (255, 128, 128), (128, 128, 255)
    found = mirror_map(CONDITIONS["normals"], slope)
    assert (found[:, 3:] == (0, 128, 128)).all()
    assert (found[:, :3] == (127, 128, 255)).all()


@pytest.mark.parametrize(("share", "pairs"), [(1.0, POSE_JOINT_PAIRS), (0.6, POSE_LIMB_PAIRS)])
def test_a_mirrored_pose_exchanges_left_and_right(share, pairs):
    paint = [tuple(int(value * share) for value in colour) for colour in POSE_COLOURS]
    partner = {**dict(pairs), **{b: a for a, b in pairs}}
    for part, colour in enumerate(paint[: 18 if share == 1.0 else 17]):
        canvas = np.zeros((3, 5, 3), np.uint8)
        canvas[1, 0] = colour
        assert tuple(mirror_map(CONDITIONS["pose"], canvas)[1, 4]) == paint[partner.get(part, part)]


@given(st.integers(0, 2**20), st.integers(1, 24), st.booleans())
def test_picture_and_maps_are_cut_and_mirrored_together(seed, crop, mirror):
    rng = np.random.default_rng(seed)
    place = np.arange(24 * 32).reshape(24, 32)
    image = np.dstack([place % 256, place // 256, place * 0]).astype(np.uint8)
    depth = CONDITIONS["depth"]
    window = Augment(crop, mirror).draw(rng, 24, 32)
    cut, maps = augment(image, {"depth": place.astype(np.uint16)}, {"depth": depth}, window)
    np.testing.assert_array_equal(cut[..., 0] + 256 * cut[..., 1].astype(int), maps["depth"])
    assert cut.shape[:2] == (crop, crop)


@given(arrays(np.uint8, (8, 8), elements=st.integers(0, 149)), st.integers(0, 2**20))
def test_labels_stay_labels(labels, seed):
    window = Augment(4, True).draw(np.random.default_rng(seed), 8, 8)
    _, maps = augment(np.zeros((8, 8, 3), np.uint8), {"s": labels}, {"s": CONDITIONS["segmentation"]}, window)
    assert set(np.unique(maps["s"])) <= set(np.unique(labels))


@pytest.mark.parametrize("condition", MAPS, ids=lambda condition: condition.name)
def test_control_images_are_three_channels_from_0_to_1(condition):
    made = control_image(condition.kind, random_map(condition, np.random.default_rng(2)))
    assert made.shape == (3, 24, 32)
    assert made.dtype == np.float32
    assert 0 <= made.min() < made.max() <= 1


def test_depth_keeps_its_low_byte():
    made = control_image("gray16", np.array([[1000, 1001]], np.uint16))
    assert made[0, 0, 0] != made[0, 0, 1]


def test_mirroring_is_off_by_default():
    assert not any(Augment().draw(np.random.default_rng(i), 8, 8)[4] for i in range(50))
