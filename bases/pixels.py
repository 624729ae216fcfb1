"""Pixels in the range that a VAE takes and gives."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

import numpy as np

if TYPE_CHECKING:
    import torch

Pixels = TypeVar("Pixels", np.ndarray, "torch.Tensor")


def signed(pixels: Pixels) -> Pixels:
    """0 to 255 → −1 to 1; float32 of any shape. On a CPU NumPy and PyTorch give the same bits."""
    return pixels / 127.5 - 1


def unsigned(pixels: np.ndarray) -> np.ndarray:
    """−1 to 1, float → uint8: rounded, and what is outside is cut off."""
    return np.rint((pixels + 1) * 127.5).clip(0, 255).astype(np.uint8)
