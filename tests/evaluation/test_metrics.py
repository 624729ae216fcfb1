"""Metrics between maps on cases whose answer is known."""

from __future__ import annotations

import numpy as np
import pytest

from controlmill.evaluation import metrics
from controlmill.schemas.conditions import CONDITIONS


def test_a_metrics_direction_is_right_for_the_same_and_for_other_maps() -> None:
    rng = np.random.default_rng(0)
    for name, metric in metrics.METRICS.items():
        if metric.column:
            continue
        a, b = (rng.integers(0, 2, (16, 16, 3) if name == "mean-angle" else (16, 16)).astype(np.uint8) for _ in "ab")
        a, b = (a * 255, b * 255) if name != "miou" else (a, b)
        same, other = metric.score(a, a), metric.score(np.zeros_like(a) if name == "stroke-recall" else b, a)
        assert same < other if metric.lower_is_better else same > other, name


def test_edges_a_pixel_off_are_forgiven_only_with_tolerance() -> None:
    edges = np.zeros((512, 512), np.uint8)
    edges[100:400, 100] = 255
    moved = np.roll(edges, 2, axis=1)
    assert metrics.edge_f1(edges, edges) == metrics.tolerant_f1(edges, moved) == 1.0
    assert metrics.edge_f1(edges, moved) == 0.0
    assert metrics.tolerant_f1(edges, np.roll(edges, 3, axis=1)) == 0.0
    assert metrics.edge_f1(edges * 0, edges * 0) == 1.0
    assert metrics.edge_f1(edges, edges * 0) == 0.0


def test_strokes_may_be_more_but_not_fewer() -> None:
    strokes = np.zeros((64, 64), np.uint8)
    strokes[10, 10:50] = 255
    more = strokes.copy()
    more[40] = 255
    assert metrics.stroke_recall(more, strokes) == 1.0
    assert metrics.stroke_recall(strokes * 0, strokes) == 0.0


def test_ssim_is_that_of_torchmetrics() -> None:
    torch = pytest.importorskip("torch")
    functional = pytest.importorskip("torchmetrics.functional.image")
    rng = np.random.default_rng(0)
    a = rng.integers(0, 256, (64, 64)).astype(np.uint8)
    b = (0.7 * a + 0.3 * rng.integers(0, 256, (64, 64))).astype(np.uint8)
    tensors = [torch.from_numpy(x.astype(np.float64))[None, None] for x in (a, b)]
    expected = float(functional.structural_similarity_index_measure(*tensors, data_range=255.0))
    assert metrics.ssim(a, b) == pytest.approx(expected, abs=0.01)
    assert metrics.ssim(a, a) == pytest.approx(1)


def test_the_other_metrics_on_known_cases() -> None:
    labels = np.repeat(np.array([[0, 0, 1, 1]], np.uint8), 4, axis=0)
    assert metrics.miou(labels, labels) == 1.0
    assert metrics.miou(labels * 0, labels) == pytest.approx(0.25)
    assert metrics.miou(labels + 1, labels) == pytest.approx((0 + 0) / 2)
    void = np.full_like(labels, 255)
    half = np.where(np.arange(labels.shape[1]) % 2, labels, void)
    assert metrics.miou(labels, half) == 1.0, "void is no class, and what was found there counts for nothing"
    assert metrics.miou(labels, void) == 1.0
    assert metrics.miou(labels[:, ::-1] * 7, labels) == 0.0  # labels that are not in the true map count for nothing
    depth = np.arange(16, dtype=np.uint16).reshape(4, 4)
    assert metrics.rmse(depth * 3 + 7, depth) == pytest.approx(0)  # relative depth has no scale and no zero
    assert metrics.rmse(depth * 0, depth) == pytest.approx(255 * np.sqrt(np.mean(np.linspace(0, 1, 16) ** 2)))
    assert metrics.rmse(depth[::-1, ::-1], depth) > metrics.rmse(depth * 0, depth)
    up, right = np.zeros((2, 2, 3), np.uint8) + 127, np.zeros((2, 2, 3), np.uint8) + 127
    up[..., 2], right[..., 0] = 255, 255
    assert metrics.mean_angle(up, right) == pytest.approx(90, abs=1)
    assert metrics.mean_angle(up, up) == pytest.approx(0, abs=0.1)
    half = np.concatenate([up, right])
    assert metrics.mean_angle(half, np.concatenate([up, up])) == pytest.approx(45, abs=1)


def test_every_fidelity_has_a_metric() -> None:
    assert [c.name for c in CONDITIONS.values() if c.fidelity and metrics.metric_of(c) is None] == []
    assert [c.name for c in CONDITIONS.values() if not c.fidelity] == ["caption"]
