"""Evaluation of a ControlNet on held-out rows: losses, condition gain, benefit, fidelity, and sampled pictures.

A function of base, ControlNet, samples and settings: the same samples and noise each time, nothing is written, and the
process is left as it was found.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from diffusers import ControlNetModel

from controlmill.bases.base import Base
from controlmill.schemas.conditions import Condition
from controlmill.schemas.maps.transforms import control_image

from .convergence import Estimate, benefit, condition_gain, fraction, other_rows
from .fidelity import Fidelity, FidelityMetric, measure_fidelity
from .losses import LossInputs, loss_inputs, losses_at_times
from .rows import Sample
from .sampling.batches import BATCH
from .sampling.sampler import round_trip, sample_pictures, start_noise
from .undisturbed import undisturbed


@dataclass(frozen=True)
class EvaluationSettings:
    """How samples are evaluated.

    ``guidance_scale`` 0 is the base's default. ``prompt`` takes the place of every caption where pictures are sampled;
    None: each sample's own. ``batch_size`` is how many pictures go through the networks at once. Without ``fidelity``
    sampled pictures are not measured.
    """

    condition: Condition
    seed: int = 0
    sampling_steps: int = 20
    guidance_scale: float = 0.0
    prompt: str | None = None
    batch_size: int = BATCH
    fidelity: FidelityMetric | None = None


@dataclass(frozen=True)
class EvaluationSamples:
    """Samples of one height and width.

    Losses are taken of ``losses``, at least two. Pictures are sampled for ``pictures``, on which fidelity is measured,
    and for ``user``: a user's own, of which no true picture is known.
    """

    losses: Sequence[Sample]
    pictures: Sequence[Sample] = ()
    user: Sequence[Sample] = ()

    @property
    def sampled(self) -> list[Sample]:
        """All that pictures are sampled for."""
        return [*self.pictures, *self.user]


@dataclass(frozen=True)
class Baseline:
    """What is the same at every evaluation of a run: the inputs, and what the base does without a ControlNet.

    ``losses`` are float64 (rows, times). ``pictures``, uint8 (H, W, 3), are sampled without control. ``no_control`` is
    the fidelity of those, ``ceiling`` that of the true pictures through the VAE, and ``ceiling_floor`` that of the true
    pictures against other rows' maps; NaN where it is not measured.
    """

    inputs: LossInputs
    losses: np.ndarray
    pictures: list[np.ndarray]
    no_control: float = float("nan")
    ceiling: float = float("nan")
    ceiling_floor: float = float("nan")

    def tells(self, fidelity: FidelityMetric) -> bool:
        """Whether true pictures agree better with their own maps than with others': else fidelity tells nothing."""
        lower = fidelity.measure.lower_is_better
        return not math.isnan(fraction(self.ceiling, self.ceiling_floor, self.ceiling, lower))


@dataclass(frozen=True)
class Measurements:
    """What was measured. Losses are means over samples and times.

    ``deranged_benefit`` is the benefit of other rows' maps. ``pictures``, uint8 (H, W, 3), were sampled with the rows'
    maps; ``blank`` with black ones, for the pictures that fidelity is measured on.
    """

    held_out_loss: float
    base_loss: float
    gain: Estimate
    benefit: Estimate
    deranged_benefit: Estimate
    fidelity: Fidelity | None
    pictures: list[np.ndarray]
    blank: list[np.ndarray]


def evaluate(
    base: Base,
    controlnet: ControlNetModel,
    samples: EvaluationSamples,
    settings: EvaluationSettings,
    baseline: Baseline | None = None,
) -> Measurements:
    """Measure a ControlNet on samples.

    Args:
        base: as it was trained with the ControlNet.
        controlnet: on the base's device.
        samples: what is measured on.
        settings: how.
        baseline: of the same samples and settings, where it is known already; of the base as it was before training.
    """
    if baseline is None:
        baseline = measure_baseline(base, samples, settings)
    with undisturbed(*base.networks.values(), controlnet):
        control, others = _controls(samples.losses, settings.condition), other_rows(len(samples.losses))
        true = losses_at_times(base, controlnet, baseline.inputs, control, settings.batch_size)
        deranged = losses_at_times(base, controlnet, baseline.inputs, control[others], settings.batch_size)
        maps = _controls(samples.sampled, settings.condition)
        measured = samples.pictures if settings.fidelity else ()
        pictures = _sampled(base, controlnet, samples.sampled, settings, maps)
        blank = _sampled(base, controlnet, measured, settings, np.zeros_like(maps[: len(measured)]))
        return Measurements(
            float(true.mean()),
            float(baseline.losses.mean()),
            condition_gain(deranged, true, baseline.losses),
            benefit(true, baseline.losses),
            benefit(deranged, baseline.losses),
            _fidelity(pictures, blank, samples.pictures, settings, baseline),
            pictures,
            blank,
        )


@torch.no_grad()
def measure_baseline(base: Base, samples: EvaluationSamples, settings: EvaluationSettings) -> Baseline:
    """Encode samples, draw their noise, and measure the base without a ControlNet, and the VAE."""
    with undisturbed(*base.networks.values()):
        inputs = loss_inputs(base, samples.losses, settings.seed, settings.batch_size)
        losses = losses_at_times(base, None, inputs, None, settings.batch_size)
        pictures = _sampled(base, None, samples.sampled, settings)
        baseline = Baseline(inputs, losses, pictures)
        metric, measured, table = settings.fidelity, samples.pictures, settings.condition.table
        if metric is None or not measured:
            return baseline
        true = round_trip(base, [sample.picture for sample in measured], settings.batch_size)
        return replace(
            baseline,
            no_control=metric.mean(pictures[: len(measured)], measured, table),
            ceiling=metric.mean(true, measured, table),
            ceiling_floor=Estimate.of(metric.against_others(true, measured, table)).mean,
        )


def _controls(samples: Sequence[Sample], condition: Condition) -> np.ndarray:
    """Control images, float32 (N, 3, H, W)."""
    if not samples:
        return np.zeros((0, 3, 0, 0), np.float32)
    return np.stack([control_image(condition, sample.maps[condition.table]) for sample in samples])


def _sampled(
    base: Base,
    controlnet: ControlNetModel | None,
    samples: Sequence[Sample],
    settings: EvaluationSettings,
    control: np.ndarray | None = None,
) -> list[np.ndarray]:
    """A picture for each sample, uint8 (H, W, 3); ``control``, float32 (N, 3, H, W), where there is a ControlNet."""
    if not samples:
        return []
    height, width = samples[0].picture.shape[:2]
    return sample_pictures(
        base,
        controlnet,
        [sample.caption if settings.prompt is None else settings.prompt for sample in samples],
        control,
        start_noise(base, [sample.row for sample in samples], settings.seed, height, width),
        settings.sampling_steps,
        settings.guidance_scale or base.guidance,
        settings.batch_size,
    )


def _fidelity(
    pictures: Sequence[np.ndarray],
    blank: Sequence[np.ndarray],
    samples: Sequence[Sample],
    settings: EvaluationSettings,
    baseline: Baseline,
) -> Fidelity | None:
    """Of the pictures that were sampled for ``samples``, the first ones."""
    if settings.fidelity is None or not samples:
        return None
    pictures, known = pictures[: len(samples)], (baseline.no_control, baseline.ceiling)
    return measure_fidelity(settings.fidelity, pictures, blank, samples, settings.condition.table, *known)
