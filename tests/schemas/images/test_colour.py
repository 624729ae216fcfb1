"""Colour is what the file says: compared by what it does, never by a name; HDR is refused, not stored as it is."""

from __future__ import annotations

import io
import struct
import zlib
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from PIL import Image, ImageCms

from controlmill.schemas.errors import Refused
from controlmill.schemas.images.codecs import decode_image
from controlmill.schemas.images.colour import GAMMAS, PRIMARIES, code_profile, conversion, make_profile, to_srgb
from controlmill.schemas.images.formats import Limits
from controlmill.schemas.images.pictures import open_picture
from controlmill.schemas.images.pixels import load_picture
from tests.helpers import scene
from tests.schemas.images.encodings import encoded

LIMITS = Limits(min_side=8)
ADOBE = (0.64, 0.33, 0.21, 0.71, 0.15, 0.06, 0.3127, 0.3290)
SRGB = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()


def named(profile: bytes, name: str) -> bytes:
    """The profile by another name of as many letters as it had."""
    return profile.replace("made".encode("utf-16-be"), name.encode("utf-16-be"))


def with_chunks(data: bytes, *chunks: tuple[bytes, bytes]) -> bytes:
    """A PNG with more chunks, before its pixels."""
    more = b"".join(
        struct.pack(">I", len(said)) + name + said + struct.pack(">I", zlib.crc32(name + said)) for name, said in chunks
    )
    return data[:33] + more + data[33:]


def shown(data: bytes) -> np.ndarray:
    """As ingest makes it, before it is encoded."""
    found = open_picture(data, LIMITS)
    return np.asarray(to_srgb(found.picture(), found.profile())).astype(float)


def light(values: np.ndarray) -> np.ndarray:
    return np.where(values <= 0.04045, values / 12.92, ((values + 0.055) / 1.055) ** 2.4)


def levels(linear: np.ndarray) -> np.ndarray:
    linear = linear.clip(0, 1)
    return 255 * np.where(linear <= 0.0031308, linear * 12.92, 1.055 * linear ** (1 / 2.4) - 0.055)


def to_xyz(points: tuple[float, ...]) -> np.ndarray:
    """Linear RGB to XYZ, by SMPTE RP 177."""
    xyz = np.array([(x / y, 1, (1 - x - y) / y) for x, y in zip(points[::2], points[1::2], strict=True)]).T
    return xyz[:, :3] * np.linalg.solve(xyz[:, :3], xyz[:, 3])


@pytest.mark.parametrize("code", [5, 9, 12])
@pytest.mark.parametrize("transfer", [8, 13])
def test_codes_are_converted_as_their_standard_says(code: int, transfer: int) -> None:
    pixels = np.asarray(scene(1)) / 255
    matrix = np.linalg.inv(to_xyz(PRIMARIES[1])) @ to_xyz(PRIMARIES[code])
    wanted = levels((light(pixels) if transfer == 13 else pixels) @ matrix.T)
    found = shown(with_chunks(encoded(scene(1)), (b"cICP", bytes([code, transfer, 0, 1]))))
    assert np.abs(found - wanted).mean() < 1


@pytest.mark.parametrize("codes", [(1, 13), (1, 1), (2, 2), (1, 6)])
def test_codes_of_srgb_change_nothing(codes: tuple[int, int]) -> None:
    data = with_chunks(encoded(scene(0)), (b"cICP", bytes([*codes, 0, 1])))
    assert load_picture(data, LIMITS, 64, "none").data == data


@pytest.mark.parametrize(("transfer", "said"), [(16, "PQ"), (18, "HLG")])
def test_hdr_is_refused_wherever_it_is_said(transfer: int, said: str) -> None:
    avif = encoded(scene(0), "AVIF")
    at = avif.index(b"nclx") + 4
    boxed = avif[:at] + struct.pack(">HH", 9, transfer) + avif[at + 4 :]
    inside = make_profile(PRIMARIES[9], None).replace(b"cprt", b"cicp", 1)
    start = int.from_bytes(inside[inside.index(b"cicp") + 4 :][:4])
    inside = inside[:start] + b"cicp" + bytes(4) + bytes([9, transfer, 0, 1]) + inside[start + 12 :]
    chunk = with_chunks(encoded(scene(0)), (b"cICP", bytes([9, transfer, 0, 1])))
    for data in (boxed, chunk, encoded(scene(0), icc_profile=inside)):
        with pytest.raises(Refused, match=said) as refused:
            load_picture(data, LIMITS, 64, "none")
        assert refused.value.reason == "unsupported_mode"


def test_codes_that_are_not_known_are_refused() -> None:
    with pytest.raises(Refused, match="1/10"):
        code_profile(1, 10)
    assert code_profile(1, next(iter(GAMMAS))) is not None


def test_an_avif_says_its_colours_in_a_box() -> None:
    avif = encoded(scene(0), "AVIF", quality=95)
    at = avif.index(b"nclx") + 4
    plain, wide = shown(avif), shown(avif[:at] + struct.pack(">HH", 9, 1) + avif[at + 4 :])
    matrix = np.linalg.inv(to_xyz(PRIMARIES[1])) @ to_xyz(PRIMARIES[9])
    assert np.abs(wide - levels(light(plain / 255) @ matrix.T)).mean() < 1
    grey = encoded(scene(0).convert("L"), "AVIF", quality=95)
    at = grey.index(b"nclx") + 4
    linear = shown(grey[:at] + struct.pack(">HH", 1, 8) + grey[at + 4 :])
    assert np.abs(linear - levels(shown(grey) / 255)).mean() < 1


@pytest.mark.parametrize("cut", [8, 20, 40, 70, 100, 150, 200, 300])
def test_damaged_boxes_are_no_error_of_their_own(cut: int) -> None:
    from controlmill.schemas.images.containers import boxed_colour

    avif = encoded(scene(0), "AVIF")
    boxed_colour(avif[:cut])
    for value in (0, 255):
        boxed_colour(avif[:cut] + bytes([value]) * 8 + avif[cut + 8 :])


@pytest.mark.parametrize("name", ["sRGB", "made"])
def test_a_linear_profile_is_converted_by_any_name(name: str) -> None:
    linear = named(make_profile(PRIMARIES[1], 1.0), name)
    found = shown(encoded(scene(0), icc_profile=linear))
    assert np.abs(found - levels(np.asarray(scene(0)) / 255)).mean() < 1


@pytest.mark.parametrize(
    "profile", [SRGB, make_profile(PRIMARIES[1], None), named(make_profile(PRIMARIES[1], None), "xyz")]
)
def test_a_profile_that_does_what_srgb_does_changes_nothing(profile: bytes) -> None:
    data = encoded(scene(0), icc_profile=profile)
    assert load_picture(data, LIMITS, 64, "none").data == data


def spaces() -> dict[str, tuple[Image.Image, bytes]]:
    """Name → (picture, profile) of six colour spaces."""
    cmyk = scene(2).convert("CMYK")
    return {
        "Display P3": (scene(2), make_profile(PRIMARIES[12], None)),
        "Adobe RGB": (scene(2), make_profile(ADOBE, 563 / 256)),
        "BT.2020": (scene(2), make_profile(PRIMARIES[9], 2.4)),
        "linear": (scene(2), make_profile(PRIMARIES[1], 1.0)),
        "gamma 2.2": (scene(2), make_profile(PRIMARIES[1], 2.2)),
        "CIELab": (cmyk.convert("RGB"), b""),
    }


@pytest.mark.parametrize("name", list(spaces()))
def test_six_colour_spaces_are_as_littlecms_has_them(name: str) -> None:
    picture, profile = spaces()[name]
    srgb, lab = ImageCms.createProfile("sRGB"), ImageCms.createProfile("LAB")
    if name == "CIELab":
        stored = ImageCms.profileToProfile(picture, srgb, lab, outputMode="LAB")
        assert stored is not None
        data, wanted = encoded(stored, "TIFF"), ImageCms.profileToProfile(stored, lab, srgb, outputMode="RGB")
    else:
        data = encoded(picture, icc_profile=profile)
        wanted = ImageCms.profileToProfile(picture, io.BytesIO(profile), srgb, outputMode="RGB")
    found = shown(data)
    assert np.abs(found - np.asarray(wanted)).mean() < 2
    stored_pixels = decode_image(load_picture(data, LIMITS, 64, "none").data)
    assert np.abs(stored_pixels - np.asarray(wanted).astype(float)).mean() < 4


def test_threads_share_a_conversion() -> None:
    profile = make_profile(ADOBE, 2.2)
    pictures = [scene(seed, 200, 150) for seed in range(6)]
    wanted = [np.asarray(conversion(profile, "RGB").apply(picture)) for picture in pictures]
    with ThreadPoolExecutor(6) as pool:
        found = list(pool.map(lambda i: np.asarray(conversion(profile, "RGB").apply(pictures[i % 6])), range(60)))
    assert all(np.array_equal(array, wanted[i % 6]) for i, array in enumerate(found))


GAMMA_1, GAMMA_SRGB = struct.pack(">I", 100_000), struct.pack(">I", 45_455)
CHROMATICITY = struct.pack(">8I", *(round(1e5 * v) for v in (*PRIMARIES[12][6:], *PRIMARIES[12][:6])))


def test_a_png_without_a_profile_goes_by_its_gamma_and_chromaticity() -> None:
    linear = shown(with_chunks(encoded(scene(0)), (b"gAMA", GAMMA_1)))
    assert np.abs(linear - levels(np.asarray(scene(0)) / 255)).mean() < 1
    wide = shown(with_chunks(encoded(scene(0)), (b"gAMA", GAMMA_SRGB), (b"cHRM", CHROMATICITY)))
    assert np.array_equal(wide, shown(with_chunks(encoded(scene(0)), (b"cICP", bytes([12, 13, 0, 1])))))
    for chunks in ([(b"gAMA", GAMMA_SRGB)], [(b"sRGB", b"\0"), (b"gAMA", GAMMA_1)], [(b"cHRM", bytes(32))]):
        assert np.array_equal(shown(with_chunks(encoded(scene(0)), *chunks)), np.asarray(scene(0)))


def test_the_newest_word_on_colour_wins() -> None:
    wide = with_chunks(encoded(scene(0), icc_profile=make_profile(ADOBE, 2.2)), (b"cICP", bytes([1, 13, 0, 1])))
    assert np.array_equal(shown(wide), np.asarray(scene(0)))


def test_grey_with_alpha_keeps_its_grey_profile() -> None:
    grey = scene(0).convert("L")
    profile = grey_profile(1.0)
    opaque = Image.merge("LA", (grey, Image.new("L", grey.size, 255)))
    assert np.array_equal(shown(encoded(opaque, icc_profile=profile)), shown(encoded(grey, icc_profile=profile)))
    assert np.abs(shown(encoded(grey, icc_profile=profile))[..., 0] - levels(np.asarray(grey) / 255)).mean() < 1


def grey_profile(gamma: float) -> bytes:
    """An RGB profile made into one of grey: its red curve is the grey curve."""
    data = make_profile(PRIMARIES[1], gamma).replace(b"rTRC", b"kTRC", 1)
    return data[:16] + b"GRAY" + data[20:]


def test_a_profile_of_another_space_or_damaged_is_passed_over() -> None:
    for profile in (grey_profile(1.0), b"no profile at all", make_profile(ADOBE, 2.2)[:200]):
        assert np.array_equal(shown(encoded(scene(0), icc_profile=profile)), np.asarray(scene(0)))
