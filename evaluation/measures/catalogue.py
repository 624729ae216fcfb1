"""The measures there are, by name; which of them compare a condition's maps."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from controlmill.schemas.conditions import Condition

from .depth import abs_rel, rmse, rmse_by_maximum
from .edges import counts, f1, f1_of_counts, f1_within, stroke_recall
from .keypoints import pck
from .labels import areas, miou, miou_of_areas
from .measure import Measure, Part
from .normals import mean_angle, median_angle
from .oks import average_precision, matches
from .similarity import LEAST_SIDE, ms_ssim, ms_ssim_uint8, ssim


def _pck(found: Mapping[str, Any], true: Mapping[str, Any]) -> float:
    return pck(found["keypoints"], true["keypoints"])


def _matches(found: Mapping[str, Any], true: Mapping[str, Any]) -> Part:
    return matches(found["keypoints"], found.get("scores"), true["keypoints"])


def _rmse_by_maximum(found: Mapping[str, Any], true: Mapping[str, Any]) -> float:
    return rmse_by_maximum(found["map"], true["map"], found["raw_min"], found["raw_max"])


MEASURES: dict[str, Measure] = {
    measure.name: measure
    for measure in (
        Measure.of_score("f1_within", "F1 within {tolerance} px", "edge-f1", f1_within),
        Measure.of_score("f1", "F1 exact", "edge-f1", f1),
        Measure("f1_of_row", "F1 exact, a row's pictures pooled", "edge-f1", counts, f1_of_counts, only_named=True),
        Measure.of_score("stroke_recall", "recall of strokes within {tolerance} px", "stroke-recall", stroke_recall),
        Measure.of_score("ssim", "SSIM", "ssim", ssim),
        Measure.of_score("ms_ssim", "MS-SSIM", "ssim", ms_ssim, least_side=LEAST_SIDE),
        Measure.of_score(
            "ms_ssim_uint8",
            "MS-SSIM, found lines inverted in 8 bits",
            "ssim",
            ms_ssim_uint8,
            least_side=LEAST_SIDE,
            only_named=True,
        ),
        Measure.of_score("miou", "mIoU per picture", "miou", miou),
        Measure("miou_of_set", "mIoU of the set", "miou", areas, miou_of_areas, over="set"),
        Measure.of_score("rmse", "RMSE of depth, 0 to 255", "rmse", rmse, lower_is_better=True),
        Measure.of_score(
            "rmse_by_maximum",
            "RMSE of depth, found map by its maximum",
            "rmse",
            _rmse_by_maximum,
            columns=("raw_min", "raw_max"),
            lower_is_better=True,
            only_named=True,
        ),
        Measure.of_score("abs_rel", "AbsRel of depth", "rmse", abs_rel, lower_is_better=True),
        Measure.of_score("mean_angle", "mean angle, degrees", "mean-angle", mean_angle, lower_is_better=True),
        Measure.of_score("median_angle", "median angle, degrees", "mean-angle", median_angle, lower_is_better=True),
        Measure.of_score("pck", "PCK within 0.1 of the person's box", "pck", _pck, columns=("keypoints",)),
        Measure("oks_ap", "OKS AP", "pck", _matches, average_precision, over="set", columns=("keypoints", "scores")),
    )
}
BESIDE = {"f1_within": ("f1",)}  # reported beside a condition's first measure while a ControlNet is trained


def measures_of(condition: Condition) -> tuple[Measure, ...]:
    """The measures of a condition's maps, the first the one that training reports; none of imported kinds of map."""
    return tuple(
        measure
        for measure in MEASURES.values()
        if condition.fidelity and measure.fidelity == condition.fidelity and not measure.only_named
    )


def beside(measure: Measure) -> tuple[Measure, ...]:
    """The measures that training reports beside another."""
    return tuple(MEASURES[name] for name in BESIDE.get(measure.name, ()))
