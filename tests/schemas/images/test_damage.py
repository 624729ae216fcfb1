"""A damaged file is refused, whichever byte is wrong or lacks."""

from __future__ import annotations

import io
from typing import Any

import cv2
import numpy as np
import pytest
from PIL import Image

from controlmill.schemas.errors import Refused
from controlmill.schemas.images.codecs import decode_map, encode_map
from controlmill.schemas.images.formats import Limits
from controlmill.schemas.images.pictures import open_picture
from tests.helpers import scene
from tests.schemas.images.encodings import encoded, png, read, reason


@pytest.mark.parametrize("mode", ["RGB", "L", "P", "1"])
def test_a_png_with_one_wrong_byte_is_refused_or_what_other_readers_see(mode: str) -> None:
    good = encoded(scene(0, 40, 32).convert(mode))
    taken = 0
    for at in range(len(good) + 8):
        data = bytearray(good + b"trailing")
        data[at] ^= 0xFF
        try:
            found = read(bytes(data))
        except Refused as refused:
            assert refused.reason in ("truncated", "not_an_image", "too_many_pixels")
            continue
        taken += 1
        assert np.array_equal(found, np.asarray(Image.open(io.BytesIO(data)).convert("RGB")))
        assert np.array_equal(found[..., ::-1], cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR))
    assert taken == 8  # what comes after the end is no part of the picture


@pytest.mark.parametrize("kind", ["binary", "gray8", "gray16", "rgb", "labels"])
def test_a_stored_map_with_one_wrong_byte_is_refused(kind: Any) -> None:
    values = np.random.default_rng(0).integers(0, 2, (9, 9, 3)).astype(np.uint16 if kind == "gray16" else np.uint8)
    good = encode_map(kind, (values if kind == "rgb" else values[..., 0]) * (255 if kind == "binary" else 1))
    for at in range(len(good)):
        data = bytearray(good)
        data[at] ^= 0xFF
        with pytest.raises(ValueError, match=r"."):
            decode_map(kind, bytes(data))


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "BMP", "GIF", "TIFF", "AVIF", "PPM", "HEIF"])
def test_a_file_that_was_cut_off_is_refused(kind: str) -> None:
    options: dict[str, Any] = {}
    if kind == "HEIF":  # in tiles, as telephones write it: decoders leave those that are missing black
        pytest.importorskip("pillow_heif").register_heif_opener()
        options = {"tile_size": 64}
    data = encoded(scene(0, 256, 192), kind, **options)
    for share in (0.5, 0.7, 0.9, 0.98):
        assert reason(data[: int(len(data) * share)]) == "truncated"


def test_a_png_of_palette_colours_without_its_palette_is_refused() -> None:
    with pytest.raises(Refused, match="it has no colours") as refused:
        open_picture(png(8, 3, np.zeros((8, 8), np.uint8)), Limits(min_side=1))
    assert refused.value.reason == "truncated"
