"""F1 and recall of edges: those of torchmetrics, and what the tolerance forgives."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import ndimage

from controlmill.evaluation.measures.edges import counts, f1, f1_of_counts, f1_within, stroke_recall


def edges(seed: int, share: float = 0.2) -> np.ndarray:
    return (np.random.default_rng(seed).random((48, 64)) < share).astype(np.uint8) * 255


def disc(pixels: int) -> np.ndarray:
    y, x = np.mgrid[-pixels : pixels + 1, -pixels : pixels + 1]
    return np.asarray(x**2 + y**2 <= pixels**2)


def test_exact_f1_is_that_of_torchmetrics_alone_and_pooled() -> None:
    torch = pytest.importorskip("torch")
    functional = pytest.importorskip("torchmetrics.functional.classification")
    found, true = [edges(i) for i in range(4)], [edges(9) for _ in range(4)]
    tensors = [torch.from_numpy(np.stack(maps)) // 255 for maps in (found, true)]
    assert f1(found[0], true[0]) == pytest.approx(float(functional.binary_f1_score(tensors[0][0], tensors[1][0])))
    pooled = f1_of_counts([counts(*pair) for pair in zip(found, true, strict=True)])
    assert pooled == pytest.approx(float(functional.binary_f1_score(*tensors)))
    assert pooled != pytest.approx(np.mean([f1(*pair) for pair in zip(found, true, strict=True)]), abs=1e-6)


@pytest.mark.parametrize("pixels", [1, 2])
def test_f1_within_a_tolerance_is_that_of_maps_grown_by_scipy(pixels: int) -> None:
    found, true = edges(0, 0.02), edges(1, 0.02)
    grown = [ndimage.binary_dilation(a > 0, disc(pixels)) for a in (found, true)]
    precision, recall = grown[1][found > 0].mean(), grown[0][true > 0].mean()
    assert f1_within(found, true, pixels) == pytest.approx(2 * precision * recall / (precision + recall))


def test_stroke_recall_is_torchmetrics_recall_of_what_is_near() -> None:
    torch = pytest.importorskip("torch")
    functional = pytest.importorskip("torchmetrics.functional.classification")
    found, true = edges(0, 0.05), edges(1)
    reach = torch.from_numpy(ndimage.binary_dilation(found > 0, disc(1)))
    assert stroke_recall(found, true) == pytest.approx(
        float(functional.binary_recall(reach, torch.from_numpy(true) > 0))
    )


@pytest.mark.parametrize(("side", "pixels"), [(512, 2), (64, 1), (1024, 4)])
def test_edges_that_are_off_are_forgiven_up_to_the_tolerance_of_the_maps_size(side: int, pixels: int) -> None:
    line = np.zeros((side, side), np.uint8)
    line[10:50, 20] = 255
    assert f1_within(np.roll(line, pixels, axis=1), line) == 1.0
    assert f1_within(np.roll(line, pixels + 1, axis=1), line) == 0.0
    assert f1(np.roll(line, 1, axis=1), line) == 0.0


@pytest.mark.parametrize("score", [f1, f1_within])
def test_maps_without_edges_agree_with_each_other_alone(score: object) -> None:
    assert callable(score)
    some = edges(0)
    assert score(some * 0, some * 0) == 1.0
    assert score(some, some * 0) == score(some * 0, some) == 0.0


def test_strokes_may_be_more_but_not_fewer() -> None:
    strokes = np.zeros((64, 64), np.uint8)
    strokes[10, 10:50] = 255
    more = strokes.copy()
    more[40] = 255
    assert stroke_recall(more, strokes) == 1.0
    assert stroke_recall(strokes * 0, strokes) == 0.0
    assert np.isnan(stroke_recall(strokes, strokes * 0)), "nothing is asked for"
