"""Annotators run as a job runs them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from controlmill.annotators.base import Annotation, Annotator, Network


def outputs(network: Network, images: Sequence[np.ndarray], batch: int = 1) -> list[Any]:
    """Of every image, in full batches: a short last one is padded with its own last image."""
    inputs = [network.preprocess(image) for image in images]
    found: list[Any] = []
    for first in range(0, len(inputs), batch):
        some = inputs[first : first + batch]
        found += network.forward(some + some[-1:] * (batch - len(some)))[: len(some)]
    return [network.postprocess(raw, image) for raw, image in zip(found, images, strict=True)]


def annotate(
    annotator: Annotator, network: Network | None, images: Sequence[np.ndarray], batch: int = 1, seed: int = 0
) -> list[Annotation]:
    """The annotation of every image."""
    given = outputs(network, images, batch) if network else [None] * len(images)
    rng = np.random.default_rng(seed)
    return [annotator.annotate(image, out, annotator.draw(rng)) for image, out in zip(images, given, strict=True)]
