"""A user's map means what its kind says, or is refused."""

from __future__ import annotations

import io
from dataclasses import replace
from typing import Any

import cv2
import numpy as np
import pytest
from PIL import Image

from controlmill.schemas.annotator_records import ReadingRecord
from controlmill.schemas.conditions import CONDITIONS
from controlmill.schemas.errors import Refused
from controlmill.schemas.files.documents import made_of
from controlmill.schemas.images.formats import Limits
from controlmill.schemas.maps.label_files import named_set
from controlmill.schemas.maps.meaning import Reading
from controlmill.schemas.maps.planes import read_map
from controlmill.schemas.maps.user_maps import coverage, scaled_map

LIMITS = Limits(min_side=1)
INVERTED, BINARY, GRAY8, GRAY16, RGB = (
    Reading("binary", invert=True),
    *(Reading(kind) for kind in ("binary", "gray8", "gray16", "rgb")),  # type: ignore[arg-type]
)
METRIC = Reading("gray16", meaning="metric", scale=1000, invalid=(0,))


def file_of(picture: Image.Image | np.ndarray, ending: str = "PNG", **options: Any) -> bytes:
    out = io.BytesIO()
    (picture if isinstance(picture, Image.Image) else Image.fromarray(picture)).save(out, ending, **options)
    return out.getvalue()


def npy(array: np.ndarray) -> bytes:
    out = io.BytesIO()
    np.save(out, array)
    return out.getvalue()


def stored(data: bytes, reading: Reading, size: tuple[int, int] | None = None) -> np.ndarray:
    """The whole map at ``size``, (width, height), or its own."""
    plane = read_map(data, reading, LIMITS)
    return scaled_map(plane, reading, size or plane.size, (0, 0, *plane.size))[0]


def line(width: int, height: int, start: tuple[float, float], end: tuple[float, float]) -> np.ndarray:
    """A line of one pixel, white on black; points in shares of the sides."""
    canvas = np.zeros((height, width), np.uint8)
    points = [(round(x * (width - 1)), round(y * (height - 1))) for x, y in (start, end)]
    cv2.line(canvas, *points, 255, 1)
    return canvas


def lines(mode: str = "L", low: int = 0, high: int = 255) -> Image.Image:
    """A frame, of two values."""
    array = np.full((64, 64), low, np.uint8)
    array[10, 8:56] = array[50, 8:56] = array[10:51, 8] = array[10:51, 55] = high
    return Image.fromarray(array).convert(mode)


FRAME = np.asarray(lines())


# binary


@pytest.mark.parametrize("factor", [1, 2, 3, 4, 5.9, 8, 12.5, 40])
def test_a_line_of_one_pixel_stays_a_line_at_any_factor(factor: float) -> None:
    rng = np.random.default_rng(int(factor * 10))
    for _ in range(6):
        ends = rng.random((2, 2))
        if np.abs(ends[0] - ends[1]).max() < 0.3:
            continue
        side = round(50 * factor)
        found = stored(file_of(line(side, side, *map(tuple, ends))), BINARY, (50, 50))
        parts, _ = cv2.connectedComponents(found)
        assert parts == 2, "the background and one line"
        wanted = line(50, 50, *map(tuple, ends))
        assert (cv2.dilate(found, np.ones((3, 3)))[wanted > 0] > 0).mean() > 0.95, "from end to end"
        assert np.count_nonzero(found) <= 2.2 * np.count_nonzero(wanted), "and no wider than it must be"


def test_a_12_megapixel_edge_map_keeps_its_lines() -> None:
    canvas = np.zeros((3000, 4000), np.uint8)
    cv2.rectangle(canvas, (400, 300), (3500, 2500), 255, 1)
    cv2.line(canvas, (700, 2300), (3200, 500), 255, 1)
    found = stored(file_of(canvas), BINARY, (683, 512))
    length = (2 * (3100 + 2200) + 2500) / (4000 / 683)  # in pixels of the result; a slanting line has one a column
    assert coverage("binary", found) == pytest.approx(length / found.size, rel=0.15)
    assert cv2.connectedComponents(found)[0] == 3


def test_a_mask_of_large_parts_keeps_its_share() -> None:
    disc = cv2.circle(np.zeros((900, 900), np.uint8), (450, 450), 250, 255, -1)
    found = stored(file_of(disc), BINARY, (150, 150))
    assert coverage("binary", found) == pytest.approx(coverage("binary", disc), abs=0.01)


@pytest.mark.parametrize(
    "picture",
    [
        lines(),
        lines(high=1),
        lines(high=60),
        lines(low=7, high=9),
        lines("1"),
        lines("RGB"),
        lines("P"),
        Image.fromarray((FRAME > 0).astype(np.uint16)),
        Image.fromarray((FRAME > 0).astype(np.uint16) * 65535),
        Image.merge("LA", (Image.new("L", (64, 64), 255), lines())),
        Image.merge("LA", (Image.new("L", (64, 64), 0), lines())),
        Image.merge("RGBA", (*Image.new("RGB", (64, 64), (30, 20, 90)).split(), lines())),
        Image.merge("RGBA", (*lines("RGB").split(), Image.new("L", (64, 64), 255))),
    ],
    ids=lambda picture: f"{picture.mode} {picture.getextrema()}",
)
def test_lines_of_two_values_and_ink_on_nothing_are_the_same_lines(picture: Image.Image) -> None:
    np.testing.assert_array_equal(stored(file_of(picture), BINARY), FRAME)


def test_black_on_white_needs_to_be_said() -> None:
    paper = file_of(255 - FRAME)
    with pytest.raises(Refused, match=r"is white.*--invert NAME") as refused:
        stored(paper, BINARY)
    assert refused.value.reason == "wrong_kind"
    np.testing.assert_array_equal(stored(paper, INVERTED), FRAME)
    with pytest.raises(Refused, match="without --invert"):
        stored(file_of(FRAME), INVERTED)


def test_black_on_white_thins_out_at_no_size() -> None:
    """P5: at half the size an inverted map of one pixel was all white."""
    found = stored(file_of(255 - line(400, 400, (0.1, 0.2), (0.9, 0.7))), INVERTED, (100, 100))
    assert cv2.connectedComponents(found)[0] == 2


def test_ink_on_transparent_is_read_from_its_alpha_inverted_or_not() -> None:
    ink = file_of(Image.merge("LA", (Image.new("L", (64, 64), 0), lines())))
    for reading in (BINARY, INVERTED, GRAY8, Reading("gray8", invert=True)):
        np.testing.assert_array_equal(stored(ink, reading), FRAME)


@pytest.mark.parametrize("reading", [BINARY, GRAY8])
def test_many_colours_on_transparent_are_over_black(reading: Reading) -> None:
    colours = np.zeros((64, 64, 4), np.uint8)
    colours[:32, :, :3], colours[32:, :, :3] = 255, 90
    colours[10:20, :, 3] = colours[40:45, :, 3] = 255
    found = stored(file_of(colours), reading)
    assert found[10:20].min() == 255
    assert not found[20:40].any()


def test_masks_of_two_values_are_stretched_as_gray8_too() -> None:
    for mask in (FRAME > 0).astype(np.uint8), (FRAME > 0).astype(np.uint16):
        np.testing.assert_array_equal(stored(file_of(mask), GRAY8), FRAME)
    with pytest.raises(Refused, match=r"the brightest value is 7\d+ of 65535"):
        stored(file_of((np.arange(64, dtype=np.uint16) * 127).reshape(8, 8) % 8000), GRAY8)


def test_an_empty_map_is_stored_and_covers_nothing() -> None:
    for kind in ("binary", "gray8", "gray16", "rgb"):
        empty = Image.new("RGB" if kind == "rgb" else "L", (8, 8))
        assert coverage(kind, stored(file_of(empty), Reading(kind))) == 0  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("picture", "reading"),
    [
        (Image.new("L", (8, 8), 255), BINARY),
        (Image.fromarray(np.arange(64, dtype=np.uint8).reshape(8, 8)), BINARY),  # more than two values, none white
        (Image.fromarray((np.arange(64, dtype=np.uint8) % 30).reshape(8, 8)), GRAY8),
        (Image.fromarray((np.arange(64, dtype=np.uint16) * 60).reshape(8, 8)), GRAY16),  # millimetres, most likely
        (Image.fromarray(np.dstack([np.eye(8, dtype=np.uint8)] * 3)), RGB),
        (
            Image.merge("RGBA", (*Image.new("RGB", (8, 8)).split(), Image.fromarray(np.eye(8, dtype=np.uint8) * 255))),
            RGB,
        ),
    ],
    ids=["all white", "grey", "dark", "dark depth", "dark rgb", "black ink as rgb"],
)
def test_what_would_come_out_blank_is_refused(picture: Image.Image, reading: Reading) -> None:
    with pytest.raises(Refused) as refused:
        stored(file_of(picture), reading)
    assert refused.value.reason == "wrong_kind"


def test_a_map_of_which_nothing_is_left_at_its_size_is_refused() -> None:
    speck = np.zeros((512, 512), np.uint8)
    speck[200, 300] = 255
    for reading in (BINARY, GRAY8):
        with pytest.raises(Refused, match="nothing is left"):
            stored(file_of(speck), reading, (16, 16))


def test_a_window_without_lines_is_an_empty_map() -> None:
    plane = read_map(file_of(FRAME), BINARY, LIMITS)
    found, _ = scaled_map(plane, BINARY, (16, 16), (16, 16, 48, 48))
    assert not found.any()


# labels

IDS = np.array([[0, 1, 6], [149, 12, 0]], np.uint8).repeat(20, 0).repeat(20, 1)
SCENE = Reading("labels", labels=named_set("ade20k-150"))
SEGMENTATION = Reading.of(CONDITIONS["segmentation"])


def painted(ids: np.ndarray, name: str) -> Image.Image:
    return Image.fromarray(np.frombuffer(named_set(name).palette(), np.uint8).reshape(256, 3)[ids])


def test_labels_of_scene_parse_are_shifted_and_void_is_255() -> None:
    """P7, W3: theirs are 0 void and 1 wall; ours 0 wall and 255 void."""
    theirs = (IDS + 1).astype(np.uint8)
    theirs[:5] = 0
    wanted = IDS.copy()
    wanted[:5] = 255
    np.testing.assert_array_equal(stored(file_of(theirs), SCENE), wanted)
    np.testing.assert_array_equal(stored(file_of(wanted), SEGMENTATION), wanted)
    assert coverage("labels", wanted) == pytest.approx(35 / 40)


@pytest.mark.parametrize("bad", [150, 200, 254])
def test_ids_outside_the_set_are_refused(bad: int) -> None:
    ids = IDS.copy()
    ids[3, 4] = bad
    with pytest.raises(Refused, match=f"value {bad} .* ade20k-150"):
        stored(file_of(ids), SEGMENTATION)
    with pytest.raises(Refused, match="value 151"):
        stored(file_of((IDS + 2).astype(np.uint8)), SCENE)


def test_a_jpeg_holds_no_labels() -> None:
    for reading in (SEGMENTATION, SCENE, Reading("labels")):
        with pytest.raises(Refused, match="JPEG cannot hold labels"):
            stored(file_of(IDS, "JPEG"), reading)


def test_a_map_in_the_colours_of_its_set_is_read_by_them() -> None:
    wanted = np.where(IDS == 48, 6, IDS)
    np.testing.assert_array_equal(stored(file_of(painted(wanted, "ade20k-150")), SEGMENTATION), wanted)
    np.testing.assert_array_equal(stored(file_of(painted(wanted, "ade20k-150")), SCENE), wanted)
    with pytest.raises(Refused, match="colour #010203"):
        stored(file_of(Image.new("RGB", (8, 8), (1, 2, 3))), SEGMENTATION)
    with pytest.raises(Refused, match="one channel of 8 bits"):
        stored(file_of(painted(wanted, "voc")), Reading("labels"))


def test_a_palette_in_the_sets_colours_that_says_other_classes_is_refused() -> None:
    """A map in colours that was saved with a palette: its ids are numbered by what came first."""
    reduced = painted(IDS, "ade20k-150").quantize(8)
    with pytest.raises(Refused, match="the colour of another class"):
        stored(file_of(reduced), SEGMENTATION)
    right = Image.fromarray(IDS)
    right.putpalette(named_set("ade20k-150").palette())
    np.testing.assert_array_equal(stored(file_of(right), SEGMENTATION), IDS)


def test_ids_are_not_mixed_when_labels_are_scaled() -> None:
    found = stored(file_of(IDS), SEGMENTATION, (31, 23))
    assert set(np.unique(found)) == set(np.unique(IDS))


def test_the_release_of_ade20k_is_mapped_to_its_150_classes() -> None:
    """Class = R / 10 * 256 + G: 2978 is wall, 783 double door (our door), 461 central reservation (no class)."""
    codes = np.array([[2978, 783, 461, 0]]).repeat(6, 0)
    file = np.dstack([codes // 256 * 10, codes % 256, codes * 0 + 7]).astype(np.uint8)
    reading = Reading("labels", labels=named_set("ade20k-full"))
    assert stored(file_of(file), reading)[0].tolist() == [0, 14, 255, 255]
    with pytest.raises(Refused, match="three channels"):
        stored(file_of(IDS), reading)


# depth


@pytest.mark.parametrize("mode", ["L", "RGB", "RGBA", "LA", "P"])
def test_depth_of_three_equal_channels_is_depth(mode: str) -> None:
    """B8, P15: what controlnet_aux and web interfaces write."""
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
    """P9, P16: 1 m is the nearest and brightest, 4 m the farthest, where 0 nothing is known."""
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


def test_a_reading_is_found_again_in_its_tables_provenance() -> None:
    for reading, name in ((METRIC, "depth"), (SCENE, "segmentation"), (INVERTED, "canny")):
        condition = replace(CONDITIONS[name], reading=made_of(ReadingRecord, reading.provenance()))
        assert Reading.of(condition) == reading
