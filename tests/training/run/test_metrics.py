"""Lines of a run's log: typed records, JSON also where numbers are none, and damage that is named."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import pytest

from controlmill.schemas.errors import MillError
from controlmill.training.run.metrics import (
    METRICS,
    EvaluationRecord,
    FailedEvaluation,
    FidelityRecord,
    StepRecord,
    each_record,
    evaluations,
    line_of,
    read_metrics,
    scalars,
)

STEP = StepRecord(1, 0.5, 1.5, 1e-5, 0.25)
FIDELITY = FidelityRecord("F1 within 1 px", 0.5, 0.25, 0.75, 0.5, 0.25, 0.02, 0.3, 0.4, {"F1 exact": 0.125})
EVALUATION = EvaluationRecord(1, 0.5, 0.6, 0.1, 0.01, 0.2, 0.02, 0.1, 0.03, FIDELITY)


def test_records_are_read_as_they_were_written(tmp_path: Path) -> None:
    records = [STEP, EVALUATION, replace(EVALUATION, fidelity=None), FailedEvaluation(2, "why")]
    (tmp_path / METRICS).write_text("".join(map(line_of, records)))
    assert read_metrics(tmp_path) == records
    assert evaluations(tmp_path) == records[1:3]


def test_lines_are_json_also_where_numbers_are_none(tmp_path: Path) -> None:
    lines = line_of(replace(STEP, norm=math.inf))
    lines += line_of(replace(EVALUATION, fidelity=replace(FIDELITY, fraction=math.nan)))
    (tmp_path / METRICS).write_text(lines)
    assert lines.splitlines()[0] == '{"step": 1, "loss": 0.5, "norm": null, "rate": 1e-05, "seconds": 0.25}'
    assert "NaN" not in lines
    assert "Infinity" not in lines
    step, evaluation = read_metrics(tmp_path)
    assert isinstance(step, StepRecord)
    assert math.isnan(step.norm)
    assert isinstance(evaluation, EvaluationRecord)
    assert evaluation.fidelity is not None
    assert math.isnan(evaluation.fidelity.fraction)
    assert evaluation.fidelity.value == 0.5


def test_curves_are_named_by_what_was_measured() -> None:
    assert scalars(STEP) == {"loss": 0.5, "norm": 1.5, "rate": 1e-5, "seconds": 0.25}
    assert scalars(EVALUATION) == {
        "held_out_loss": 0.5,
        "base_loss": 0.6,
        "gain": 0.1,
        "gain_error": 0.01,
        "benefit": 0.2,
        "benefit_error": 0.02,
        "deranged_benefit": 0.1,
        "deranged_benefit_error": 0.03,
        "fidelity": 0.5,
        "fidelity_gain": 0.25,
        "fidelity_gain_error": 0.02,
        "floor": 0.25,
        "no_control": 0.3,
        "blank": 0.4,
        "ceiling": 0.75,
        "fraction": 0.5,
        "F1_exact": 0.125,
    }
    assert scalars(FailedEvaluation(2, "why")) == {}


@pytest.mark.parametrize(
    "line",
    [
        b"[1]",
        b"{}",
        b"\xff\xfe",
        b"[" * 100_000,
        b'{"step": 1, "loss": []}',
        b'{"step": 1, "gain": 1}',
        b'{"step": 1, "loss": 1e999, "norm": 1, "rate": 1, "seconds": 1}',
        b'{"step": 1, "loss": 1' + b"0" * 400 + b', "norm": 1, "rate": 1, "seconds": 1}',
        b'{"step": true, "loss": 1, "norm": 1, "rate": 1, "seconds": 1}',
        b'{"step": 1, "loss": 1, "norm": 1, "rate": 1, "seconds": 1, "more": 1}',
        b'{"step": 1, "evaluation_failed": 1}',
    ],
)
def test_a_line_that_is_no_record_is_named(line: bytes, tmp_path: Path) -> None:
    log, good = tmp_path / METRICS, line_of(STEP).encode()
    log.write_bytes(good + line + b"\n" + good)
    with pytest.raises(MillError, match=rf"{log}, line 2: no line of a run's log") as found:
        read_metrics(tmp_path)
    assert "\n" not in str(found.value)
    assert len(str(found.value)) < 1_000


def test_evaluations_are_found_without_reading_what_each_step_says(tmp_path: Path) -> None:
    failed = FailedEvaluation(1, 'a "loss"')
    (tmp_path / METRICS).write_text('{"loss": []}\n' + line_of(EVALUATION) + line_of(failed))
    assert evaluations(tmp_path) == [EVALUATION]
    assert list(each_record(tmp_path, steps=False)) == [EVALUATION, failed]


@pytest.mark.parametrize("end", [12, -3, -2])
def test_a_last_line_that_was_cut_off_is_left_out(end: int, tmp_path: Path) -> None:
    line = line_of(EVALUATION).encode()
    (tmp_path / METRICS).write_bytes(line_of(STEP).encode() + line[:end])
    assert read_metrics(tmp_path) == [STEP]
