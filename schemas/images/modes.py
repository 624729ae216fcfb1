"""The modes of a decoded picture, as 8 bits a channel: alpha over a ground, 16 bits by their white."""

from __future__ import annotations

import numpy as np
from PIL import Image

from ..errors import Refused
from .colour import lab_to_srgb
from .containers import Png

SIXTEEN = ("I;16", "I;16B", "I;16L", "I;16N")
STRIP_ROWS = 256


def to_rgb(image: Image.Image, ground: str = "white") -> Image.Image:
    """8 bits a channel, alpha over ``ground``; RGB, or L and CMYK where a profile may still be applied.

    Raises:
        Refused: unsupported_mode, where the range of the values is not known.
    """
    clear = "transparency" in image.info
    if image.mode in ("RGB", "L", "CMYK") and not clear:
        return image
    if image.mode in SIXTEEN:
        grey = Image.fromarray((np.asarray(image).astype(np.uint16) >> 8).astype(np.uint8))
        if not clear:
            return grey
        alpha = np.where(np.asarray(image) == image.info["transparency"], 0, 255).astype(np.uint8)
        return _over(Image.merge("LA", (grey, Image.fromarray(alpha))), ground)
    if image.mode == "LAB":
        return lab_to_srgb(image)
    if image.mode in ("1", "YCbCr", "HSV", "P", "RGBX") and not clear:
        return image.convert("RGB")
    if image.mode in ("P", "PA", "LA", "La", "RGBA", "RGBa", "RGB", "L", "1"):
        return _over(image, ground)
    raise Refused("unsupported_mode", f"mode {image.mode}: the range of its values is not known")


def _over(image: Image.Image, ground: str) -> Image.Image:
    """Alpha over a ground, L for greys and else RGB; by strips, because the whole would be held four times."""
    done = Image.new("L" if image.mode in ("L", "LA", "La") else "RGB", image.size)
    for top in range(0, image.height, STRIP_ROWS):
        part = image.crop((0, top, image.width, min(top + STRIP_ROWS, image.height))).convert("RGBA")
        done.paste(Image.alpha_composite(Image.new("RGBA", part.size, ground), part).convert(done.mode), (0, top))
    return done


def full_range(image: Image.Image, said: int | None, white: int | None) -> Image.Image:
    """Greys of more than 8 bits, scaled so that white is 65535: the value that the file ``said``, or else ``white``."""
    values, clear = np.asarray(image).astype(np.uint16), image.info.get("transparency")
    most, white = int(values.max()), said or white
    if white and most <= white:
        spare = (1 << (16 - white.bit_length())) - 1
        if np.bitwise_or.reduce(values, axis=None) & spare:  # else they were scaled when they were written
            values = (values.astype(np.uint32) * 65535 // white).astype(np.uint16)
            clear = None if clear is None else clear * 65535 // white
    elif most < 65536 // 8 and not said:
        raise Refused(
            "unsupported_mode",
            f"16 bits, but its brightest value is {most}, and white is not known (ingest --white-level 4095: 12 bits)",
        )
    done = Image.fromarray(values)
    if clear is not None:
        done.info["transparency"] = clear
    return done


def deep_png(image: Image.Image, png: Png) -> Image.Image:
    """A PNG of 16 bits, as Pillow should give it: grey with alpha as LA, a colour that is clear at 8 bits."""
    if png.channels == 2:
        return Image.merge("LA", (image.getchannel("R"), image.getchannel("A")))
    if image.mode == "RGB" and "transparency" in image.info:
        image.info["transparency"] = tuple(value >> 8 for value in image.info["transparency"])
    return image
