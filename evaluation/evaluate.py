"""Evaluation of a ControlNet on held-out rows: losses, condition gain, benefit, fidelity, and sampled pictures.

A function of base, ControlNet, samples and settings: the same samples and noise each time, nothing is written, and the
process is left as it was found.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from diffusers import ControlNetModel

from controlmill.bases.base import Base, Prompt
from controlmill.bases.pixels import signed
from controlmill.schemas.conditions import Condition
from controlmill.schemas.maps.transforms import control_image

from .convergence import TIMES, Estimate, benefit, condition_gain, fraction
from .fidelity import FidelityMetric
from .rows import Sample, draws
from .sampling.batches import BATCH, parts
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
class LossInputs:
    """What losses are taken of, on the base's device.

    ``latents`` are float32 (rows, C, h, w), ``noise`` is float32 (rows, times, C, h, w).
    """

    latents: torch.Tensor
    prompt: Prompt
    noise: torch.Tensor


@dataclass(frozen=True)
class Baseline:
    """What is the same at every evaluation of a run: the inputs, and what the base does without a ControlNet.

    ``losses`` are float64 (rows, times). ``pictures``, uint8 (H, W, 3), are sampled without control. ``floor`` is the
    fidelity of those, ``ceiling`` that of the true pictures through the VAE; NaN where it is not measured.
    """

    inputs: LossInputs
    losses: np.ndarray
    pictures: list[np.ndarray]
    floor: float = float("nan")
    ceiling: float = float("nan")

    def tells(self, fidelity: FidelityMetric) -> bool:
        """Whether the ceiling is better than the floor: else fidelity does not tell control from none."""
        return not math.isnan(fraction(self.ceiling, self.floor, self.ceiling, fidelity.measure.lower_is_better))


@dataclass(frozen=True)
class Fidelity:
    """How well sampled pictures follow their maps: means over pictures.

    ``others`` are the metrics reported beside, by name. ``fraction`` is 0 at the floor and 1 at the ceiling of the
    baseline, NaN where the ceiling is not better than the floor.
    """

    value: float
    floor: float
    ceiling: float
    fraction: float
    others: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Measurements:
    """What was measured. Losses are means over samples and times; ``pictures``, uint8 (H, W, 3), were sampled."""

    held_out_loss: float
    base_loss: float
    gain: Estimate
    benefit: Estimate
    fidelity: Fidelity | None
    pictures: list[np.ndarray]


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
        control = _controls(samples.losses, settings.condition)
        true = _losses(base, controlnet, baseline.inputs, control, settings.batch_size)
        shuffled = _losses(base, controlnet, baseline.inputs, np.roll(control, 1, axis=0), settings.batch_size)
        pictures = _sampled(base, controlnet, samples.sampled, settings)
        return Measurements(
            float(true.mean()),
            float(baseline.losses.mean()),
            condition_gain(shuffled, true, baseline.losses),
            benefit(true, baseline.losses),
            _fidelity(pictures, samples.pictures, settings, baseline),
            pictures,
        )


@torch.no_grad()
def measure_baseline(base: Base, samples: EvaluationSamples, settings: EvaluationSettings) -> Baseline:
    """Encode samples, draw their noise, and measure the base without a ControlNet, and the VAE."""
    with undisturbed(*base.networks.values()):
        inputs = _inputs(base, samples.losses, settings)
        losses = _losses(base, None, inputs, None, settings.batch_size)
        pictures = _sampled(base, None, samples.sampled, settings)
        floor = ceiling = float("nan")
        if settings.fidelity and samples.pictures:
            true = round_trip(base, [sample.picture for sample in samples.pictures], settings.batch_size)
            floor, ceiling = (
                settings.fidelity.means(images, samples.pictures, settings.condition.table)[0]
                for images in (pictures[: len(samples.pictures)], true)
            )
        return Baseline(inputs, losses, pictures, floor, ceiling)


def _inputs(base: Base, samples: Sequence[Sample], settings: EvaluationSettings) -> LossInputs:
    """Encoded samples, and noise that belongs to each."""
    shape = base.latent_shape(*samples[0].picture.shape[:2])
    latents, noise, prompts = [], [], []
    for part in parts(len(samples), settings.batch_size):
        pixels = torch.from_numpy(np.stack([sample.picture for sample in samples[part]])).permute(0, 3, 1, 2)
        rngs = [draws(settings.seed, 0, sample.row, "evaluation") for sample in samples[part]]
        vae_noise = torch.from_numpy(np.stack([rng.standard_normal(shape, np.float32) for rng in rngs]))
        latents.append(base.encode_images(signed(pixels.float()), vae_noise))
        noise += [rng.standard_normal((len(TIMES), *shape), np.float32) for rng in rngs]
        prompts.append(base.encode_prompts([sample.caption for sample in samples[part]]))
    return LossInputs(torch.cat(latents), Prompt.joined(prompts), torch.from_numpy(np.stack(noise)).to(base.device))


def _controls(samples: Sequence[Sample], condition: Condition) -> np.ndarray:
    """Control images, float32 (N, 3, H, W)."""
    return np.stack([control_image(condition, sample.maps[condition.table]) for sample in samples])


@torch.no_grad()
def _losses(
    base: Base,
    controlnet: ControlNetModel | None,
    inputs: LossInputs,
    control: np.ndarray | None,
    batch_size: int,
) -> np.ndarray:
    """Plain losses, float64 (rows, times)."""
    denoiser = base.controlled(controlnet).eval()
    losses = np.zeros((len(inputs.latents), len(TIMES)))
    for i, time in enumerate(TIMES):
        for rows in parts(len(losses), batch_size):
            latents, noise = inputs.latents[rows], inputs.noise[rows, i]
            t = torch.full((len(latents),), time, device=base.device)
            noisy = base.add_noise(latents, noise, t)
            maps = None if control is None else torch.from_numpy(control[rows]).to(base.device)
            with torch.autocast(base.device.type, base.dtype, base.dtype != torch.float32):
                predicted = denoiser(noisy, t, dict(inputs.prompt.rows(rows)), maps)
            error = predicted.float() - base.target(latents, noise, t)
            losses[rows, i] = error.square().mean(dim=(1, 2, 3)).cpu().numpy()
    return losses


def _sampled(
    base: Base, controlnet: ControlNetModel | None, samples: Sequence[Sample], settings: EvaluationSettings
) -> list[np.ndarray]:
    """A picture for each sample, with its map if there is a ControlNet; uint8 (H, W, 3)."""
    if not samples:
        return []
    height, width = samples[0].picture.shape[:2]
    return sample_pictures(
        base,
        controlnet,
        [sample.caption if settings.prompt is None else settings.prompt for sample in samples],
        _controls(samples, settings.condition) if controlnet is not None else None,
        start_noise(base, [sample.row for sample in samples], settings.seed, height, width),
        settings.sampling_steps,
        settings.guidance_scale or base.guidance,
        settings.batch_size,
    )


def _fidelity(
    pictures: Sequence[np.ndarray], samples: Sequence[Sample], settings: EvaluationSettings, baseline: Baseline
) -> Fidelity | None:
    """Of the pictures that were sampled for ``samples``, the first ones."""
    metric = settings.fidelity
    if metric is None or not samples:
        return None
    value, others = metric.means(pictures[: len(samples)], samples, settings.condition.table)
    share = fraction(value, baseline.floor, baseline.ceiling, metric.measure.lower_is_better)
    return Fidelity(value, baseline.floor, baseline.ceiling, share, others)
