"""IoU of labels: that of torchmetrics' confusion matrix over a set; per picture the classes that are asked for."""

from __future__ import annotations

import numpy as np
import pytest

from controlmill.evaluation.measures.labels import areas, miou, miou_of_areas

CLASSES = 7


def maps(seed: int, void: bool = False) -> np.ndarray:
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 1 + seed % CLASSES, (24, 24)).astype(np.uint8)
    return np.where(rng.random(labels.shape) < 0.2, 255, labels) if void else labels


def test_miou_of_a_set_is_one_confusion_matrix_of_torchmetrics() -> None:
    torch = pytest.importorskip("torch")
    functional = pytest.importorskip("torchmetrics.functional.classification")
    found, true = [maps(i) for i in (3, 9, 4)], [maps(i, void=True) for i in (10, 11, 12)]
    tensors = [torch.from_numpy(np.stack(arrays).astype(np.int64)) for arrays in (found, true)]
    iou = functional.multiclass_jaccard_index(*tensors, CLASSES, average="none", ignore_index=255).numpy()
    present = [c for c in range(CLASSES) if any((array == c).any() for array in (*true, *found))]
    parts = [areas(*pair) for pair in zip(found, true, strict=True)]
    assert miou_of_areas(parts) == pytest.approx(iou[present].mean(), abs=1e-6)
    assert miou_of_areas(parts) != pytest.approx(np.mean([miou_of_areas([part]) for part in parts]), abs=1e-3)


def test_miou_of_a_picture_is_that_of_torchmetrics_over_the_true_classes() -> None:
    torch = pytest.importorskip("torch")
    functional = pytest.importorskip("torchmetrics.functional.classification")
    found, true = maps(9), maps(11, void=True)
    tensors = [torch.from_numpy(array.astype(np.int64)) for array in (found, true)]
    iou = functional.multiclass_jaccard_index(*tensors, CLASSES, average="none", ignore_index=255).numpy()
    asked = [c for c in np.unique(true) if c != 255]
    assert len(asked) < CLASSES
    assert miou(found, true) == pytest.approx(iou[asked].mean(), abs=1e-6)


def test_a_class_found_where_none_is_counts_over_a_set_and_not_in_a_picture() -> None:
    true = np.zeros((4, 4), np.uint8)
    found = true.copy()
    found[0] = 3
    assert miou(found, true) == 0.75
    assert miou_of_areas([areas(found, true)]) == 0.75 / 2


def test_void_is_no_class_and_what_was_found_there_counts_for_nothing() -> None:
    labels = np.repeat(np.array([[0, 0, 1, 1]], np.uint8), 4, axis=0)
    void = np.full_like(labels, 255)
    half = np.where(np.arange(4) % 2, labels, void)
    assert miou(labels, half) == miou_of_areas([areas(labels, half)]) == 1.0
    assert np.isnan([miou(labels, void), miou_of_areas([areas(labels, void)])]).all()
    assert miou(void, labels) == 0.0, "a judge may find nothing"


def test_known_cases() -> None:
    labels = np.repeat(np.array([[0, 0, 1, 1]], np.uint8), 4, axis=0)
    assert miou(labels, labels) == 1.0
    assert miou(labels * 0, labels) == pytest.approx(0.25)
    assert miou(labels + 1, labels) == 0.0
    assert miou(labels[:, ::-1] * 7, labels) == 0.0
