"""A user's depth: grey, metric or inverse, of pictures and arrays."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from controlmill.schemas.errors import Refused
from controlmill.schemas.images.formats import Limits
from controlmill.schemas.maps.meaning import Reading
from controlmill.schemas.maps.planes import read_map
from controlmill.schemas.maps.user_maps import coverage, scaled_map
from tests.schemas.maps.user_files import BINARY, GRAY16, LIMITS, METRIC, file_of, npy, stored


@pytest.mark.parametrize("mode", ["L", "RGB", "RGBA", "LA", "P"])
def test_depth_of_three_equal_channels_is_depth(mode: str) -> None:
    """What controlnet_aux and web interfaces write."""
    ramp = Image.fromarray(np.arange(256, dtype=np.uint8).reshape(16, 16))
    if mode == "P":
        ramp.putpalette([value for value in range(256) for _ in range(3)])
    else:
        ramp = ramp.convert(mode)
    wanted = np.arange(256, dtype=np.uint16).reshape(16, 16) * 257
    np.testing.assert_array_equal(stored(file_of(ramp), GRAY16), wanted)
    if mode == "RGB":
        np.testing.assert_array_equal(stored(file_of(Image.new("RGB", (8, 8), (90, 90, 90)), "JPEG"), GRAY16), 90 * 257)


def test_coloured_depth_is_refused() -> None:
    with pytest.raises(Refused, match="in colour"):
        stored(file_of(Image.new("RGB", (8, 8), (200, 200, 201))), GRAY16)


@pytest.mark.parametrize("form", ["png", "tiff", "npy", "npy one channel", "npy float64"])
def test_metric_depth_becomes_inverse_depth_of_the_pictures_own_range(form: str) -> None:
    """1 m is the nearest and brightest, 4 m the farthest, where 0 nothing is known."""
    metres = np.array([[1, 2, 4, 0]], np.float32).repeat(4, 0)
    files = {
        "png": (file_of((metres * 1000).astype(np.uint16)), METRIC),
        "tiff": (file_of(metres, "TIFF"), replace(METRIC, scale=1)),
        "npy": (npy(metres), replace(METRIC, scale=1)),
        "npy one channel": (npy(metres[..., None]), replace(METRIC, scale=1)),
        "npy float64": (npy(np.asfortranarray(metres.astype(np.float64))), replace(METRIC, scale=1)),
    }
    data, reading = files[form]
    plane = read_map(data, reading, LIMITS)
    found, measured = scaled_map(plane, reading, plane.size, (0, 0, *plane.size))
    assert found[0].tolist() == [65535, 1 + round((1 / 2 - 1 / 4) / (3 / 4) * 65534), 1, 0]
    back = measured["raw_min"] + found[0, :3] / 65535 * (measured["raw_max"] - measured["raw_min"])
    np.testing.assert_allclose(back, [1, 1 / 2, 1 / 4], atol=2e-5)
    assert coverage("gray16", found) == 0.75


def test_what_is_not_known_takes_no_part_in_means() -> None:
    metres = np.full((64, 64), 2, np.float32)
    metres[:, 32:] = 4
    metres[::3] = np.nan
    metres[1::3, ::2] = np.inf
    metres[2::3, 1::2] = -1
    found, measured = _depth_at(npy(metres), replace(METRIC, scale=1), (8, 8))
    assert set(np.unique(found[:, :4])) == {65535}
    assert set(np.unique(found[:, 4:])) == {1}
    assert measured["raw_max"] == 0.5
    metres[:, :24] = 0
    found, _ = _depth_at(npy(metres), replace(METRIC, scale=1), (8, 8))
    assert not found[:, :3].any(), "nothing is known there"


def _depth_at(data: bytes, reading: Reading, size: tuple[int, int]) -> tuple[np.ndarray, dict[str, float]]:
    plane = read_map(data, reading, LIMITS)
    return scaled_map(plane, reading, size, (0, 0, *plane.size))


def test_inverse_depth_of_any_range_is_stretched() -> None:
    disparity = np.linspace(-3, 90, 64, dtype=np.float32).reshape(8, 8)
    reading = Reading("gray16", meaning="inverse")
    for data in (npy(disparity), file_of(disparity, "TIFF")):
        found = stored(data, reading)
        assert (found.min(), found.max()) == (1, 65535)
        assert (np.diff(found.ravel().astype(int)) > 0).all()


@pytest.mark.parametrize(
    ("value", "reading"), [(1e-40, METRIC), (3e38, Reading("gray16", meaning="inverse"))], ids=["metric", "inverse"]
)
def test_depth_that_cannot_be_is_refused(value: float, reading: Reading) -> None:
    depth = np.linspace(1, 9, 64, dtype=np.float32).reshape(8, 8)
    depth[2, 3] = value
    with pytest.raises(Refused, match="which no depth has"):
        stored(npy(depth), reading)
    assert stored(npy(depth), replace(reading, invalid=(value,))).any()


def test_a_plane_of_one_depth_is_known_everywhere() -> None:
    assert set(np.unique(stored(npy(np.full((8, 8), 3.0)), METRIC))) == {65535}
    assert coverage("gray16", stored(npy(np.zeros((8, 8))), METRIC)) == 0


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (file_of(np.full((8, 8), 2.5, np.float32), "TIFF"), "--depth metric:SCALE"),
        (npy(np.linspace(0, 9, 64).reshape(8, 8)), "--depth metric:SCALE"),
        (npy(np.full((8, 8), np.nan)), "--depth metric:SCALE"),
    ],
)
def test_numbers_without_a_meaning_are_refused(data: bytes, message: str) -> None:
    with pytest.raises(Refused, match=message):
        stored(data, GRAY16)


def test_arrays_are_depth_only_and_looked_at_before_they_are_loaded() -> None:
    with pytest.raises(Refused, match="read as depth"):
        stored(npy(np.zeros((8, 8), np.uint8)), BINARY)
    with pytest.raises(Refused) as refused:
        read_map(npy(np.zeros((100, 100))), METRIC, Limits(max_pixels=9_999))
    assert refused.value.reason == "too_many_pixels"
    for array in (
        np.array([{}, 1], object),
        np.zeros(9),
        np.zeros((2, 3, 4)),
        np.zeros((3, 3), complex),
        np.zeros((0, 9)),
    ):
        with pytest.raises(Refused) as refused:
            stored(npy(array), METRIC)
        assert refused.value.reason == "wrong_kind"
    whole = npy(np.zeros((8, 8)))
    for cut in (
        whole[:-1],
        whole[:40],
        b"\x93NUMPY",
        whole.replace(b"(8, 8)", b"(8, 8 "),
        whole.replace(b"<f8", b"<z8"),
    ):
        with pytest.raises(Refused) as refused:
            stored(cut, METRIC)
        assert refused.value.reason in ("truncated", "not_an_image")
