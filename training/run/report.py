"""What an evaluation writes to the run's folder: its numbers, sampled pictures, curves, convergence, the model card."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path

from controlmill.evaluation import plots
from controlmill.evaluation.convergence import Convergence, find_convergence
from controlmill.evaluation.evaluate import Baseline, EvaluationSamples, Measurements
from controlmill.schemas.conditions import Condition
from controlmill.schemas.files.documents import FORBID, read_as
from controlmill.schemas.files.whole import write_whole
from controlmill.schemas.maps.transforms import control_picture

from . import card
from .card import SAMPLES
from .curves import draw_curves
from .log import RunLog
from .metrics import EvaluationRecord, FidelityRecord, of_kind, read_metrics

CONVERGENCE = "convergence.json"


@dataclass(frozen=True)
class ConvergenceRecord:
    """``convergence.json``: null where the run has not converged."""

    __pydantic_config__ = FORBID

    converged: Convergence | None


def write_evaluation(
    run: Path,
    log: RunLog,
    step: int,
    condition: Condition,
    samples: EvaluationSamples,
    baseline: Baseline,
    measured: Measurements,
) -> None:
    """Write what was measured after a step."""
    if samples.sampled:
        _write_samples(run, log, step, condition, samples, baseline, measured)
    record = record_of(step, measured)
    log.write(record)
    records = read_metrics(run)
    draw_curves(records, run / "curves.png")
    if record.fidelity:
        _write_convergence(run, of_kind(records, EvaluationRecord))
    card.write(run)
    numbers = [f"gain {record.gain:.3f}", f"benefit {record.benefit:.3f}"]
    numbers += [f"fidelity {record.fidelity.value:.3f}"] if record.fidelity else []
    log.say(f"step {step}, held out: {', '.join(numbers)}")


def record_of(step: int, measured: Measurements) -> EvaluationRecord:
    """Measurements as a line of the log."""
    gain, benefit, fidelity = measured.gain, measured.benefit, measured.fidelity
    return EvaluationRecord(
        step,
        measured.held_out_loss,
        measured.base_loss,
        gain.mean,
        gain.error,
        benefit.mean,
        benefit.error,
        FidelityRecord(**asdict(fidelity)) if fidelity else None,
    )


def _write_samples(
    run: Path,
    log: RunLog,
    step: int,
    condition: Condition,
    samples: EvaluationSamples,
    baseline: Baseline,
    measured: Measurements,
) -> None:
    """A grid: pictures, their maps, samples without and with control."""
    rows = {
        "picture": [sample.picture for sample in samples.sampled],
        condition.table: [control_picture(condition, sample.maps[condition.table]) for sample in samples.sampled],
        "no control": baseline.pictures,
        f"step {step}": measured.pictures,
    }
    grid = plots.picture_grid(rows)
    plots.save_picture(grid, run / SAMPLES / f"{step:08d}.png")
    log.image(SAMPLES, grid, step)


def _write_convergence(run: Path, evaluations: list[EvaluationRecord]) -> None:
    measured = [(record, record.fidelity) for record in evaluations if record.fidelity]
    found = find_convergence(
        [record.step for record, _ in measured],
        [fidelity.fraction for _, fidelity in measured],
        [record.gain for record, _ in measured],
        [record.gain_error for record, _ in measured],
    )
    text = json.dumps(asdict(ConvergenceRecord(found))) + "\n"
    write_whole(run / CONVERGENCE, text.encode())


def read_convergence(run: Path) -> Convergence | None:
    """When a run converged; None where it did not, or fidelity was not measured.

    Raises:
        ValueError: the file is damaged.
    """
    path = run / CONVERGENCE
    return read_as(ConvergenceRecord, path).converged if path.is_file() else None
