"""What says automatic prompts: BLIP, of pictures that were sampled with the default prompt (paper, section 3.5)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from controlmill.annotators.base import Annotator, Network
from controlmill.annotators.catalogue import Choice, parse_condition
from controlmill.annotators.loading import load_network, provenance
from controlmill.annotators.plan import find_weights
from controlmill.annotators.runtime.placement import Placement
from controlmill.annotators.runtime.weights import Found

from .batches import filled, parts

if TYPE_CHECKING:
    import numpy as np


@dataclass(frozen=True)
class Captioner:
    """An annotator of captions, by what is picklable: it is loaded where it works.

    Args:
        choice: of the annotator.
        weights: of its network.
        place: where that runs.
    """

    choice: Choice
    weights: tuple[Found, ...]
    place: Placement

    @classmethod
    def find(cls, folder: str | None, place: Placement) -> Captioner:
        """The one that automatic prompts are said by.

        Raises:
            MillError: its weights are not found.
        """
        choice = parse_condition("caption")
        return cls(choice, tuple(find_weights([choice], folder)), place)

    def described(self) -> dict[str, Any]:
        """As provenance says it."""
        return provenance(self.choice.build(), {found.name: found for found in self.weights}, self.place)

    def load(self, place: Placement) -> LoadedCaptioner:
        """Ready to work on ``place``.

        Raises:
            MillError: it cannot be loaded.
        """
        annotator = self.choice.build()
        assert annotator.network is not None
        network = load_network(annotator.network, {found.name: found for found in self.weights}, place)
        return LoadedCaptioner(annotator, network, place.batch_size)


@dataclass(frozen=True)
class LoadedCaptioner:
    """A captioner with its network, which is given full batches."""

    annotator: Annotator
    network: Network
    batch_size: int

    def captions(self, pictures: Sequence[np.ndarray]) -> list[str]:
        """Of pictures, uint8 (H, W, 3)."""
        found = []
        for part in parts(len(pictures), self.batch_size):
            rows = pictures[part]
            inputs = filled([self.network.preprocess(picture) for picture in rows], self.batch_size)
            for picture, raw in zip(rows, self.network.forward(inputs), strict=False):
                output = self.network.postprocess(raw, picture)
                found.append(str(self.annotator.annotate(picture, output, {}).map))
        return found
