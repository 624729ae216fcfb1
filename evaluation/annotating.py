"""An annotator with its network, for single pictures."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from controlmill.annotators.base import Annotation, Annotator, Network
from controlmill.annotators.runtime.placement import Placement


@dataclass(frozen=True)
class PictureAnnotator:
    """Annotates a picture at a time."""

    annotator: Annotator
    network: Network | None

    def annotation(self, image: np.ndarray, drawn: Mapping[str, Any]) -> Annotation:
        """What the annotator makes of a picture, uint8 (H, W, 3), with the parameters that were drawn for a row."""
        output = None
        if self.network:
            raw = self.network.forward([self.network.preprocess(image)])[0]
            output = self.network.postprocess(raw, image)
        return self.annotator.annotate(image, output, drawn)

    def map_of(self, image: np.ndarray, drawn: Mapping[str, Any]) -> np.ndarray:
        """The map of a picture."""
        found = self.annotation(image, drawn).map
        assert isinstance(found, np.ndarray)
        return found


def load_network(annotator: Annotator, files: Mapping[str, Path], device: str) -> Network | None:
    """An annotator's network in fp32, from its weights' files by name; None where it has none."""
    return annotator.network(files, Placement(device)) if annotator.network else None
