"""A decoded row of the tables, as training and evaluation see it, and the random numbers that belong to it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np


@dataclass(frozen=True)
class Sample:
    """One decoded row. ``image`` is uint8 (H, W, 3) RGB; ``maps`` are as their kinds say; ``row`` is (shard, row).

    From caches come ``latents``, of the picture or its mirror image, which is then not decoded (``image`` is None), and
    ``prompt``, None for the empty one; both are float32 arrays by the names that the base gives them.
    """

    epoch: int
    row: tuple[int, int]
    image: np.ndarray | None
    maps: dict[str, np.ndarray]
    caption: str
    columns: dict[str, Any]
    latents: Mapping[str, np.ndarray] | None = None
    prompt: Mapping[str, np.ndarray] | None = None

    @property
    def picture(self) -> np.ndarray:
        """The image of a sample whose picture was decoded; raises ValueError of another."""
        if self.image is None:
            raise ValueError(f"shard {self.row[0]}, row {self.row[1]} has latents in the place of a picture")
        return self.image


def draws(seed: int, epoch: int, row: tuple[int, int], use: str) -> np.random.Generator:
    """The random numbers of one sample. ``use`` keeps crops, noise and dropout apart."""
    return np.random.default_rng((seed, epoch, *row, int.from_bytes(use.encode()[:8], "big")))
