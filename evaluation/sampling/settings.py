"""How pictures are sampled: plain values that a protocol, a command and a dataset's provenance hold alike."""

from __future__ import annotations

from dataclasses import dataclass

from controlmill.bases.sampling import Denoising


@dataclass(frozen=True)
class SamplingSettings(Denoising):
    """How a picture is sampled.

    Args:
        strength: what all connections are multiplied by.
        negative_prompt: in the place of the empty prompt, which guidance leads away from.
        added_prompt: behind every prompt but the empty one.
        seed: of the noise, with the row and the number of its picture.
    """

    strength: float = 1.0
    negative_prompt: str = ""
    added_prompt: str = ""
    seed: int = 0

    def check(self) -> None:
        """Raise ValueError where settings are none to sample with."""
        if self.steps < 1:
            raise ValueError(f"steps {self.steps}: must be 1 or more")
        if self.guidance_scale < 0 or self.strength < 0:
            raise ValueError("guidance_scale and strength: must be 0 or more")
        if not 0 <= self.control_start < self.control_end <= 1:
            raise ValueError(
                f"control_start {self.control_start}, control_end {self.control_end}: "
                "shares of the steps, from 0 to 1, the end after the start"
            )
        if not self.has_control:
            raise ValueError(
                f"control_start {self.control_start:g}, control_end {self.control_end:g}: none of the {self.steps} "
                "steps lies between them, so there would be no control; strength 0 samples without"
            )

    @property
    def has_control(self) -> bool:
        """Whether there is control in any step: those that lie whole between its start and its end, as in diffusers."""
        steps = range(self.steps)
        return any(i / self.steps >= self.control_start and (i + 1) / self.steps <= self.control_end for i in steps)

    def whole(self, prompt: str) -> str:
        """A prompt with what is added to it."""
        return f"{prompt}, {self.added_prompt}" if prompt and self.added_prompt else prompt
