"""``curves.png`` of a run."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from controlmill.evaluation.plots import axes, save_figure
from controlmill.evaluation.rise import Rise

from .converged import Convergence
from .metrics import EvaluationRecord

LABELS = {"gain": "gain", "benefit": "benefit", "deranged_benefit": "benefit of other rows' maps"}
SMOOTHED = 50  # points of the curve of training losses


def draw_curves(
    steps: Sequence[int],
    losses: Sequence[float],
    evaluations: Sequence[EvaluationRecord],
    convergence: Convergence,
    path: Path,
) -> None:
    """Loss, gain and benefit, and fidelity of one run; the rise of the gain is marked.

    ``losses`` are of the training ``steps``; the means of about ``SMOOTHED`` equal parts of them are drawn.
    """
    figure, (loss, gain, fidelity) = axes(("loss", "condition gain and benefit", "fidelity"))
    if steps:
        width = max(1, len(steps) // SMOOTHED)
        means = np.asarray(losses)[len(steps) % width :].reshape(-1, width).mean(axis=1)
        loss.plot(steps[len(steps) % width + width - 1 :: width], means, lw=1, label="training, smoothed")
    at = np.array([record.step for record in evaluations])
    loss.plot(at, [record.held_out_loss for record in evaluations], "o-", ms=3, label="held out")
    loss.plot(at, [record.base_loss for record in evaluations], "--", color="grey", label="base alone")
    loss.legend(fontsize=7)
    for name in ("gain", "benefit", "deranged_benefit"):
        values = np.array([getattr(record, name) for record in evaluations])
        errors = np.array([getattr(record, f"{name}_error") for record in evaluations])
        gain.plot(at, values, "o-", ms=3, label=LABELS[name])
        gain.fill_between(at, values - errors, values + errors, alpha=0.2)
    gain.axhline(0, color="grey", lw=0.8)
    if convergence.rise:
        _mark(gain, convergence.rise, int(at.max()))
    gain.legend(fontsize=7)
    measured = [(record.step, record.fidelity) for record in evaluations if record.fidelity]
    if measured:
        at, found = np.array([step for step, _ in measured]), [each for _, each in measured]
        fidelity.set_ylabel(found[-1].measure, fontsize=8)
        fidelity.plot(at, [each.value for each in found], "o-", ms=3, label="own map")
        fidelity.plot(at, [each.floor for each in found], "o-", ms=2, label="floor: another row's map")
        fidelity.plot(at, [each.blank for each in found], ":", label="sampled with a blank map")
        fidelity.axhline(found[-1].no_control, color="grey", ls="--", lw=1, label="no control")
        fidelity.axhline(found[-1].ceiling, color="green", ls="--", lw=1, label="ceiling: true picture through the VAE")
        fidelity.legend(fontsize=6)
    else:
        fidelity.text(0.5, 0.5, "not measured", ha="center", transform=fidelity.transAxes)
    save_figure(figure, path)


def _mark(axis: Any, rise: Rise, last: int) -> None:
    """The onset, and the steps from 10 % to 90 %, of the fitted curve."""
    half = rise.width.value / 2
    axis.axvline(rise.onset.value, color="grey", ls=":", lw=1, label=f"onset {rise.onset.value:.0f}")
    axis.axvspan(max(0, rise.onset.value - half), min(last, rise.onset.value + half), color="grey", alpha=0.15)
