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
    shape, fortran, dtype, start = _header(data)
    sides = [side for side in shape if side != 1] if len(shape) == 3 else list(shape)
    return _numbers(data, sides, fortran, dtype, start, 1, max_pixels)


def load_vectors(data: bytes, max_pixels: int) -> np.ndarray:
    """The numbers of a file as (H, W, 3), float, int or uint.

    Raises:
        Refused: as :func:`load_plane`.
    """
    shape, fortran, dtype, start = _header(data)
    if len(shape) != 3 or shape[2] != 3:
        raise Refused("wrong_kind", f"an array of {dtype} {shape}; vectors are numbers in (H, W, 3)")
    return _numbers(data, list(shape), fortran, dtype, start, 3, max_pixels)


def _header(data: bytes) -> tuple[tuple[int, ...], bool, np.dtype, int]:
    """(shape, whether columns come first, type, where the numbers begin)."""
    file = io.BytesIO(data)
    try:
        version = np.lib.format.read_magic(file)
        if version not in HEADERS:
            raise ValueError(f"format version {version[0]}.{version[1]}")
        shape, fortran, dtype = HEADERS[version](file)
    except Exception as error:  # NumPy's parser raises more than it says on damaged headers (tokenize.TokenError)
        raise Refused("not_an_image", f"not a .npy file that can be read: {error_text(error)}") from error
    return shape, fortran, dtype, file.tell()


def _numbers(
    data: bytes,
    shape: list[int],
    fortran: bool,
    dtype: np.dtype,
    start: int,
    channels: int,
    max_pixels: int,
) -> np.ndarray:
    if len(shape) != (2 if channels == 1 else 3) or dtype.kind not in "fiu" or min(shape) < 1:
        raise Refused("wrong_kind", f"an array of {dtype} {tuple(shape)}; a map is numbers in (H, W)")
    if math.prod(shape) > max_pixels * channels:
        raise Refused("too_many_pixels", f"{shape[1]}x{shape[0]} pixels; the cap is {max_pixels}")
    if len(data) - start < math.prod(shape) * dtype.itemsize:
        raise Refused("truncated", f"the file ends before its {shape[1]}x{shape[0]} numbers do")
    flat = np.frombuffer(data, dtype, math.prod(shape), start)
    return flat.reshape(shape, order="F" if fortran else "C")
