"""``convergence.json``: what the evaluations of a run tell, and what is read back of it."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from controlmill.training.run.converged import (
    CONVERGENCE,
    Convergence,
    convergence_of,
    read_convergence,
    rise_text,
    write_convergence,
)
from controlmill.training.run.metrics import EvaluationRecord, FidelityRecord


def evaluation(step: int, gain: float, fidelity_gain: float | None) -> EvaluationRecord:
    """One whose errors are 0.02; of losses alone without a gain in fidelity."""
    floor = 0.4
    fidelity = None
    if fidelity_gain is not None:
        value = floor + fidelity_gain
        fidelity = FidelityRecord("F1", value, floor, 0.9, fidelity_gain / 0.5, fidelity_gain, 0.02, 0.25, 0.4)
    return EvaluationRecord(step, 0.5, 0.6, gain, 0.02, 0.3, 0.02, 0.3 - gain, 0.02, fidelity)


def run_of(onset: float, width: float, pictures_every: int = 100, every: int = 10) -> list[EvaluationRecord]:
    """Evaluations of 1,000 steps in which gain rises to 0.5 and fidelity by 0.4."""
    risen = {step: 1 / (1 + math.exp(-4.394 * (step - onset) / width)) for step in range(0, 1001, every)}
    return [
        evaluation(step, 0.5 * share, 0.4 * share if step % pictures_every == 0 else None)
        for step, share in risen.items()
    ]


def test_losses_between_evaluations_tell_how_fast_gain_rose() -> None:
    often = convergence_of(run_of(555, 40))
    assert often.step == 600
    assert often.rise is not None
    assert often.rise.width.low < 40 < often.rise.width.high
    seldom = convergence_of(run_of(555, 40, every=100))
    assert seldom.step == 600
    assert seldom.rise is not None
    assert seldom.rise.width.low == 0  # between two looks


def test_without_fidelity_the_rise_is_known_and_no_convergence() -> None:
    found = convergence_of([replace(record, fidelity=None) for record in run_of(555, 40)])
    assert found.step is None
    assert found.rise is not None
    assert convergence_of([]) == Convergence(None, None)


def test_a_base_out_of_its_domain_has_not_converged_where_pictures_ignore_their_maps() -> None:
    """Real photographs on a base of shapes: fidelity rises from .265 to .535, and so does what other rows' maps get."""
    steps = [0, 25, 75, 150, 210]
    gains = [0, 0, 0.001, 0.001, 0.002]
    fidelity = [0.0, 0.01, 0.035, 0.035, 0.035]
    assert convergence_of([evaluation(*each) for each in zip(steps, gains, fidelity, strict=True)]).step is None


def test_convergence_is_read_as_it_was_written(tmp_path: Path) -> None:
    assert read_convergence(tmp_path) == Convergence(None, None)
    for found in (convergence_of(run_of(555, 40)), convergence_of(run_of(990, 500)), Convergence(None, None)):
        write_convergence(tmp_path, found)
        assert read_convergence(tmp_path) == found
    text = (tmp_path / CONVERGENCE).read_text()
    assert text == '{"step": null, "rise": null}\n'
    rise = '{"onset": {"value": 1, "low": 0, "high": null}, "width": 2, "ratio": 3, "sudden": "yes"}'
    for damage in ("[]", '{"step": "3", "rise": null}', '{"step": null, "more": 1}', f'{{"rise": {rise}}}', "{"):
        (tmp_path / CONVERGENCE).write_text(damage)
        with pytest.raises(ValueError):  # noqa: PT011
            read_convergence(tmp_path)


def test_a_rise_is_said_with_its_interval() -> None:
    rise = convergence_of(run_of(555, 40)).rise
    assert rise is not None
    text = rise_text(rise)
    assert text.startswith("gain rose around step 555 from 10 % to 90 % within 3")
    assert text.endswith(": sudden")
    unknown = replace(rise, width=replace(rise.width, high=None), ratio=replace(rise.ratio, high=None))
    text = rise_text(replace(unknown, sudden="not known"))
    assert "or more steps" in text
    assert "to more of the steps before: whether that is sudden is not known" in text
    assert np.isfinite(rise.ratio.value)
