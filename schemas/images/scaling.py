"""Scaling of pictures by Lanczos, filtered as it scales down, in vector instructions.

The library is fast_image_resize, by its Python package. Its arithmetic is of integers, and gives the same bits with and
without vector instructions. Nearly all values of a photograph are those of Pillow's Lanczos, or differ by one.
"""

from __future__ import annotations

from cykooz_resizer import CropBox, FilterType, ResizeAlg, ResizeOptions, Resizer
from PIL import Image

LANCZOS = ResizeAlg.convolution(FilterType.lanczos3)
Window = tuple[float, float, float, float]  # left, upper, right and lower edge, in pixels


def scaled(image: Image.Image, window: Window, size: tuple[int, int]) -> Image.Image:
    """A window of a picture, scaled to ``size`` (width, height).

    Args:
        image: of mode L, RGB or CMYK. It is read where Pillow holds it.
        window: within the picture; edges need not lie between pixels.
        size: (width, height), at least 1.
    """
    left, upper, right, lower = window
    options = ResizeOptions(LANCZOS, crop_box=CropBox(left, upper, right - left, lower - upper), use_alpha=False)
    target = Image.new(image.mode, size)
    Resizer().resize_pil(image, target, options)
    return target
