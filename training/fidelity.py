"""Fidelity: sampled pictures are annotated again, with the table's own variant and each row's own drawn parameters."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ..annotators.base import Annotator, Network, Placement
from ..annotators.catalogue import load_class, variants_of
from ..annotators.weights import find
from ..schemas.conditions import Condition
from ..schemas.errors import MillError
from .loader import Sample
from .metrics import Measure, measure_of


@dataclass(frozen=True)
class Judge:
    """Annotates pictures as the table's annotator did, and compares."""

    annotator: Annotator
    network: Network | None
    measure: Measure

    def map_of(self, image: np.ndarray, sample: Sample) -> np.ndarray:
        """The map of a picture, uint8 (H, W, 3), with the parameters that were drawn for the sample's row."""
        output = None
        if self.network:
            raw = self.network.forward([self.network.preprocess(image)])[0]
            output = self.network.postprocess(raw, image)
        found = self.annotator.annotate(image, output, sample.columns).map
        assert isinstance(found, np.ndarray)
        return found

    def scores(self, images: Sequence[np.ndarray], samples: Sequence[Sample], condition: str) -> np.ndarray:
        """The measure for each picture, float (N,)."""
        pairs = zip(images, samples, strict=True)
        return np.array([self.measure.score(self.map_of(image, s), s.maps[condition]) for image, s in pairs])


def make_judge(condition: Condition, provenance: dict[str, Any]) -> Judge | str:
    """The judge of a table, or why there is none."""
    said = provenance["annotator"]
    measure = measure_of(condition)
    if said["variant"] == "imported" or measure is None:
        return f"{condition.name} is {'imported' if said['variant'] == 'imported' else 'not measured from maps'}"
    for variant in variants_of(condition.name):
        kind = load_class(variant.target) if variant.target else None
        if kind is not None and kind.variant == said["variant"]:
            if kind.version != said["version"]:
                return f"the table was made by version {said['version']} of its annotator, this is {kind.version}"
            return _with_network(kind(**said.get("params", {})), said, measure)
    return f"no annotator here makes {condition.name}={said['variant']}"


def _with_network(annotator: Annotator, said: dict[str, Any], measure: Measure) -> Judge | str:
    if annotator.network is None:
        return Judge(annotator, None, measure)
    try:
        found, _ = find(annotator.network.weights, None, download=False)
    except MillError as error:
        return str(error)
    digests = {file.name: file.sha256 for file in found}
    for file in said["network"]["weights"]:
        if digests.get(file["name"]) != file["sha256"]:
            return f"the weights {file['name']} that made the table are not here"
    network = annotator.network({file.name: Path(file.path) for file in found}, Placement())
    return Judge(annotator, network, measure)


def drawn_columns(condition: Condition, provenance: dict[str, Any]) -> tuple[str, ...]:
    """Columns of the table that hold what was drawn for each row."""
    judge_class = next(
        (
            load_class(variant.target)
            for variant in variants_of(condition.name)
            if variant.target and load_class(variant.target).variant == provenance["annotator"]["variant"]
        ),
        None,
    )
    return tuple(judge_class.columns) if judge_class else ()
