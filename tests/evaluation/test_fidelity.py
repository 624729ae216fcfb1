"""Fidelity is measured with the annotator that made the table, where the run computes."""

from __future__ import annotations

import types
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from controlmill.annotators.base import Annotation, Annotator, Network
from controlmill.annotators.runtime.placement import Placement
from controlmill.evaluation.fidelity import FidelityMetric, make_fidelity_metric, measure_fidelity
from controlmill.evaluation.measures.measure import Measure
from controlmill.evaluation.rows import Sample
from controlmill.schemas.annotator_records import AnnotatorRecord
from controlmill.schemas.conditions import CONDITIONS
from controlmill.schemas.provenance import Provenance


class Placed(Network):
    """Remembers where it was put."""

    name = "placed"
    weights = ()

    def __init__(self, files: Mapping[str, Path], place: Placement) -> None:
        self.place = place

    def preprocess(self, image: np.ndarray) -> np.ndarray:
        return image

    def forward(self, batch: Any) -> list[Any]:
        return list(batch)


def test_pictures_are_annotated_on_the_device_of_the_run(monkeypatch: pytest.MonkeyPatch) -> None:
    annotator = types.SimpleNamespace(network=Placed)
    monkeypatch.setattr("controlmill.evaluation.fidelity.find_annotator", lambda *_: (annotator, {}))
    provenance = Provenance("canny", "binary", annotator=AnnotatorRecord("canny", "random", 1))
    metric = make_fidelity_metric(CONDITIONS["canny"], provenance, torch.device("cuda", 1))
    assert isinstance(metric, FidelityMetric)
    assert isinstance(metric.network, Placed)
    assert metric.network.place == Placement(device="cuda:1", dtype="fp32")


# what is compared: a picture's own map, and another row's


@dataclass(frozen=True)
class Dark(Annotator):
    """A pixel is in the map where it is darker than the row's threshold."""

    condition = "canny"
    variant = "dark"
    summary = "dark pixels"

    def annotate(self, image: np.ndarray, network_output: Any, drawn: Mapping[str, Any]) -> Annotation:
        return Annotation((image[..., 0] < drawn["threshold"]).astype(np.uint8) * 255)


AGREEMENT = Measure.of_score("agreement", "pixels that agree within {tolerance} px", "", lambda a, b: (a == b).mean())
DISAGREEMENT = replace(AGREEMENT, part=lambda a, b: ((a != b).mean(),), lower_is_better=True)
SIDE = 16


def rows_of(rng: np.random.Generator, count: int, dark: float) -> list[Sample]:
    """Rows whose pictures have a share of dark pixels, and thresholds of their own."""
    rows = []
    for i in range(count):
        picture = noise(rng, dark)
        columns = {"threshold": int(rng.integers(60, 200))}
        rows.append(Sample(0, (0, i), picture, {"canny": Dark().annotate(picture, None, columns).map}, "", columns))
    return rows


def noise(rng: np.random.Generator, dark: float) -> np.ndarray:
    """Pixels of every brightness, of which a share is among the darker half."""
    half = rng.integers(0, 128, (SIDE, SIDE)) + 128 * (rng.random((SIDE, SIDE)) >= dark)
    return np.repeat(half[..., None], 3, axis=2).astype(np.uint8)


@pytest.mark.parametrize("measure", [AGREEMENT, DISAGREEMENT])
@settings(max_examples=20, deadline=None)
@given(st.floats(0.05, 0.3), st.integers(0, 999))
def test_a_net_that_learns_the_kind_of_picture_and_ignores_its_map_gains_nothing(
    measure: Measure, dark: float, seed: int
) -> None:
    """A base far out of its domain draws bright pictures of dark scenes, or dark ones of bright; the net mends that."""
    rng = np.random.default_rng(seed)
    metric, samples = FidelityMetric(Dark(), None, measure), rows_of(rng, 32, dark)
    base = [noise(rng, 1 - dark) for _ in samples]
    learned = [noise(rng, dark) for _ in samples]
    true = [sample.picture for sample in samples]
    before, ceiling = (metric.mean(images, samples, "canny") for images in (base, true))
    found = measure_fidelity(metric, learned, learned, samples, "canny", before, ceiling)
    sign = -1 if measure.lower_is_better else 1
    assert sign * (found.value - found.no_control) > 0.05  # it looks as if maps were followed
    assert abs(found.gain.mean) < max(5 * found.gain.error, 0.02)
    assert abs(found.fraction) < 0.1
    followed = measure_fidelity(metric, true, learned, samples, "canny", before, ceiling)
    assert followed.gain.is_clear
    assert followed.fraction == 1
    assert sign * (followed.value - followed.blank) > 0.05


def test_a_picture_is_annotated_with_what_was_drawn_for_the_row_it_is_compared_with() -> None:
    """Else maps of other thresholds would agree less, and every net would gain."""
    rng = np.random.default_rng(0)
    metric, rows = FidelityMetric(Dark(), None, AGREEMENT), rows_of(rng, 2, 0.2)
    one = rows[0].picture
    alike = [replace(row, image=one, maps={"canny": Dark().annotate(one, None, row.columns).map}) for row in rows]
    assert rows[0].columns != rows[1].columns
    assert metric.against_others([one, one], alike, "canny").tolist() == [1.0, 1.0]


def test_one_picture_has_no_floor_and_the_measure_is_said_in_its_pixels() -> None:
    rows = rows_of(np.random.default_rng(0), 1, 0.2)
    metric = FidelityMetric(Dark(), None, AGREEMENT)
    found = measure_fidelity(metric, [rows[0].picture], [rows[0].picture], rows, "canny", 0.5, 1.0)
    assert found.value == 1
    assert np.isnan([found.floor, found.gain.mean, found.gain.error, found.fraction]).all()
    assert not found.gain.is_clear
    assert found.measure == "pixels that agree within 1 px"
