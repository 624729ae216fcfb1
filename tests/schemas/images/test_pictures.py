"""One decoder: turns are done once, headers are checked first, and memory is known."""

from __future__ import annotations

import io
from typing import Any

import cv2
import numpy as np
import pytest
from PIL import Image, PngImagePlugin

from controlmill.schemas.errors import Refused
from controlmill.schemas.images.codecs import decode_image, decode_map
from controlmill.schemas.images.formats import FORMATS, reads_heif
from controlmill.schemas.images.pictures import TURNS, open_picture
from controlmill.schemas.images.pixels import Gate, load_picture
from recipes.demo import png_header
from tests.helpers import scene
from tests.schemas.images.encodings import LIMITS, encoded, read, reason

BACK = {1: None, **TURNS, 6: Image.Transpose.ROTATE_90, 8: Image.Transpose.ROTATE_270}
XMP = b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:Description tiff:Orientation="3"/></x:xmpmeta>'


@pytest.mark.parametrize("turn", range(1, 9))
@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "TIFF", "AVIF", "HEIF"])
def test_every_format_is_turned_once(kind: str, turn: int) -> None:
    if kind == "HEIF":
        pytest.importorskip("pillow_heif").register_heif_opener()
    upright, exif, back = scene(3, 96, 64), Image.Exif(), BACK[turn]
    exif[274] = turn
    turned = upright if back is None else upright.transpose(back)
    data = encoded(turned, kind, exif=exif.tobytes())
    found = open_picture(data, LIMITS)
    assert found.size == (96, 64)
    assert np.abs(np.asarray(found.picture().convert("RGB")).astype(int) - np.asarray(upright)).mean() < 8


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "TIFF", "AVIF"])
def test_nothing_is_turned_by_xmp(kind: str) -> None:
    picture, options = scene(3, 96, 64), {"xmp": XMP}
    if kind == "PNG":
        text = PngImagePlugin.PngInfo()
        text.add_itxt("XML:com.adobe.xmp", XMP.decode())
        options = {"pnginfo": text}  # type: ignore[dict-item]
    elif kind == "TIFF":
        options = {"tiffinfo": {700: XMP}}  # type: ignore[dict-item]
    data = encoded(picture, kind, **options)
    assert Image.open(io.BytesIO(data)).getexif().get(274) == 3
    assert np.abs(read(data) - np.asarray(picture)).mean() < 8


def test_cielab_is_converted() -> None:
    from PIL import ImageCms

    lab = ImageCms.profileToProfile(
        scene(0), ImageCms.createProfile("sRGB"), ImageCms.createProfile("LAB"), outputMode="LAB"
    )
    assert lab is not None
    assert np.abs(read(encoded(lab, "TIFF")) - np.asarray(scene(0))).mean() < 1.5


@pytest.fixture
def undecodable(monkeypatch: pytest.MonkeyPatch) -> None:
    """Any decoding fails the test."""
    for kind in (Image.Image, PngImagePlugin.PngImageFile):
        monkeypatch.setattr(kind, "load", lambda *_: pytest.fail("decoded"))
    monkeypatch.setattr(cv2, "imdecode", lambda *_: pytest.fail("decoded"))


FAX = encoded(scene(0).convert("1"), "TIFF", compression="group4")
GREY, ALPHA = encoded(scene(0).convert("L")), encoded(scene(0).convert("RGBA"))
FOREIGN = [encoded(scene(0), kind) for kind in ("BMP", "GIF", "TIFF", "PPM", "AVIF", "JPEG2000", "EPS", "ICNS")]


SIGNED = encoded(scene(0).convert("L"), "TIFF", tiffinfo={339: 2})
PLAIN_YCBCR = encoded(scene(0).convert("YCbCr"), "TIFF")


@pytest.mark.usefixtures("undecodable")
class TestBeforeAnyDecode:
    @pytest.mark.parametrize("data", [FAX, SIGNED, PLAIN_YCBCR])
    def test_tiffs_that_would_be_read_wrongly_are_refused(self, data: bytes) -> None:
        assert reason(data) == "unsupported_mode"

    @pytest.mark.parametrize("data", FOREIGN)
    def test_a_dataset_opens_only_what_it_can_store(self, data: bytes) -> None:
        with pytest.raises(ValueError, match="not a picture of a known format"):
            decode_image(data)
        with pytest.raises(ValueError, match="not a picture of a known format"):
            decode_map("rgb", data)

    def test_the_size_is_that_of_the_row(self) -> None:
        for decode in (decode_image, lambda data, size=None: decode_map("rgb", data, size)):
            with pytest.raises(ValueError, match="is 5000x5000, not 64x64"):
                decode(png_header(5000, 5000), (64, 64))
            with pytest.raises(ValueError, match="pixels; the cap is"):
                decode(png_header(20_000, 20_000))

    def test_bands_are_those_that_are_stored(self) -> None:
        for data in (GREY, ALPHA):
            with pytest.raises(ValueError, match="is a picture of mode"):
                decode_image(data)
            with pytest.raises(ValueError, match="is a picture of mode"):
                decode_map("rgb", data)

    def test_memory_is_known(self) -> None:
        found = open_picture(ALPHA, LIMITS)
        assert found.memory == (4 + 4 + 6) * found.size[0] * found.size[1]  # held, its alpha, copies to scale
        assert open_picture(FOREIGN[4], LIMITS).memory > found.memory

    def test_other_formats_are_refused_as_photographs(self) -> None:
        for data in FOREIGN[5:]:
            assert reason(data) == "not_an_image"


def test_memory_that_runs_out_in_any_step_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    exif = Image.Exif()
    exif[274] = 6
    data = encoded(scene(0), "JPEG", exif=exif)

    def fails(*_: Any, **__: Any) -> None:
        raise MemoryError

    for place, name in ((Image.Exif, "load"), (Image.Image, "transpose"), (Image.Image, "load")):
        with monkeypatch.context() as patch:
            patch.setattr(place, name, fails)
            assert reason(data) == "out_of_memory"


def test_alpha_is_laid_over_white_by_strips(monkeypatch: pytest.MonkeyPatch) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (700, 64, 4), dtype=np.uint8)
    picture = Image.fromarray(pixels)
    white = Image.new("RGBA", picture.size, "white")
    wanted = np.asarray(Image.alpha_composite(white, picture).convert("RGB"))
    sizes: list[int] = []
    composite = Image.alpha_composite
    monkeypatch.setattr(Image, "alpha_composite", lambda a, b: sizes.append(b.height) or composite(a, b))
    assert np.array_equal(read(encoded(picture)), wanted)
    assert max(sizes) < 300


def test_large_pictures_are_held_in_blocks_that_go_back_to_the_system() -> None:
    assert Image.core.get_block_size() > 32 * 1024 * 1024


def test_threads_decode_within_a_bound() -> None:
    from concurrent.futures import ThreadPoolExecutor
    from time import sleep

    gate, held = Gate(100), []

    def decode(count: int) -> None:
        with gate.hold(count):
            held.append(gate.held)
            sleep(0.002)

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(decode, [30, 60, 250, 40] * 8))
    assert gate.held == 0
    assert max(held) == 250  # alone: what is larger than the bound
    assert all(count <= 100 or count == 250 for count in held)


@pytest.mark.parametrize("name", ["zTXt", "iTXt", "tEXt"])
def test_a_png_with_long_texts_is_a_picture(name: str) -> None:
    text, words = PngImagePlugin.PngInfo(), "x" * 2_000_000
    text.add_itxt("k", words, zip=True) if name == "iTXt" else text.add_text("k", words, zip=name == "zTXt")
    data = encoded(scene(0), pnginfo=text)
    assert np.array_equal(read(data), np.asarray(scene(0)))
    stored = load_picture(data, LIMITS, 64, "none").data
    assert np.array_equal(np.asarray(Image.open(io.BytesIO(stored))), np.asarray(scene(0)))


def test_an_mpo_is_its_first_picture() -> None:
    data = encoded(scene(0), "MPO", save_all=True, append_images=[scene(1)])
    assert np.abs(read(data) - np.asarray(scene(0))).mean() < 8


def test_a_heic_without_its_package_says_what_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    from controlmill.schemas.images import pictures

    monkeypatch.setattr(pictures, "reads_heif", lambda: False)
    with pytest.raises(Refused, match=r"pip install '\.\[heif\]'"):
        open_picture(b"\0\0\0\x18ftypheic" + bytes(40), LIMITS)
    assert "HEIF" in FORMATS
    assert isinstance(reads_heif(), bool)
