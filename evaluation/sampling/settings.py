"""How pictures are sampled: plain values that a protocol, a command and a dataset's provenance hold alike."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

SamplerName = Literal["ddim", "unipc"]
GuidanceWeighting = Literal["none", "resolution", "guess"]


@dataclass(frozen=True)
class SamplingSettings:
    """How a picture is sampled.

    Args:
        sampler: the solver; eta is 0.
        steps: of denoising.
        guidance_scale: of classifier-free guidance; 0 is the base's default.
        guidance_weighting: how connections are weighted by guidance (paper, section 3.4).
        strength: what all connections are multiplied by.
        control_start, control_end: shares of the steps between which there is control.
        negative_prompt: in the place of the empty prompt.
        added_prompt: behind every prompt but the empty one.
        seed: of the noise, with the row and the number of its picture.
    """

    sampler: SamplerName = "ddim"
    steps: int = 20
    guidance_scale: float = 0.0
    guidance_weighting: GuidanceWeighting = "none"
    strength: float = 1.0
    control_start: float = 0.0
    control_end: float = 1.0
    negative_prompt: str = ""
    added_prompt: str = ""
    seed: int = 0
