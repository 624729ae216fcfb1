"""Evaluation while a run trains: on which rows, when, and what happens where it fails.

What is measured is in :mod:`controlmill.evaluation.evaluate`, what is written in :mod:`run.report`. Nothing that is
trained changes, nothing that a step draws is drawn, and the process is left as it was found.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from diffusers import ControlNetModel

from controlmill.bases.base import Base
from controlmill.bases.registry import load_base
from controlmill.evaluation.convergence import Estimate
from controlmill.evaluation.evaluate import (
    Baseline,
    EvaluationSamples,
    EvaluationSettings,
    evaluate,
    measure_baseline,
)
from controlmill.evaluation.fidelity import FidelityMetric, make_fidelity_metric, stored_columns
from controlmill.evaluation.sampling.batches import BATCH
from controlmill.evaluation.undisturbed import undisturbed
from controlmill.evaluation.user_pictures import user_samples
from controlmill.schemas.errors import error_text

from .config import TrainConfig
from .data.held_out import held_out_samples
from .run.checkpoint import Trained
from .run.log import RunLog
from .run.metrics import EvaluationRecord, FailedEvaluation, evaluations
from .run.prepare import Prepared
from .run.report import record_of, write_evaluation
from .schedules import EvaluationSchedule, Extent
from .stopping import Stopped, StopRequest


@dataclass(frozen=True)
class Evaluations:
    """The evaluations of a run: samples, settings and baseline stay the same, the schedule says when."""

    base: Base
    samples: EvaluationSamples
    settings: EvaluationSettings
    baseline: Baseline
    schedule: EvaluationSchedule
    run: Path
    log: RunLog

    def evaluate_if_due(
        self, step: int, trained: Trained, stop: StopRequest, first: bool = False, last: bool = False
    ) -> None:
        """Evaluate after a step where the schedule says so, and at the first and the last step of a run.

        An evaluation that fails is logged and the run goes on; not so the first one, which shows that settings are
        wrong. A request to ``stop`` leaves an evaluation at once: a run that goes on has its own.
        """
        extent = self.schedule.due(step, required=first or last)
        if extent is None:
            return
        if extent == "all":
            self.log.say(f"step {step}: evaluating on {self.amount()}")
        networks = [trained.controlnet] if trained.average is None else [trained.controlnet, trained.average]
        with self.schedule.timed(step, extent), stop.cutting_short(self.base.denoiser):
            try:
                with undisturbed(*self.base.networks.values(), *networks):
                    self._evaluate(step, networks[-1], extent)
            except Stopped:
                self.log.say(f"step {step}: told to stop, the evaluation is left")
            except Exception as error:
                if first:
                    raise
                why = error_text(error)
                self.log.say(f"step {step}: the evaluation failed ({why}); the run goes on without it")
                self.log.write(FailedEvaluation(step, why))

    def _evaluate(self, step: int, controlnet: ControlNetModel, extent: Extent) -> None:
        samples = self.samples if extent == "all" else EvaluationSamples(self.samples.losses)
        measured = evaluate(self.base, controlnet, samples, self.settings, self.baseline)
        if extent == "all":
            write_evaluation(self.run, self.log, step, self.settings.condition, samples, self.baseline, measured)
        else:
            self.log.write(record_of(step, measured))
        self.schedule.note(step, measured.gain, extent)

    def amount(self) -> str:
        """How much an evaluation is, for people."""
        pictures = len(self.samples.sampled)
        sampling = f", sampling {pictures} pictures of {self.settings.sampling_steps} steps" if pictures else ""
        return f"{len(self.samples.losses)} held-out rows{sampling}"


def begin_evaluations(
    base: Base, prepared: Prepared, config: TrainConfig, run: Path, log: RunLog, batch_size: int
) -> Evaluations | None:
    """Read the held-out rows, and measure the base alone; None where there are fewer than two rows.

    ``batch_size`` is how many pictures a step's forward pass has room for.
    """
    schedule = EvaluationSchedule(config.evaluation_interval, config.evaluation_budget)
    note_before(schedule, evaluations(run))
    with schedule.timed(), undisturbed(*base.networks.values()):
        metric = _metric(base, prepared, config)
        samples = _samples(prepared, config, metric)
        if samples is None:
            share = prepared.selection.two_from
            advice = f"; use --held-out {share:g} or more" if share else " (--held-out)"
            log.say(f"fewer than two held-out rows: there is no evaluation{advice}")
            return None
        if isinstance(metric, str):
            log.say(f"no fidelity: {metric}")
        budget = (
            f"at most {config.evaluation_budget:.0%} of the time"
            if config.evaluation_budget
            else "whatever time it takes"
        )
        log.say(
            f"evaluates on {len(samples.losses)} held-out rows: every {schedule.interval} steps, losses alone every "
            f"{schedule.look_interval} and more often while gain rises, {budget} "
            "(--evaluate-every, --evaluation-budget); first the base alone is measured"
        )
        settings = EvaluationSettings(
            prepared.condition,
            config.seed,
            config.sampling_steps,
            config.guidance_scale,
            config.evaluation_prompt,
            min(batch_size, BATCH),
            None if isinstance(metric, str) else metric,
        )
        # the base as it was, also when the run goes on with a trained one
        untrained = base if config.unlock == "none" else load_base(config.base, base.device, config.precision)
        baseline = measure_baseline(untrained, samples, settings)
        _say_of_fidelity(log, settings, samples, baseline)
    return Evaluations(base, samples, settings, baseline, schedule, run, log)


def note_before(schedule: EvaluationSchedule, records: list[EvaluationRecord]) -> None:
    """What a run measured before it was stopped. Without fidelity an evaluation is known by nothing but its losses."""
    with_fidelity = any(record.fidelity for record in records)
    for record in records:
        extent: Extent = "all" if record.fidelity or not with_fidelity else "losses"
        schedule.note(record.step, Estimate(record.gain, record.gain_error), extent)


def _metric(base: Base, prepared: Prepared, config: TrainConfig) -> FidelityMetric | str:
    """What measures the fidelity of sampled pictures, or why nothing does."""
    if not (config.evaluation_samples or config.evaluation_image):
        return "no pictures are sampled (--evaluation-samples)"
    return make_fidelity_metric(prepared.condition, prepared.provenance(), base.device, config.weights)


def _samples(prepared: Prepared, config: TrainConfig, metric: FidelityMetric | str) -> EvaluationSamples | None:
    condition = prepared.condition
    columns = stored_columns(condition, prepared.provenance())
    count = max(config.evaluation_rows, config.evaluation_samples)
    held_out = prepared.selection.held_out
    rows = held_out_samples(prepared.dataset, condition, held_out, count, config.crop_size, columns)
    if len(rows) < 2:
        return None
    height, width = rows[0].picture.shape[:2]
    user = user_samples(config.evaluation_image, condition, metric, (width, height), config.seed)
    return EvaluationSamples(rows[: config.evaluation_rows], rows[: config.evaluation_samples], user)


def _say_of_fidelity(log: RunLog, settings: EvaluationSettings, samples: EvaluationSamples, baseline: Baseline) -> None:
    """Warn where fidelity does not tell a row's map from another's."""
    if not settings.fidelity or not samples.pictures:
        return
    if len(samples.pictures) < 2:
        log.say("one sampled picture has no other row's map to compare with: convergence is not known")
    elif not baseline.tells(settings.fidelity):
        label = settings.fidelity.measure.label(*baseline.pictures[0].shape[:2])
        log.say(
            f"fidelity tells nothing here: {label} is {baseline.ceiling:.3f} for true pictures through the VAE, no "
            f"better than {baseline.ceiling_floor:.3f} against other rows' maps; its fraction is not known"
        )
