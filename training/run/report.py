"""What an evaluation writes to the run's folder: its numbers, sampled pictures, curves, convergence, the model card."""

from __future__ import annotations

from pathlib import Path

from controlmill.evaluation import plots
from controlmill.evaluation.evaluate import Baseline, EvaluationSamples, Measurements
from controlmill.schemas.conditions import Condition
from controlmill.schemas.maps.transforms import control_picture

from . import card
from .card import CURVES, SAMPLES
from .converged import CONVERGENCE, convergence_of, write_convergence
from .curves import draw_curves
from .log import RunLog
from .metrics import EvaluationRecord, FidelityRecord, evaluations


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
    _write_summary(run, log)
    log.say(f"step {step}, held out: {_numbers(record)}")


def go_back(run: Path, log: RunLog, step: int) -> None:
    """Leave nothing in the folder of a run that tells of what came after ``step``, from which it goes on.

    ``log`` has forgotten it.
    """
    for grid in card.grids(run):
        if int(grid.stem) > step:
            grid.unlink()
    _write_summary(run, log)


def _write_summary(run: Path, log: RunLog) -> None:
    """Curves, convergence and the model card, of what is logged."""
    evaluated = evaluations(run)
    if evaluated:
        convergence = convergence_of(evaluated)
        write_convergence(run, convergence)
        draw_curves(log.steps, log.losses, evaluated, convergence, run / CURVES)
    else:
        for name in (CONVERGENCE, CURVES):
            (run / name).unlink(missing_ok=True)
    card.write(run)


def _numbers(record: EvaluationRecord) -> str:
    """A line for people."""
    numbers = [f"gain {record.gain:.3f} ± {record.gain_error:.3f}", f"benefit {record.benefit:.3f}"]
    if record.fidelity:
        found = record.fidelity
        numbers.append(f"{found.measure} {found.value:.3f}, {found.floor:.3f} against other rows' maps")
    return ", ".join(numbers)


def record_of(step: int, measured: Measurements) -> EvaluationRecord:
    """Measurements as a line of the log."""
    gain, benefit, fidelity = measured.gain, measured.benefit, measured.fidelity
    deranged = measured.deranged_benefit
    return EvaluationRecord(
        step,
        measured.held_out_loss,
        measured.base_loss,
        gain.mean,
        gain.error,
        benefit.mean,
        benefit.error,
        deranged.mean,
        deranged.error,
        FidelityRecord(
            fidelity.measure,
            fidelity.value,
            fidelity.floor,
            fidelity.ceiling,
            fidelity.fraction,
            fidelity.gain.mean,
            fidelity.gain.error,
            fidelity.no_control,
            fidelity.blank,
            dict(fidelity.others),
        )
        if fidelity
        else None,
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
    """A grid: pictures, their maps, samples without control, with a blank map and with their own."""
    rows = {
        "picture": [sample.picture for sample in samples.sampled],
        condition.table: [control_picture(condition, sample.maps[condition.table]) for sample in samples.sampled],
        "no control": baseline.pictures,
        **({"blank map": measured.blank} if measured.blank else {}),
        f"step {step}": measured.pictures,
    }
    grid = plots.picture_grid(rows)
    plots.save_picture(grid, run / SAMPLES / f"{step:08d}.png")
    log.image(SAMPLES, grid, step)
