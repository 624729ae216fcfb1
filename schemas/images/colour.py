"""Colour: what a picture's numbers mean, by its ICC profile, cICP, nclx or gAMA and cHRM; converted to sRGB.

A file's own words are compared by what they do to colours, never by the name of a profile. Sources: ITU-T H.273 (code
points), ICC.1 (profiles), the PNG specification (which of its chunks wins).
"""

from __future__ import annotations

import functools
import io
import struct
from collections.abc import Mapping
from typing import Any

import numpy as np
from PIL import Image, ImageCms

from ..errors import Refused

SAME = 2  # levels of 255: profiles of sRGB by different makers differ by so much
D50 = (0.9642, 1.0, 0.8249)
D65 = (0.3127, 0.3290)
PRIMARIES = {  # H.273 code: x and y of red, green, blue, white
    1: (0.64, 0.33, 0.30, 0.60, 0.15, 0.06, *D65),
    4: (0.67, 0.33, 0.21, 0.71, 0.14, 0.08, 0.310, 0.316),
    5: (0.64, 0.33, 0.29, 0.60, 0.15, 0.06, *D65),
    6: (0.630, 0.340, 0.310, 0.595, 0.155, 0.070, *D65),
    7: (0.630, 0.340, 0.310, 0.595, 0.155, 0.070, *D65),
    9: (0.708, 0.292, 0.170, 0.797, 0.131, 0.046, *D65),
    11: (0.680, 0.320, 0.265, 0.690, 0.150, 0.060, 0.314, 0.351),
    12: (0.680, 0.320, 0.265, 0.690, 0.150, 0.060, *D65),
    22: (0.630, 0.340, 0.295, 0.605, 0.155, 0.077, *D65),
}
UNSAID = 2
# Screens show the camera curves of BT.709, BT.601 and BT.2020 as they show sRGB's, and so does everything that looks at
# pictures; most encoders write 1 or 6 for an sRGB picture.
AS_SRGB = (1, UNSAID, 6, 13, 14, 15)
GAMMAS = {4: 2.2, 5: 2.8, 8: 1.0}
HDR = {16: "PQ", 18: "HLG"}
SRGB_GAMMA = 0.45455  # what writers of sRGB pictures put into gAMA
CURVE = (2.4, 1 / 1.055, 0.055 / 1.055, 1 / 12.92, 0.04045)  # sRGB's, as an ICC parametric curve of type 3


def code_profile(primaries: int, transfer: int) -> bytes | None:
    """The ICC profile of a pair of H.273 codes; None where they say sRGB, or nothing.

    Raises:
        Refused: unsupported_mode, for HDR, and for codes that are not known.
    """
    if transfer in HDR:
        raise Refused(
            "unsupported_mode",
            f"HDR ({HDR[transfer]}): how bright it is on an ordinary screen is not said; make an SDR picture of it",
        )
    primaries = 1 if primaries == UNSAID else primaries
    if primaries not in PRIMARIES or (transfer not in AS_SRGB and transfer not in GAMMAS):
        raise Refused("unsupported_mode", f"colour by H.273 codes {primaries}/{transfer}, which are not known here")
    if primaries == 1 and transfer in AS_SRGB:
        return None
    return make_profile(PRIMARIES[primaries], GAMMAS.get(transfer))


def png_profile(said: Mapping[Any, Any]) -> bytes | None:
    """The profile of gAMA and cHRM, ``said`` as Pillow reads them; either alone goes with sRGB's other half.

    Raises:
        Refused: never; what makes no sense is passed over.
    """
    gamma, points = said.get("gamma"), said.get("chromaticity")
    if "srgb" in said or (not gamma and not points):
        return None
    white_last = (*points[2:8], *points[:2]) if points and len(points) == 8 else PRIMARIES[1]
    exponent = None if not gamma or abs(gamma / SRGB_GAMMA - 1) < 0.01 else 1 / gamma
    try:
        return make_profile(white_last, exponent)
    except (np.linalg.LinAlgError, ZeroDivisionError, struct.error):
        return None


@functools.lru_cache(maxsize=64)
def make_profile(points: tuple[float, ...], gamma: float | None) -> bytes:
    """An ICC profile of RGB.

    Args:
        points: x and y of red, green, blue and white.
        gamma: the exponent from values to light; None for sRGB's curve.

    Raises:
        LinAlgError, ZeroDivisionError, struct.error: points that span no triangle.
    """
    xyz = np.array([(x / y, 1.0, (1 - x - y) / y) for x, y in zip(points[::2], points[1::2], strict=True)]).T
    columns = xyz[:, :3] * np.linalg.solve(xyz[:, :3], xyz[:, 3])
    bradford = np.array([(0.8951, 0.2664, -0.1614), (-0.7502, 1.7135, 0.0367), (0.0389, -0.0685, 1.0296)])
    cones = (bradford @ np.array(D50)) / (bradford @ xyz[:, 3])
    columns = np.linalg.inv(bradford) @ np.diag(cones) @ bradford @ columns

    def fixed(*values: float) -> bytes:
        return struct.pack(f">{len(values)}i", *(round(value * 65536) for value in values))

    def text(words: str) -> bytes:
        return b"mluc" + struct.pack(">III4sII", 0, 1, 12, b"enUS", 2 * len(words), 28) + words.encode("utf-16-be")

    formula = struct.pack(">I", 0) + fixed(gamma) if gamma else struct.pack(">I", 3 << 16) + fixed(*CURVE)
    curve = b"para" + bytes(4) + formula
    parts = {b"desc": text("made"), b"cprt": text("none"), b"wtpt": b"XYZ " + bytes(4) + fixed(*D50)}
    for number, name in enumerate((b"r", b"g", b"b")):
        parts[name + b"XYZ"] = b"XYZ " + bytes(4) + fixed(*columns[:, number])
        parts[name + b"TRC"] = curve
    table, body, start = struct.pack(">I", len(parts)), b"", 132 + 12 * len(parts)
    for name, part in parts.items():
        table += name + struct.pack(">II", start + len(body), len(part))
        body += part + bytes(-len(part) % 4)
    size = start + len(body)
    head = struct.pack(">I4xI4s4s4s12x4s", size, 0x04200000, b"mntr", b"RGB ", b"XYZ ", b"acsp")
    return (head.ljust(68, b"\0") + fixed(*D50)).ljust(128, b"\0") + table + body


def check_hdr(profile: bytes) -> None:
    """Raise Refused, unsupported_mode, where an ICC profile says by its ``cicp`` tag that it is HDR."""
    count = int.from_bytes(profile[128:132])
    for at in range(132, min(132 + 12 * count, len(profile)), 12):
        if profile[at : at + 4] == b"cicp":
            start = int.from_bytes(profile[at + 4 : at + 8])
            code = profile[start + 8 : start + 12]
            if len(code) == 4 and code[1] in HDR:
                code_profile(code[0], code[1])


class Conversion:
    """From a profile's colours to sRGB, for pictures of one mode. ``changes`` says whether it does anything."""

    def __init__(self, profile: bytes, mode: str):
        self.transform: ImageCms.ImageCmsTransform | None = None
        try:
            source = ImageCms.ImageCmsProfile(io.BytesIO(profile))
            transform = ImageCms.buildTransform(source, ImageCms.createProfile("sRGB"), mode, "RGB")
        except (ImageCms.PyCMSError, OSError, ValueError, SyntaxError):
            return  # damaged, or of another colour space than the picture's: passed over, as browsers do
        colours = _colours(mode)
        plain = np.asarray(colours.convert("RGB")).astype(int)
        converted = transform.apply(colours)
        if mode == "CMYK" or np.abs(np.asarray(converted).astype(int) - plain).max() > SAME:
            self.transform = transform

    @property
    def changes(self) -> bool:
        """Whether a picture is another one afterwards."""
        return self.transform is not None

    def apply(self, image: Image.Image) -> Image.Image:
        """The picture in sRGB, mode RGB."""
        if self.transform is None:
            return image.convert("RGB")
        return self.transform.apply(image)


def _colours(mode: str) -> Image.Image:
    """All greys, and for RGB a cube of 9 steps a side."""
    ramp = np.arange(256, dtype=np.uint8)
    if mode != "RGB":
        return Image.fromarray(ramp[None]).convert(mode)
    steps = np.linspace(0, 255, 9).astype(np.uint8)
    cube = np.stack(np.meshgrid(steps, steps, steps), axis=-1).reshape(-1, 3)
    return Image.fromarray(np.concatenate([np.stack([ramp] * 3, axis=1), cube])[None])


def lab_to_srgb(image: Image.Image) -> Image.Image:
    """CIELab of a TIFF, whose white is D50, as RGB."""
    transform = ImageCms.buildTransform(ImageCms.createProfile("LAB"), ImageCms.createProfile("sRGB"), "LAB", "RGB")
    return transform.apply(image)


@functools.lru_cache(maxsize=64)
def conversion(profile: bytes, mode: str) -> Conversion:
    """The conversion of a profile, made once. Safe in threads."""
    return Conversion(profile, mode)


def to_srgb(image: Image.Image, profile: bytes | None) -> Image.Image:
    """RGB in sRGB. A profile of another colour space than the picture's is passed over, as browsers do."""
    if profile is None:
        return image.convert("RGB")
    if image.mode == "L" and profile[16:20] == b"RGB ":
        image = image.convert("RGB")
    return conversion(profile, image.mode).apply(image)
