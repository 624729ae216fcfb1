"""The one decoder: bytes to a header that is checked, from that to an upright picture, and what its colours mean.

Nothing is decoded before its format, size and memory are known from the header. Whatever a decoder raises is a
:class:`Refused`: no error of the pixels is taken for one of the metadata.
"""

from __future__ import annotations

import functools
import io
import math
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

import numpy as np
from PIL import Image, UnidentifiedImageError

from ..errors import Refused, error_text
from .colour import check_hdr, code_profile, conversion, png_profile
from .containers import PNG_SIGNATURE, Png, boxed_colour, check_boxes, png_size, read_png
from .formats import BOXED, FORMATS, HEIF_BRANDS, Limits, reads_heif
from .modes import SIXTEEN, deep_png, full_range, to_rgb

TURNED_BY_PILLOW = ("TIFF", "HEIF")  # while decoding; an AVIF's own turn is put into its EXIF
TIFF_COMPRESSIONS = (  # by Pillow's names; left out are those of fax and of other machines than cameras
    *("raw", "packbits", "tiff_lzw", "tiff_deflate", "tiff_adobe_deflate", "lzma", "zstd"),
    *("jpeg", "tiff_jpeg"),
)
PHOTOMETRIC, BITS_PER_SAMPLE, MAX_SAMPLE_VALUE, ORIENTATION = 262, 258, 281, 274  # tags
SAMPLE_FORMAT, YCBCR, SIGNED = 339, 6, 2
TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
PIXEL_BYTES = {"1": 1, "L": 1, "P": 1, **dict.fromkeys(SIXTEEN, 2)}  # as Pillow holds them; 4 else
DECODER_BYTES = {"WEBP": 12, "AVIF": 12, "HEIF": 12}  # of a pixel, in the decoder beside Pillow's picture
PROGRESSIVE_BYTES = 6  # a progressive JPEG's coefficients
SCALING_BYTES = 6  # of a pixel, beside Pillow's picture, while it is scaled
DARK = 32  # of 255: where nothing is brighter, 16 bits are not all used

# Blocks above 32 MB go back to the system when they are freed; smaller ones glibc keeps, for each thread of its own.
Image.core.set_block_size(64 * 1024 * 1024)
Image.MAX_IMAGE_PIXELS = None  # sizes are checked here, against the caller's limits and before any decode


@dataclass
class Opened:
    """A picture whose header was read and checked.

    ``data`` is the file (a PNG without overlong texts), ``size`` (width, height) of the upright picture, ``turn`` the
    EXIF orientation that is left to do.
    """

    image: Image.Image
    data: bytes
    png: Png | None
    turn: int
    size: tuple[int, int] = field(init=False)

    def __post_init__(self) -> None:
        width, height = self.image.size
        self.size = (height, width) if self.turn >= 5 else (width, height)

    @property
    def memory(self) -> int:
        """About how many bytes decoding and scaling take at their most, by the header."""
        held = PIXEL_BYTES.get(self.image.mode, 4)
        turned = self.turn != 1 or ORIENTATION in getattr(self.image, "tag_v2", ())
        beside = max(DECODER_BYTES.get(str(self.image.format), 0), SCALING_BYTES)
        sample = held * (2 if turned else 1) + beside
        if self.image.has_transparency_data or self.image.mode in SIXTEEN:
            sample += 4
        most = self.image.width * self.image.height * sample
        return most + (self.size[0] * self.size[1] * PROGRESSIVE_BYTES if "progressive" in self.image.info else 0)

    def reduce(self, factor: float) -> None:
        """Decode a JPEG at a half, a quarter or an eighth, where that is ``factor`` of its sides or more."""
        if self.image.format in ("JPEG", "MPO") and factor < 1:
            self.image.draft(
                self.image.mode, (math.ceil(self.image.width * factor), math.ceil(self.image.height * factor))
            )

    @property
    def several(self) -> bool:
        """Whether more pictures follow the first, which alone is decoded: an animation, or pages; asked after decoding.

        The second picture of an MPO is a camera's own (a gain map, another eye), and does not count.
        """
        try:
            return self.image.format != "MPO" and bool(getattr(self.image, "is_animated", False))
        except Exception:  # what follows may be damaged; the first picture is decoded already
            return False

    def decode(self) -> Image.Image:
        """The upright picture in the file's own mode and values; where white is zero they are turned over.

        Raises:
            Refused: truncated, out_of_memory.
        """
        with _refusing(self.image):
            self.image.load()
            image = self.image
            if self.png and self.png.bits == 16:
                image = deep_png(image, self.png)
            if image.format == "TIFF" and image.mode in SIXTEEN and image.tag_v2.get(PHOTOMETRIC, 0) == 0:  # type: ignore[attr-defined]
                image = Image.fromarray(np.uint16(self.white or 65535) - np.asarray(image).astype(np.uint16))
            turn = TURNS.get(self.turn)
            return image if turn is None else image.transpose(turn)

    def picture(self, white: int | None = None) -> Image.Image:
        """The upright photograph, 8 bits a channel, alpha over white: RGB, or L and CMYK where a profile may apply.

        Args:
            white: the value of white in 16-bit greys whose file does not say it.

        Raises:
            Refused: truncated, out_of_memory, unsupported_mode.
        """
        image = self.decode()
        with _refusing(image):
            if image.mode in SIXTEEN or (image.mode == "I" and self.image.format == "PPM"):
                return to_rgb(full_range(image, self.white, white))
            if self.is_deep() and max(high for _, high in image.getextrema()[:3]) < DARK:  # type: ignore[misc]
                raise Refused("unsupported_mode", "16 bits a channel, but nothing is brighter than an eighth of white")
            return to_rgb(image)

    def profile(self) -> bytes | None:
        """The ICC profile of the colours, its own or one made from its codes; None where they are sRGB's.

        Raises:
            Refused: unsupported_mode, where the colours cannot be shown as sRGB.
        """
        own: bytes | None = self.image.info.get("icc_profile") or None
        codes = self.png.chunks.get(b"cICP") if self.png else None
        if codes and len(codes) >= 2:
            return code_profile(codes[0], codes[1])
        if own:
            check_hdr(own)
            return own
        if self.png:
            return png_profile(self.image.info)
        boxed = boxed_colour(self.data) if self.image.format in BOXED else None
        return code_profile(*boxed) if boxed else None

    def is_srgb(self) -> bool:
        """Whether its colours need no conversion.

        Raises:
            Refused: as :meth:`profile`.
        """
        profile = self.profile()
        return profile is None or not conversion(profile, self.image.mode).changes

    @property
    def white(self) -> int | None:
        """The value of white in a picture of 16 bits, where the file says it."""
        if self.png:
            bits = self.png.chunks.get(b"sBIT", b"")
            return (1 << bits[0]) - 1 if self.png.bits == 16 and bits and 8 < bits[0] < 16 else None
        tags = getattr(self.image, "tag_v2", {})
        most = tags.get(MAX_SAMPLE_VALUE) or (1 << max(tags.get(BITS_PER_SAMPLE, (0,)))) - 1
        most = max(most) if isinstance(most, tuple) else most
        return most if 255 < most < 65535 else None

    def is_deep(self) -> bool:
        """Whether its colours have 16 bits, of which Pillow gives the upper 8."""
        if self.image.mode not in ("RGB", "RGBA", "RGBX"):
            return False
        bits = getattr(self.image, "tag_v2", {}).get(BITS_PER_SAMPLE, (8,))
        return self.png.bits == 16 if self.png else max(bits) == 16


def open_picture(data: bytes, limits: Limits, formats: Sequence[str] = FORMATS) -> Opened:
    """Read and check a picture's header; no pixel is decoded. A PNG's checksums are compared as well.

    Args:
        data: the file.
        limits: what is refused unseen.
        formats: those of :data:`FORMATS` that are opened at all.

    Raises:
        Refused: too_many_bytes, not_an_image, too_many_pixels, too_small, truncated, unsupported_mode, out_of_memory.
    """
    if len(data) > limits.max_bytes:
        raise Refused("too_many_bytes", f"{len(data)} bytes; the cap is {limits.max_bytes}")
    if not data:
        raise Refused("not_an_image", "the file is empty")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Pillow warns of odd metadata and of sizes; sizes are checked here
        png = None
        if data.startswith(PNG_SIGNATURE) and "PNG" in formats:
            check_size(png_size(data), limits)
            png = read_png(data)
            data = png.data
        image = _open(data, formats)
        check_size(image.size, limits)
        if image.mode == "P" and image.palette is None:
            raise Refused("truncated", "its pixels are numbers of colours, and it has no colours")
        if image.format == "TIFF":
            _check_tiff(image)
        elif image.format in BOXED:
            check_boxes(data)
        return Opened(image, data, png, 1 if image.format in TURNED_BY_PILLOW else _orientation(image, png))


def _check_tiff(image: Image.Image) -> None:
    """Raise Refused, unsupported_mode, for what Pillow or libtiff read wrongly."""
    image.info.pop("xmp", None)  # Pillow would turn the picture by it
    coding, tags = image.info["compression"], image.tag_v2  # type: ignore[attr-defined]
    if coding not in TIFF_COMPRESSIONS:
        raise Refused("unsupported_mode", f"a TIFF coded as {coding}, which photographs are not")
    if image.mode == "L" and SIGNED in tags.get(SAMPLE_FORMAT, ()):
        raise Refused("unsupported_mode", "a TIFF of signed bytes, which Pillow takes for unsigned ones")
    if coding == "raw" and tags.get(PHOTOMETRIC) == YCBCR:
        raise Refused("unsupported_mode", "an uncompressed YCbCr TIFF, whose samples Pillow takes for others")


def check_size(size: tuple[int, int], limits: Limits) -> None:
    """Raise Refused, too_many_pixels or too_small, where (width, height) is outside the limits."""
    width, height = size
    if width * height > limits.max_pixels:
        raise Refused("too_many_pixels", f"{width}x{height} pixels; the cap is {limits.max_pixels}")
    if min(size) < limits.min_side:
        raise Refused("too_small", f"{width}x{height} pixels; both sides must be {limits.min_side} or more")


def _open(data: bytes, formats: Sequence[str]) -> Image.Image:
    known = [name for name in formats if name != "HEIF"]
    if "HEIF" in formats and data[4:8] == b"ftyp":
        if reads_heif():
            _register_heif()
            known.append("HEIF")
        elif data[8:12] in HEIF_BRANDS:
            raise Refused("unsupported_mode", "a HEIC, which needs another package: pip install '.[heif]'")
    try:
        return Image.open(io.BytesIO(data), formats=known)
    except UnidentifiedImageError as error:
        for name in known:
            if (accept := Image.OPEN[name][1]) and accept(data[:16]) is True:
                raise Refused("truncated", f"a {name} that is damaged, or of a kind that is not read") from error
        raise Refused("not_an_image", f"not a picture of a known format ({', '.join(known)})") from error
    except MemoryError as error:
        raise Refused("out_of_memory", "reading its header ran out of memory") from error
    except Exception as error:  # header parsers raise nearly anything on damaged data
        raise Refused("truncated", f"its header cannot be read: {error_text(error)}") from error


@functools.cache
def _register_heif() -> None:
    import pillow_heif

    pillow_heif.register_heif_opener()


def _orientation(image: Image.Image, png: Png | None) -> int:
    """EXIF's orientation, 1 to 8; 1 where there is none or EXIF is damaged. XMP has none by its specification's use."""
    said = png.chunks.get(b"eXIf") if png else image.info.get("exif")
    if png and not said and "Raw profile type exif" in image.info:
        said = _hex_profile(image.info["Raw profile type exif"])
    if not said:
        return 1
    exif = Image.Exif()
    try:
        exif.load(said)
        value = exif.get(ORIENTATION, 1)
    except MemoryError as error:
        raise Refused("out_of_memory", "reading its EXIF ran out of memory") from error
    except Exception:  # the parser raises nearly anything on damaged EXIF; no pixel is read here
        return 1
    return value if value in range(1, 9) else 1


def _hex_profile(text: str) -> bytes:
    """EXIF as ImageMagick writes it into a text of a PNG; empty where it is damaged."""
    try:
        return bytes.fromhex("".join(text.split("\n")[3:]))
    except ValueError:
        return b""


@contextmanager
def _refusing(image: Image.Image) -> Iterator[None]:
    """Whatever is raised while pixels are decoded or converted, as Refused."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    except Refused:
        raise
    except MemoryError as error:  # a lying header, more often than a small machine: it must not stop the others
        raise Refused("out_of_memory", f"decoding {image.width}x{image.height} pixels ran out of memory") from error
    except Exception as error:  # Pillow's decoders raise nearly anything on damaged data
        raise Refused("truncated", f"could not be decoded: {error_text(error)}") from error
