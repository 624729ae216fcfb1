"""NumPy's .npy files from elsewhere: the header is looked at before any memory is taken, and nothing is unpickled."""

from __future__ import annotations

import io
import math

import numpy as np

from ..errors import Refused, error_text

MAGIC = np.lib.format.MAGIC_PREFIX
HEADERS = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}


def load_plane(data: bytes, max_pixels: int) -> np.ndarray:
    """The numbers of a file as (H, W), float, int or uint; an axis of length 1 beside these is dropped.

    Raises:
        Refused: not_an_image, truncated, too_many_pixels, wrong_kind.
    """
    file = io.BytesIO(data)
    try:
        version = np.lib.format.read_magic(file)
        if version not in HEADERS:
            raise ValueError(f"format version {version[0]}.{version[1]}")
        shape, fortran, dtype = HEADERS[version](file)
    except Exception as error:  # NumPy's parser raises more than it says on damaged headers (tokenize.TokenError)
        raise Refused("not_an_image", f"not a .npy file that can be read: {error_text(error)}") from error
    sides = [side for side in shape if side != 1] if len(shape) == 3 else list(shape)
    if len(sides) != 2 or dtype.kind not in "fiu" or min(sides) < 1:
        raise Refused("wrong_kind", f"an array of {dtype} {shape}; a map is numbers in (H, W)")
    if math.prod(sides) > max_pixels:
        raise Refused("too_many_pixels", f"{sides[1]}x{sides[0]} pixels; the cap is {max_pixels}")
    if len(data) - file.tell() < math.prod(sides) * dtype.itemsize:
        raise Refused("truncated", f"the file ends before its {sides[1]}x{sides[0]} numbers do")
    flat = np.frombuffer(data, dtype, math.prod(sides), file.tell())
    return flat.reshape(sides, order="F" if fortran else "C")
