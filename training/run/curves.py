"""``curves.png`` of a run."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from controlmill.evaluation.plots import axes, save_figure

from .metrics import EvaluationRecord, Record, StepRecord, of_kind

SMOOTHED = 50  # points of the curve of training losses


def draw_curves(records: Sequence[Record], path: Path) -> None:
    """Loss, gain and benefit, and fidelity of one run."""
    steps, evaluations = of_kind(records, StepRecord), of_kind(records, EvaluationRecord)
    figure, (loss, gain, fidelity) = axes(("loss", "condition gain and benefit", "fidelity"))
    if steps:
        width = max(1, len(steps) // SMOOTHED)
        smooth = np.convolve([record.loss for record in steps], np.ones(width) / width, mode="valid")
        loss.plot([record.step for record in steps[width - 1 :]], smooth, lw=1, label="training, smoothed")
    at = np.array([record.step for record in evaluations])
    loss.plot(at, [record.held_out_loss for record in evaluations], "o-", ms=3, label="held out")
    loss.plot(at, [record.base_loss for record in evaluations], "--", color="grey", label="base alone")
    loss.legend(fontsize=7)
    for name in ("gain", "benefit"):
        values = np.array([getattr(record, name) for record in evaluations])
        errors = np.array([getattr(record, f"{name}_error") for record in evaluations])
        gain.plot(at, values, "o-", ms=3, label=name)
        gain.fill_between(at, values - errors, values + errors, alpha=0.2)
    gain.axhline(0, color="grey", lw=0.8)
    gain.legend(fontsize=7)
    measured = [(record.step, record.fidelity) for record in evaluations if record.fidelity]
    if measured:
        fidelity.plot([step for step, _ in measured], [found.value for _, found in measured], "o-", ms=3)
        last = measured[-1][1]
        fidelity.axhline(last.floor, color="grey", ls="--", lw=1, label="floor: no control")
        fidelity.axhline(last.ceiling, color="green", ls="--", lw=1, label="ceiling: true picture through the VAE")
        fidelity.legend(fontsize=7)
    else:
        fidelity.text(0.5, 0.5, "not measured", ha="center", transform=fidelity.transAxes)
    save_figure(figure, path)
