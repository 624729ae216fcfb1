"""One decoder: damage is refused, turns are done once, 16 bits mean what the file says, headers are checked first."""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from PIL import Image, PngImagePlugin

from controlmill.evaluation.user_pictures import fitted, nearest_shape
from controlmill.schemas.errors import MillError, Refused
from controlmill.schemas.images.codecs import decode_image, decode_map, encode_map
from controlmill.schemas.images.formats import FORMATS, Limits, reads_heif
from controlmill.schemas.images.pictures import TURNS, open_picture
from controlmill.schemas.images.pixels import Gate, load_picture
from recipes.demo import png_header
from tests.helpers import scene

LIMITS = Limits(max_pixels=4_000_000, min_side=8)
BACK = {1: None, **TURNS, 6: Image.Transpose.ROTATE_90, 8: Image.Transpose.ROTATE_270}
XMP = b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:Description tiff:Orientation="3"/></x:xmpmeta>'


def encoded(picture: Image.Image, kind: str = "PNG", **options: Any) -> bytes:
    out = io.BytesIO()
    picture.save(out, kind, **options)
    return out.getvalue()


def read(data: bytes, white: int | None = None) -> np.ndarray:
    return np.asarray(open_picture(data, LIMITS).picture(white).convert("RGB")).astype(int)


def reason(data: bytes, limits: Limits = LIMITS) -> str:
    with pytest.raises(Refused) as refused:
        open_picture(data, limits).picture()
    return refused.value.reason


def png(bits: int, kind: int, samples: np.ndarray, *chunks: tuple[bytes, bytes]) -> bytes:
    """A PNG of any depth and colour type; ``samples`` (H, W·channels) as they are stored."""

    def chunk(name: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    width = samples.shape[1] // {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}[kind]
    header = struct.pack(">IIBBBBB", width, samples.shape[0], bits, kind, 0, 0, 0)
    rows = b"".join(b"\0" + row.tobytes() for row in samples.astype(">u2" if bits == 16 else np.uint8))
    parts = [(b"IHDR", header), *chunks, (b"IDAT", zlib.compress(rows)), (b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunk(*part) for part in parts)


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


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "BMP", "GIF", "TIFF", "AVIF", "PPM", "HEIF"])
def test_a_file_that_was_cut_off_is_refused(kind: str) -> None:
    options: dict[str, Any] = {}
    if kind == "HEIF":  # in tiles, as telephones write it: decoders leave those that are missing black
        pytest.importorskip("pillow_heif").register_heif_opener()
        options = {"tile_size": 64}
    data = encoded(scene(0, 256, 192), kind, **options)
    for share in (0.5, 0.7, 0.9, 0.98):
        assert reason(data[: int(len(data) * share)]) == "truncated"


def grey16(most: int = 65535) -> np.ndarray:
    return np.tile(np.linspace(0, most, 64).astype(np.uint16), (32, 1))


def tiff(values: np.ndarray, **tags: Any) -> bytes:
    return encoded(Image.fromarray(values), "TIFF", tiffinfo={int(tag[1:]): value for tag, value in tags.items()})


WANTED = np.dstack([np.tile(np.linspace(0, 255, 64), (32, 1))] * 3)


@pytest.mark.parametrize(
    ("data", "white"),
    [
        (png(16, 0, grey16()), None),
        (png(16, 0, grey16(4095), (b"sBIT", b"\x0c")), None),
        (png(16, 0, grey16(4095) << 4, (b"sBIT", b"\x0c")), None),  # scaled when it was written, as PNG wants it
        (png(16, 0, grey16(4095)), 4095),
        (tiff(grey16()), None),
        (tiff(grey16(4095), t281=4095), None),
        (tiff(grey16(1023), t281=1023), 4095),  # the file is asked first
        (tiff(grey16(4095)), 4095),
        (tiff(65535 - grey16(), t262=0), None),
        (tiff(4095 - grey16(4095), t262=0, t281=4095), None),
        (png(16, 4, np.dstack([grey16(), np.full_like(grey16(), 65535)]).reshape(32, -1)), None),
        (png(16, 2, np.repeat(grey16(), 3, axis=1)), None),
        (encoded(Image.fromarray(grey16().astype(np.int32)), "PPM"), None),
    ],
)
def test_sixteen_bits_have_the_white_that_their_file_says(data: bytes, white: int | None) -> None:
    assert np.abs(read(data, white) - WANTED).max() <= 1.5


@pytest.mark.parametrize(
    "data",
    [
        png(16, 0, grey16(4095)),
        tiff(grey16(4095)),
        png(16, 0, grey16(8000)),
        png(16, 2, np.repeat(grey16(4095), 3, axis=1)),
    ],
)
def test_sixteen_bits_of_unknown_white_are_not_taken_for_a_black_picture(data: bytes) -> None:
    assert reason(data) == "unsupported_mode"


def test_what_is_clear_in_sixteen_bits_is_white() -> None:
    values = grey16()
    key = int(values[0, 32])
    grey = read(png(16, 0, values, (b"tRNS", struct.pack(">H", key))))
    colour = read(png(16, 2, np.repeat(values, 3, axis=1), (b"tRNS", struct.pack(">HHH", key, key, key))))
    low = read(png(16, 0, values // 16, (b"sBIT", b"\x0c"), (b"tRNS", struct.pack(">H", key // 16))))
    for found in (grey, colour, low):
        assert (found[:, 32] == 255).all()
        assert np.abs(np.delete(found - WANTED, 32, axis=1)).max() <= 1.5


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


def test_a_png_of_palette_colours_without_its_palette_is_refused() -> None:
    with pytest.raises(Refused, match="it has no colours") as refused:
        open_picture(png(8, 3, np.zeros((8, 8), np.uint8)), Limits(min_side=1))
    assert refused.value.reason == "truncated"


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
    with pytest.raises(Refused, match=r"controlmill\[heif\]"):
        open_picture(b"\0\0\0\x18ftypheic" + bytes(40), LIMITS)
    assert "HEIF" in FORMATS
    assert isinstance(reads_heif(), bool)


def hostile_photos() -> Iterator[tuple[str, bytes]]:
    values = np.asarray(scene(2, 96, 80))
    garbage = np.random.default_rng(1).integers(0, 256, values.shape, dtype=np.uint8)
    alpha = np.zeros(values.shape[:2], np.uint8)
    alpha[20:60, 20:60] = 255
    clear = np.where(alpha[..., None] == 255, values, garbage)
    yield "16 bits", encoded(Image.fromarray(np.asarray(scene(2, 96, 80).convert("L")).astype(np.uint16) * 257))
    yield "alpha", encoded(Image.fromarray(np.dstack([clear, alpha])))
    yield "exact", encoded(scene(2, 64, 64))
    yield "large", encoded(scene(2, 900, 700), "JPEG")


@pytest.mark.parametrize(("name", "data"), list(hostile_photos()))
def test_a_users_own_photo_has_the_pixels_of_ingest(name: str, data: bytes, tmp_path: Path) -> None:
    (tmp_path / "photo").write_bytes(data)
    wanted = decode_image(load_picture(data, Limits(min_side=1), 64, "crop").data)
    assert np.array_equal(fitted(tmp_path / "photo", (64, 64)), wanted)


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (encoded(scene(0)).replace(b"IDAT", b"\0DAT"), "truncated"),
        (png_header(30_000, 30_000), "too_many_pixels"),
        (b"%!PS-Adobe-3.0 EPSF-3.0", "not_an_image"),
        (b"", "not_an_image"),
    ],
)
def test_a_users_own_file_that_is_no_picture_is_one_line(data: bytes, said: str, tmp_path: Path) -> None:
    (tmp_path / "photo").write_bytes(data)
    for use in (lambda path: fitted(path, (64, 64)), lambda path: nearest_shape(path, [(64, 64)])):
        with pytest.raises(MillError, match=rf"photo cannot be read as a picture: {said}"):
            use(tmp_path / "photo")
