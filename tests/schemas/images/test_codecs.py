"""Maps come back as they went in, by kind; what is no map of its kind is refused."""

from __future__ import annotations

import io

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from PIL import Image

from controlmill.schemas.conditions import CONDITIONS
from controlmill.schemas.images.codecs import LAYOUTS, check_map, decode_image, decode_map, encode_map
from controlmill.schemas.kinds import KINDS
from controlmill.schemas.tables import TABLES

MODES = {"binary": "1", "gray8": "L", "gray16": "I;16", "rgb": "RGB", "labels": "P"}


@pytest.mark.parametrize("kind", KINDS)
@given(data=st.data())
def test_every_kind_is_lossless(kind: str, data: st.DataObject) -> None:
    dtype, dimensions = LAYOUTS[kind]
    shape = data.draw(st.tuples(st.integers(1, 40), st.integers(1, 40))) + ((3,) if dimensions == 3 else ())
    array = data.draw(arrays.arrays(dtype, shape))
    if kind == "binary":
        array = np.where(array > 99, 255, 0).astype(np.uint8)
    encoded = encode_map(kind, array, shape[:2])
    assert np.array_equal(decode_map(kind, encoded), array)
    with Image.open(io.BytesIO(encoded)) as picture:
        assert (picture.format, picture.mode, picture.size) == ("PNG", MODES[kind], (shape[1], shape[0]))
        if kind in ("rgb", "labels", "gray16"):
            assert np.array_equal(np.asarray(picture), array)  # what other readers see


@pytest.mark.parametrize(
    ("kind", "array", "said"),
    [
        ("binary", np.full((2, 2), 7, np.uint8), "0 and 255 only"),
        ("binary", np.zeros((2, 2), bool), "uint8"),
        ("gray16", np.zeros((2, 2), np.uint8), "uint16"),
        ("rgb", np.zeros((2, 2), np.uint8), r"\(H, W, 3\)"),
        ("rgb", np.zeros((2, 2, 4), np.uint8), r"\(H, W, 3\)"),
        ("labels", np.zeros((2, 2), np.int64), "uint8"),
        ("gray8", np.zeros((3, 2), np.uint8), "the map is 2x3, its image 2x2"),
    ],
)
def test_what_is_no_map_of_its_kind_is_refused(kind: str, array: np.ndarray, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        check_map(kind, array, (2, 2))  # type: ignore[arg-type]


def test_damaged_bytes_are_an_error_of_ours() -> None:
    with pytest.raises(ValueError, match="not a picture"):
        decode_map("gray8", b"no picture")


@pytest.mark.parametrize("kind", ["PNG", "JPEG"])
def test_what_is_to_be_turned_is_not_what_a_dataset_stores(kind: str) -> None:
    turned = Image.Exif()
    turned[0x0112] = 6
    Image.new("L" if kind == "PNG" else "RGB", (16, 8)).save(data := io.BytesIO(), kind, exif=turned)
    with pytest.raises(ValueError, match="is to be turned"):
        decode_map("gray8", data.getvalue(), (16, 8)) if kind == "PNG" else decode_image(data.getvalue(), (16, 8))


def test_the_table_of_conditions_is_whole() -> None:
    assert list(CONDITIONS) == [
        *("canny", "hough", "hed", "scribble", "pose", "segmentation", "depth", "normals", "cartoon", "caption"),
    ]
    for condition in CONDITIONS.values():
        assert TABLES[condition.table].role == "condition"
        assert condition.fidelity or condition.kind == "text"
    assert CONDITIONS["normals"].mirror == "negate-x"
    assert CONDITIONS["pose"].mirror == "swap-limbs"
    assert CONDITIONS["pose"].licence_gate == "openpose"
