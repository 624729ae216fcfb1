"""A user's map means what its kind says, or is refused: binary and grey maps, and ink."""

from __future__ import annotations

from dataclasses import replace

import cv2
import numpy as np
import pytest
from PIL import Image

from controlmill.schemas.annotator_records import ReadingRecord
from controlmill.schemas.conditions import CONDITIONS
from controlmill.schemas.errors import Refused
from controlmill.schemas.files.documents import made_of
from controlmill.schemas.maps.meaning import Reading
from controlmill.schemas.maps.planes import read_map
from controlmill.schemas.maps.user_maps import coverage, scaled_map
from tests.schemas.maps.user_files import BINARY, GRAY8, GRAY16, INVERTED, LIMITS, METRIC, RGB, SCENE, file_of, stored


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
    """At half the size a line of one pixel is easily all white."""
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


def test_a_reading_is_found_again_in_its_tables_provenance() -> None:
    for reading, name in ((METRIC, "depth"), (SCENE, "segmentation"), (INVERTED, "canny")):
        condition = replace(CONDITIONS[name], reading=made_of(ReadingRecord, reading.provenance()))
        assert Reading.of(condition) == reading
