"""A user's labels are of the set that they are said to be of, or refused."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from controlmill.schemas.conditions import CONDITIONS
from controlmill.schemas.errors import Refused
from controlmill.schemas.maps.label_files import named_set
from controlmill.schemas.maps.meaning import Reading
from controlmill.schemas.maps.user_maps import coverage
from tests.schemas.maps.user_files import SCENE, file_of, stored

IDS = np.array([[0, 1, 6], [149, 12, 0]], np.uint8).repeat(20, 0).repeat(20, 1)
SEGMENTATION = Reading.of(CONDITIONS["segmentation"])


def painted(ids: np.ndarray, name: str) -> Image.Image:
    return Image.fromarray(np.frombuffer(named_set(name).palette(), np.uint8).reshape(256, 3)[ids])


def test_labels_of_scene_parse_are_shifted_and_void_is_255() -> None:
    """Theirs are 0 void and 1 wall; ours 0 wall and 255 void."""
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
