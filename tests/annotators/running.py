"""Annotators run as a job runs them, and beside the reference with the same scores.

Two copies of a network differ in last bits from processor to processor, and one such bit moves a line or a peak. So
networks are held near each other, and what is made of their outputs is compared to the bit on one network's outputs.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any
from unittest import mock

import numpy as np
import torch

from controlmill.annotators.base import Annotation, Annotator, Network

NEAR = 1e-4  # of a network's largest output


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


class InPlaceOf:
    """Stands where a network stood and is called instead; anything else is asked of the network."""

    def __init__(self, network: Any, call: Callable[..., Any]) -> None:
        self._network, self._call = network, call

    def __call__(self, *inputs: Any, **options: Any) -> Any:
        return self._call(*inputs, **options)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._network, name)


Place = tuple[Any, str]  # an object and the name of its attribute that holds a network


def on_same_scores(
    run: Callable[[], Any], reference: Callable[[], Any], *pairs: tuple[Place, Place]
) -> tuple[Any, Any]:
    """What ``run`` makes of the scores that the reference's networks gave, and what ``reference`` makes of them.

    ``pairs`` say where ours stand, and where the reference's. First ours run themselves, and must be near.
    """
    with ExitStack() as stack:
        expected_scores = [stack.enter_context(recorded(*theirs)) for _, theirs in pairs]
        expected = reference()
    with ExitStack() as stack:
        own_scores = [stack.enter_context(recorded(*ours)) for ours, _ in pairs]
        run()
    assert expected_scores[0]
    assert_near(own_scores[0], expected_scores[0])  # the others see crops that depend on the first one's last bits
    with ExitStack() as stack:
        for (ours, _), scores in zip(pairs, expected_scores, strict=True):
            stack.enter_context(replayed(*ours, scores))
        return run(), expected


@contextmanager
def recorded(owner: Any, name: str) -> Iterator[list[Any]]:
    """What a network gives, call by call."""
    given: list[Any] = []
    network = getattr(owner, name)

    def call(*inputs: Any, **options: Any) -> Any:
        output = network(*inputs, **options)
        given.append(copy.deepcopy(output))
        return output

    with mock.patch.object(owner, name, InPlaceOf(network, call)):
        yield given


@contextmanager
def replayed(owner: Any, name: str, given: Sequence[Any]) -> Iterator[None]:
    """In a network's place, what was recorded, call by call."""
    call = mock.Mock(side_effect=given)
    with mock.patch.object(owner, name, InPlaceOf(getattr(owner, name), call)):
        yield
    assert call.call_count == len(given), "it was asked less often than the reference"


def assert_near(found: Any, expected: Any) -> None:
    """Tensors, or lists of them, that differ by no more than :data:`NEAR` of the largest value."""
    if isinstance(expected, torch.Tensor):
        difference = float((found - expected).abs().max() / expected.abs().max())
        print(f"networks differ by {difference:.1e}")
        assert difference <= NEAR
    elif expected is not None:
        assert len(found) == len(expected) > 0
        for one, other in zip(found, expected, strict=True):
            assert_near(one, other)
