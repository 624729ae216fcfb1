"""Caches for training: what a base's encoders say of each row, so that no step has to ask them again.

Nothing random is stored. ``latents`` holds the *moments* of the VAE's posterior, of which each step draws its own
sample, and apart from them those of the mirrored picture (the VAE of a mirrored picture is not its mirrored latent).
``embeddings`` holds what the text encoder makes of the caption; a row without one has a null, which stands for the
empty prompt, as a dropped prompt does: dropping is done by the reader.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from .tables import EMBEDDINGS, LATENTS

DTYPES = {"fp32": "<f4", "fp16": "<f2"}
VALUES = {LATENTS: ("moments", "mirrored"), EMBEDDINGS: ("embedding",)}


def pack(array: np.ndarray, stored: str) -> bytes:
    """Values in C order, little-endian; ``stored`` is fp32 or fp16.

    Raises:
        ValueError: a value is infinite, no number, or too large for fp16.
    """
    with np.errstate(over="ignore"):
        values = array.astype(DTYPES[stored])
    if not np.isfinite(values).all():
        raise ValueError(f"the encoder's values are not finite in {stored}")
    return values.tobytes()


def unpack(data: bytes, shape: list[int], stored: str) -> np.ndarray:
    """What :func:`pack` was given, as float32.

    Raises:
        ValueError: the bytes are not of that shape.
    """
    return np.frombuffer(data, DTYPES[stored]).reshape(shape).astype(np.float32)


def fault(table: str, row: dict[str, Any], stored: str) -> str | None:
    """What is wrong with a row of a cache, if anything; ``row`` has reason, shape and values."""
    first = row[VALUES[table][0]]
    if first is None:
        return "has no moments and no reason" if table == LATENTS and not row["reason"] else None
    size = int(np.prod(row["shape"])) * np.dtype(DTYPES[stored]).itemsize
    wrong = [name for name in VALUES[table] if row[name] is not None and len(row[name]) != size]
    return f"{', '.join(wrong)}: not {size} bytes, as its shape says" if wrong else None
