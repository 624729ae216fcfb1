"""Untrusted bytes to final pixels: caps before any decode, orientation, RGB, fit, sRGB.

What comes out is what annotators and trainers see: nothing is turned or converted again after this file.
"""

from __future__ import annotations

import io
import math
import warnings
from dataclasses import dataclass
from typing import Literal

from PIL import Image, ImageCms, UnidentifiedImageError

from ..schemas.codecs import encode_image
from ..schemas.errors import Refused, error_text
from ..schemas.pictures import orientation, to_rgb, upright

Fit = Literal["crop", "bucket", "none"]

FORMATS = (
    "JPEG",
    "PNG",
    "WEBP",
    "BMP",
    "GIF",
    "TIFF",
    "AVIF",
    "PPM",
)  # an MPO is opened as the JPEG that it begins with
KEPT_FORMATS = {"JPEG": "jpg", "PNG": "png", "WEBP": "webp"}
KEPT_BYTES_PER_PIXEL, KEPT_BYTES = 4, 65536  # a file far larger than its pixels carries something else
DRAFT_FACTOR = 1.5  # reduced JPEG decoding stays this much above the target; an exact one costs 10 dB
BUCKET_STEP = 64
MAX_ASPECT = 2.0  # of buckets
Box = tuple[int, int, int, int]

Image.MAX_IMAGE_PIXELS = None  # sizes are checked here, against the limits of the job and before any decode


@dataclass(frozen=True)
class Limits:
    """What is refused unseen."""

    max_pixels: int = 64_000_000
    max_bytes: int = 256 * 1024 * 1024
    min_side: int = 64


@dataclass(frozen=True)
class Picture:
    """A fitted picture: encoded bytes, file ending, size, size before the fit (oriented), and the box cut from that."""

    data: bytes
    ending: str
    width: int
    height: int
    original_width: int
    original_height: int
    crop: Box  # x, y, width, height


def load_picture(data: bytes, limits: Limits, resolution: int, fit: Fit) -> Picture:
    """Decode, check, orient, convert and fit one picture. Bytes that need none of it are kept as they are.

    Raises:
        Refused: too_many_bytes, too_many_pixels, too_small, not_an_image, truncated, unsupported_mode, out_of_memory.
    """
    if len(data) > limits.max_bytes:
        raise Refused("too_many_bytes", f"{len(data)} bytes; the cap is {limits.max_bytes}")
    if not data:
        raise Refused("not_an_image", "the file is empty")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Pillow warns of odd metadata and of sizes; sizes are checked here
        image = open_image(data, limits)
        try:
            return _fitted(image, data, limits, resolution, fit)
        except Refused:
            raise
        except MemoryError as error:  # a lying header, more often than a small machine: it must not stop the others
            raise Refused("out_of_memory", f"decoding {image.width}x{image.height} pixels ran out of memory") from error
        except Exception as error:  # Pillow's decoders raise nearly anything on damaged data
            raise Refused("truncated", f"could not be decoded: {error_text(error)}") from error


def open_image(data: bytes, limits: Limits) -> Image.Image:
    """A picture whose header was read and whose size is within the limits; no pixel is decoded yet.

    Raises:
        Refused: not_an_image, too_many_pixels, too_small.
    """
    try:
        image = Image.open(io.BytesIO(data), formats=FORMATS)
    except UnidentifiedImageError as error:
        raise Refused("not_an_image", f"not a picture of a known format ({', '.join(FORMATS)})") from error
    except Exception as error:  # header parsers raise nearly anything on damaged data
        raise Refused("not_an_image", error_text(error)) from error
    if image.width * image.height > limits.max_pixels:
        raise Refused("too_many_pixels", f"{image.width}x{image.height} pixels; the cap is {limits.max_pixels}")
    if min(image.size) < limits.min_side:
        raise Refused("too_small", f"{image.width}x{image.height} pixels; both sides must be {limits.min_side} or more")
    return image


def _fitted(image: Image.Image, data: bytes, limits: Limits, resolution: int, fit: Fit) -> Picture:
    original = oriented_size(image)
    crop, size = fit_box(*original, resolution, fit)
    profile = foreign_profile(image)
    keep = (
        image.format in KEPT_FORMATS
        and image.mode == "RGB"
        and "transparency" not in image.info
        and getattr(image, "n_frames", 1) == 1
        and orientation(image) == 1
        and profile is None
        and len(data) <= KEPT_BYTES_PER_PIXEL * image.width * image.height + KEPT_BYTES
        and (*size, 0, 0) == (*original, *crop[:2])
    )
    ending = KEPT_FORMATS[image.format] if keep and image.format else "jpg"
    if keep:
        image.load()  # a truncated file shows here
    else:
        data = encode_image(to_srgb(cut(to_rgb(drafted(image, crop, size)), original, crop, size), profile))
    return Picture(data, ending, *size, *original, crop)


def oriented_size(image: Image.Image) -> tuple[int, int]:
    """(width, height) after orientation."""
    sideways = orientation(image) >= 5
    return (image.height, image.width) if sideways else (image.width, image.height)


def fit_box(width: int, height: int, resolution: int, fit: Fit) -> tuple[Box, tuple[int, int]]:
    """What is cut from an oriented picture, in its own pixels, and the size it is scaled to: ((x, y, w, h), (w, h)).

    ``crop``: the short side becomes ``resolution``, then a centred square. ``bucket``: the nearest aspect among sizes
    in multiples of 64 with about ``resolution``² pixels, centred. ``none``: all of it, as it is.
    """
    if fit == "none":
        return (0, 0, width, height), (width, height)
    size = (resolution, resolution) if fit == "crop" else nearest_bucket(width, height, resolution)
    scale = min(width / size[0], height / size[1])
    w, h = min(width, max(1, round(size[0] * scale))), min(height, max(1, round(size[1] * scale)))
    return ((width - w) // 2, (height - h) // 2, w, h), size


def nearest_bucket(width: int, height: int, resolution: int) -> tuple[int, int]:
    """The bucket whose aspect is nearest to width : height, on a logarithmic scale."""
    aspect = math.log(width / height)
    return min(buckets(resolution), key=lambda size: (abs(math.log(size[0] / size[1]) - aspect), size))


def buckets(resolution: int) -> list[tuple[int, int]]:
    """All (width, height) in multiples of 64, at most ``resolution``² pixels, sides at most 2 : 1."""
    sizes = set()
    for side in range(BUCKET_STEP, 2 * resolution + 1, BUCKET_STEP):
        other = resolution * resolution // side // BUCKET_STEP * BUCKET_STEP
        if other and max(side / other, other / side) <= MAX_ASPECT:
            sizes |= {(side, other), (other, side)}
    return sorted(sizes)


def drafted(image: Image.Image, crop: Box, size: tuple[int, int]) -> Image.Image:
    """The picture, oriented; a JPEG far larger than needed is decoded at a half, a quarter or an eighth."""
    if image.format in ("JPEG", "MPO"):
        factor = DRAFT_FACTOR * max(size[0] / crop[2], size[1] / crop[3])
        if factor < 1:
            image.draft(image.mode, (math.ceil(image.width * factor), math.ceil(image.height * factor)))
    return upright(image)


def cut(image: Image.Image, original: tuple[int, int], crop: Box, size: tuple[int, int]) -> Image.Image:
    """The crop box, given in pixels of the ``original`` size, scaled to ``size`` by Lanczos."""
    x, y, w, h = crop
    if image.size == original == size:
        return image
    fx, fy = image.width / original[0], image.height / original[1]
    box = (x * fx, y * fy, min((x + w) * fx, image.width), min((y + h) * fy, image.height))
    return image.resize(size, Image.Resampling.LANCZOS, box=box)


def foreign_profile(image: Image.Image) -> ImageCms.ImageCmsProfile | None:
    """The ICC profile, where there is a usable one that is not sRGB."""
    data = image.info.get("icc_profile")
    if not data:
        return None
    try:
        profile = ImageCms.ImageCmsProfile(io.BytesIO(data))
        named_srgb = ImageCms.getProfileDescription(profile).strip().lower().startswith("srgb")
    except (ImageCms.PyCMSError, OSError, ValueError, SyntaxError):
        return None
    return None if named_srgb and image.mode == "RGB" else profile


def to_srgb(image: Image.Image, profile: ImageCms.ImageCmsProfile | None) -> Image.Image:
    """RGB in sRGB. A profile of another colour space than the picture's is passed over, as browsers do."""
    if profile is not None:
        try:
            converted = ImageCms.profileToProfile(image, profile, ImageCms.createProfile("sRGB"), outputMode="RGB")
            if converted is not None:
                return converted
        except ImageCms.PyCMSError:
            pass
    return image.convert("RGB")
