"""Fidelity: sampled pictures are annotated again, with the table's own variant and each row's own drawn parameters."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from controlmill.annotators.base import Annotator
from controlmill.annotators.catalogue import annotator_class
from controlmill.annotators.runtime.weights import find
from controlmill.schemas.annotator_records import AnnotatorRecord
from controlmill.schemas.conditions import Condition
from controlmill.schemas.errors import MillError, error_text
from controlmill.schemas.provenance import Provenance

from .annotating import PictureAnnotator, load_network
from .convergence import Estimate, fraction, other_rows
from .measures.catalogue import beside, measures_of
from .measures.measure import Measure
from .rows import Sample


@dataclass(frozen=True)
class FidelityMetric(PictureAnnotator):
    """Annotates pictures as the table's annotator did, and compares."""

    measure: Measure

    def pair(self, image: np.ndarray, sample: Sample, condition: str) -> tuple[Any, Any]:
        """(found, true) as the measure compares them: maps, or mappings of the map and the columns beside it."""
        made = self.annotation(image, sample.columns)
        if not self.measure.columns:
            return made.map, sample.maps[condition]
        return {"map": made.map, **made.columns}, {"map": sample.maps[condition], **sample.columns}

    def scores(
        self, images: Sequence[np.ndarray], samples: Sequence[Sample], condition: str
    ) -> tuple[np.ndarray, dict[str, float]]:
        """The measure of each picture against the map of a sample, with what was drawn for that sample.

        Returns:
            float64 (N,), NaN where the measure has no value; and the means of the measures reported beside, by title.
        """
        pairs = [self.pair(image, sample, condition) for image, sample in zip(images, samples, strict=True)]
        size = samples[0].picture.shape[:2]
        return np.array([self.measure.score(*pair) for pair in pairs], float), {
            other.label(*size): other.of_set({i: [other.part(*pair)] for i, pair in enumerate(pairs)})
            for other in beside(self.measure)
        }

    def mean(self, images: Sequence[np.ndarray], samples: Sequence[Sample], condition: str) -> float:
        """Of the scores of pictures; NaN where none has one."""
        return Estimate.of(self.scores(images, samples, condition)[0]).mean

    def against_others(self, images: Sequence[np.ndarray], samples: Sequence[Sample], condition: str) -> np.ndarray:
        """Scores of pictures against the maps of other rows, float64 (N,); NaN of one picture alone.

        A picture that has nothing to do with its own map scores on average the same here, because it is annotated with
        what was drawn for the other row (thresholds, say).
        """
        if len(samples) < 2:
            return np.full(len(samples), np.nan)
        return self.scores(images, [samples[i] for i in other_rows(len(samples))], condition)[0]


@dataclass(frozen=True)
class Fidelity:
    """How well sampled pictures follow their maps: means over pictures.

    ``measure`` is its title, with pixels of these pictures. ``floor`` is what the same pictures have by chance: each is
    annotated again with what was drawn for another row, and compared with that row's map. ``gain`` is how much better
    ``value`` is than ``floor``, paired by picture, above zero also where a lower measure is better. ``no_control`` is
    of pictures without a ControlNet, ``blank`` of pictures sampled with black maps, both against rows' own maps.
    ``ceiling`` is of the true pictures through the VAE; ``fraction`` is 0 at the floor and 1 there, NaN where that is
    not better than the floor. ``others`` are the measures reported beside, by title. Of one picture there is no floor.
    """

    measure: str
    value: float
    floor: float
    ceiling: float
    fraction: float
    gain: Estimate
    no_control: float
    blank: float
    others: Mapping[str, float] = field(default_factory=dict)


def measure_fidelity(
    metric: FidelityMetric,
    pictures: Sequence[np.ndarray],
    blank: Sequence[np.ndarray],
    samples: Sequence[Sample],
    condition: str,
    no_control: float,
    ceiling: float,
) -> Fidelity:
    """Of pictures that were sampled for samples, with their maps and with black ones."""
    lower = metric.measure.lower_is_better
    own, beside = metric.scores(pictures, samples, condition)
    others = metric.against_others(pictures, samples, condition)
    value, floor = Estimate.of(own).mean, Estimate.of(others).mean
    return Fidelity(
        metric.measure.label(*pictures[0].shape[:2]),
        value,
        floor,
        ceiling,
        fraction(value, floor, ceiling, lower),
        Estimate.of(others - own if lower else own - others),
        no_control,
        metric.mean(blank, samples, condition),
        beside,
    )


def find_annotator(
    condition: Condition, provenance: Provenance, folder: str = ""
) -> tuple[Annotator, dict[str, Path]] | str:
    """The annotator that made a table, with its weights' files, or why it is not here. Nothing is loaded.

    ``folder`` is looked for weights in first, where one is given.
    """
    made = provenance.made_by
    if made.is_imported:
        return f"{condition.name} is imported"
    kind = annotator_class(condition.name, made.variant)
    if kind is None:
        return f"no annotator here makes {condition.name}={made.variant}"
    if kind.version != made.version:
        return f"the table was made by version {made.version} of its annotator, this is {kind.version}"
    try:
        annotator = kind(**(made.params or {}))
    except (TypeError, ValueError) as error:
        return f"the table's settings are none of {condition.name}={made.variant} ({error_text(error)})"
    files = _weights(annotator, made, folder)
    return files if isinstance(files, str) else (annotator, files)


def make_fidelity_metric(
    condition: Condition, provenance: Provenance, device: Any = "cpu", folder: str = ""
) -> FidelityMetric | str:
    """The fidelity metric of a table, its network loaded onto ``device`` in fp32, or why there is none.

    ``folder`` is looked for weights in first, where one is given.
    """
    found, measures = find_annotator(condition, provenance, folder), measures_of(condition)
    if isinstance(found, str):
        return found
    if not measures:
        return f"{condition.name} has no metric of fidelity"
    annotator, files = found
    return FidelityMetric(annotator, load_network(annotator, files, str(device)), measures[0])


def _weights(annotator: Annotator, made: AnnotatorRecord, folder: str) -> dict[str, Path] | str:
    """The files of an annotator's network by name, the same as made the table; or what is not here."""
    if annotator.network is None:
        return {}
    try:
        found, _ = find(annotator.network.weights, folder or None, download=False)
    except MillError as error:
        return str(error)
    digests = {file.name: file.sha256 for file in found}
    for file in made.network.weights if made.network else ():
        if digests.get(file.name) != file.sha256:
            return f"the weights {file.name} that made the table are not here (--weights FOLDER)"
    return {file.name: Path(file.path) for file in found}


def stored_columns(condition: Condition, provenance: Provenance) -> tuple[str, ...]:
    """Columns that the table's annotator stored beside the maps: what was drawn for each row, and what was measured."""
    kind = annotator_class(condition.name, provenance.made_by.variant)
    return tuple(kind.columns) if kind else ()
