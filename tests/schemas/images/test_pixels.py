"""Ingest's pixels: every mode, orientation and profile comes out right; hostile bytes are refused, never decoded."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image, ImageCms

from controlmill.schemas.errors import Refused
from controlmill.schemas.images.codecs import decode_image
from controlmill.schemas.images.formats import Limits
from controlmill.schemas.images.pixels import Picture, buckets, fit_box, load_picture
from recipes.demo import png_header
from tests.helpers import scene

LIMITS = Limits(max_pixels=4_000_000, max_bytes=10_000_000, min_side=8)


def encoded(picture: Image.Image, kind: str = "PNG", **options: Any) -> bytes:
    out = io.BytesIO()
    picture.save(out, kind, **options)
    return out.getvalue()


def load(data: bytes, resolution: int = 128, fit: str = "none", limits: Limits = LIMITS) -> Picture:
    return load_picture(data, limits, resolution, fit)  # type: ignore[arg-type]


def pixels(picture: Picture) -> np.ndarray:
    return decode_image(picture.data).astype(int)


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP"])
def test_a_picture_that_needs_nothing_keeps_its_bytes(kind: str) -> None:
    data = encoded(scene(0), kind)
    assert load(data).data == data


def test_a_changed_picture_is_jpeg_95_without_chroma_subsampling_or_metadata() -> None:
    exif = Image.Exif()
    exif[0x010E] = "a secret"
    done = load(encoded(scene(0, 300, 200), "JPEG", exif=exif), fit="crop")
    stored = Image.open(io.BytesIO(done.data))
    assert (done.width, done.height) == stored.size == (128, 128)
    assert stored.layer[1][1:3] == (1, 1)  # type: ignore[attr-defined]
    assert not stored.getexif()
    assert b"secret" not in done.data


@pytest.mark.parametrize("orientation", range(1, 9))
def test_orientation_is_applied_before_the_fit(orientation: int) -> None:
    upright = scene(3, 96, 64)
    turned = {
        1: lambda p: p,
        2: lambda p: p.transpose(Image.Transpose.FLIP_LEFT_RIGHT),
        3: lambda p: p.transpose(Image.Transpose.ROTATE_180),
        4: lambda p: p.transpose(Image.Transpose.FLIP_TOP_BOTTOM),
        5: lambda p: p.transpose(Image.Transpose.TRANSPOSE),
        6: lambda p: p.transpose(Image.Transpose.ROTATE_90),
        7: lambda p: p.transpose(Image.Transpose.TRANSVERSE),
        8: lambda p: p.transpose(Image.Transpose.ROTATE_270),
    }[orientation](upright)
    exif = Image.Exif()
    exif[0x0112] = orientation
    done = load(encoded(turned, "PNG", exif=exif))
    assert (done.width, done.height, done.original_width, done.original_height) == (96, 64, 96, 64)
    assert np.abs(pixels(done) - np.asarray(upright)).mean() < 3


def gradient() -> np.ndarray:
    return np.tile(np.linspace(0, 255, 64).astype(np.uint8), (32, 1))


def modes() -> dict[str, tuple[bytes, np.ndarray]]:
    """Name → (file, the RGB that it must become)."""
    grey = gradient()
    red = np.zeros((32, 64, 4), np.uint8)
    red[..., 0], red[..., 3] = 255, grey
    over_white = np.stack([np.full_like(grey, 255), 255 - grey, 255 - grey], axis=2)
    black = np.zeros_like(grey)
    indexed = Image.fromarray((grey // 64).astype(np.uint8))
    indexed.putpalette([255, 0, 0, 0, 255, 0, 0, 0, 255, 9, 9, 9])
    colours = np.array([[255, 0, 0], [0, 255, 0], [0, 0, 255], [9, 9, 9]])[grey // 64]
    see_through = np.where((grey // 64 == 0)[..., None], 255, colours)
    cmyk = Image.fromarray(np.dstack([black, black, black, 255 - grey]), "CMYK")
    same = np.dstack([grey] * 3)
    return {
        "L": (encoded(Image.fromarray(grey)), same),
        "1": (encoded(Image.fromarray(grey > 127)), np.where(same > 127, 255, 0)),
        "I;16 PNG": (encoded(Image.fromarray(grey.astype(np.uint16) * 257)), same),
        "I;16 TIFF": (encoded(Image.fromarray(grey.astype(np.uint16) * 257), "TIFF"), same),
        "RGBA": (encoded(Image.fromarray(red)), over_white),
        "LA": (encoded(Image.merge("LA", [Image.fromarray(black), Image.fromarray(grey)])), 255 - same),
        "P": (encoded(indexed), colours),
        "P with a transparent colour": (encoded(indexed, transparency=0), see_through),
        "L with a transparent grey": (encoded(Image.fromarray(black), transparency=0), np.full_like(same, 255)),
        "GIF": (encoded(indexed, "GIF"), colours),
        "CMYK": (encoded(cmyk, "TIFF"), same),
        "CMYK JPEG": (encoded(cmyk, "JPEG", quality=100), same),
        "YCbCr": (encoded(Image.fromarray(same).convert("YCbCr"), "TIFF", compression="jpeg"), same),
    }


@pytest.mark.parametrize("name", list(modes()))
def test_every_mode_becomes_the_right_rgb(name: str) -> None:
    data, wanted = modes()[name]
    assert np.abs(pixels(load(data)) - wanted).mean() < 4


def test_a_foreign_profile_is_converted_to_srgb() -> None:
    swapped = swapped_profile()
    picture = Image.new("RGB", (64, 64), (200, 30, 30))
    plain = load(encoded(picture))
    done = load(encoded(picture, icc_profile=swapped))
    assert done.data != plain.data
    assert np.abs(pixels(done) - pixels(plain)).max() > 20
    srgb = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    tagged = encoded(picture, icc_profile=srgb)
    assert load(tagged).data == tagged


def swapped_profile() -> bytes:
    """A working profile that is not sRGB: linear light (its gamma curve is replaced by identity)."""
    data = bytearray(ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes())
    for number in range(int.from_bytes(data[128:132], "big")):
        entry = 132 + number * 12
        tag, offset, size = (
            data[entry : entry + 4],
            *(int.from_bytes(data[entry + at : entry + at + 4], "big") for at in (4, 8)),
        )
        if tag in (b"rTRC", b"gTRC", b"bTRC"):
            data[offset : offset + size] = b"curv" + bytes(size - 4)
        if tag == b"desc":
            text = "sRGB".encode("utf-16-be")
            data[offset : offset + size] = data[offset : offset + size].replace(text, "Line".encode("utf-16-be"))
    return bytes(data)


def test_a_damaged_profile_is_passed_over() -> None:
    data = encoded(scene(0), icc_profile=b"no profile at all")
    assert np.array_equal(pixels(load(data)), np.asarray(scene(0)))


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "not_an_image"),
        (b"hello", "not_an_image"),
        (png_header(100_000, 100_000), "too_many_pixels"),
        (png_header(3000, 3000), "too_many_pixels"),
        (png_header(500, 500), "truncated"),
        (encoded(scene(0), "JPEG")[:2000], "truncated"),
        (encoded(scene(0), "PNG")[:-200], "truncated"),
        (encoded(Image.new("RGB", (1, 1))), "too_small"),
        (encoded(Image.fromarray(np.ones((32, 32), np.float32)), "TIFF"), "unsupported_mode"),
        (b"\xff" * 10_000_001, "too_many_bytes"),
    ],
)
def test_what_cannot_be_taken_is_refused_with_its_reason(data: bytes, reason: str) -> None:
    with pytest.raises(Refused) as refused:
        load(data)
    assert refused.value.reason == reason
    assert " at 0x" not in refused.value.error


def test_the_size_is_checked_before_any_pixel_is_decoded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Image.Image, "load", lambda *_: pytest.fail("decoded"))
    with pytest.raises(Refused, match="cap"):
        load(encoded_once, limits=Limits(max_pixels=1000))


encoded_once = encoded(scene(0))


@settings(max_examples=300, suppress_health_check=[HealthCheck.data_too_large])
@given(
    seed=st.sampled_from(["PNG", "JPEG", "GIF", "WEBP", "TIFF", "BMP", "AVIF", "PPM"]),
    edits=st.lists(st.tuples(st.integers(0, 3000), st.integers(0, 255)), max_size=12),
    cut=st.one_of(st.none(), st.integers(0, 4000)),
    tail=st.binary(max_size=40),
)
def test_damaged_files_are_taken_or_refused_and_never_crash(
    seed: str, edits: list[tuple[int, int]], cut: int | None, tail: bytes
) -> None:
    data = bytearray(SEEDS[seed])
    for at, value in edits:
        data[at % len(data)] = value
    try:
        done = load(bytes(data[:cut]) + tail, fit="crop", resolution=64)
    except Refused as refused:
        assert refused.reason
        assert refused.error
    else:
        assert decode_image(done.data).shape == (64, 64, 3)


SEEDS = {kind: encoded(scene(5, 48, 40), kind) for kind in ("PNG", "JPEG", "GIF", "WEBP", "TIFF", "BMP", "AVIF", "PPM")}


@given(width=st.integers(1, 5000), height=st.integers(1, 5000), fit=st.sampled_from(["crop", "bucket", "none"]))
def test_the_crop_lies_inside_and_keeps_the_aspect(width: int, height: int, fit: str) -> None:
    (x, y, w, h), size = fit_box(width, height, 512, fit)  # type: ignore[arg-type]
    assert x >= 0
    assert y >= 0
    assert x + w <= width
    assert y + h <= height
    assert w == width or h == height
    # the box has the aspect of the target, as nearly as whole pixels allow
    assert abs(w * size[1] - h * size[0]) <= max(size)
    assert abs((width - w) - 2 * x) <= 1


def test_buckets_are_multiples_of_64_of_about_one_size() -> None:
    sizes = buckets(512)
    assert (512, 512) in sizes
    assert (640, 384) in sizes
    assert all(side % 64 == 0 for size in sizes for side in size)
    assert all(0.75 * 512**2 <= w * h <= 512**2 for w, h in sizes)
    assert load(encoded(scene(0, 1200, 800)), 512, "bucket").width == 640


def test_a_large_jpeg_is_decoded_reduced_but_well_above_the_target() -> None:
    large = scene(7, 1536, 1024)
    done = pixels(load(encoded(large, "JPEG", quality=95), 128, "crop"))
    exact = np.asarray(large.crop((256, 0, 1280, 1024)).resize((128, 128), Image.Resampling.LANCZOS)).astype(int)
    assert 10 * np.log10(255**2 / ((done - exact) ** 2).mean()) > 35


@pytest.mark.parametrize(
    ("kind", "several"),
    [("GIF", True), ("TIFF", True), ("WEBP", True), ("PNG", True), ("AVIF", True), ("MPO", False)],
)
def test_a_file_of_several_pictures_is_known_as_one(kind: str, several: bool) -> None:
    """An MPO's second picture is the camera's own business."""
    for more in ([], [Image.new("RGB", (64, 64), "blue")]):
        file = io.BytesIO()
        Image.new("RGB", (64, 64), "red").save(file, kind, save_all=True, append_images=more)
        assert load_picture(file.getvalue(), Limits(), 64, "crop").several == (several and bool(more))
