"""Photographs, a folder of random weights, and networks loaded from it; one thread, so that times mean something."""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from tests.annotators import random_weights

Photos = Callable[[int], list[np.ndarray]]  # of a side in pixels: uint8 (side, side, 3) each
LoadNetwork = Callable[..., Any]  # (network class, dtype="fp32", compile=False) → the network, with random weights


@pytest.fixture(scope="session", autouse=True)
def _one_thread() -> None:
    import torch

    torch.set_num_threads(1)
    cv2.setNumThreads(1)


@pytest.fixture(scope="module", autouse=True)
def _free() -> Iterator[None]:
    """Networks of one file, up to a gigabyte each, are not kept beside those of the next."""
    yield
    gc.collect()


@pytest.fixture(scope="session")
def photos_of_size() -> Photos:
    """Three photographs, uint8 (size, size, 3)."""
    data = pytest.importorskip("skimage.data")

    def of_size(size: int) -> list[np.ndarray]:
        pictures = (data.astronaut(), data.coffee()[:400, 100:500], data.chelsea()[:300, 60:360])
        return [cv2.resize(picture, (size, size), interpolation=cv2.INTER_AREA) for picture in pictures]

    return of_size


@pytest.fixture(scope="session")
def load_network(weights_folder: Path) -> LoadNetwork:
    """A network class, a dtype → the network with random weights."""
    from controlmill.annotators.base import Network
    from controlmill.annotators.runtime.placement import Placement

    def loaded(network: type[Network], dtype: str = "fp32", compile: bool = False) -> Network:
        random_weights.write(network, weights_folder)
        files = {file.name: weights_folder / file.name for file in network.weights}
        return network(files, Placement(dtype=dtype, compile=compile))

    return loaded
