"""Fidelity is measured with the annotator that made the table, where the run computes."""

from __future__ import annotations

import types
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from controlmill.annotators.base import Network
from controlmill.annotators.runtime.placement import Placement
from controlmill.evaluation.fidelity import FidelityMetric, make_fidelity_metric
from controlmill.schemas.conditions import CONDITIONS
from controlmill.schemas.provenance import AnnotatorRecord, Provenance


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
