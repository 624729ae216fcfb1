"""The options of sample and export-weights; those of train are the settings of :mod:`config`."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from controlmill.annotators.options import device_option, license_option, weights_option
from controlmill.bases.sampling import SamplerName, Weighting
from controlmill.evaluation.sampling.batches import BATCH
from controlmill.evaluation.sampling.prompts import PROMPT_KINDS, PROMPTS
from controlmill.evaluation.sampling.settings import SamplingSettings
from controlmill.schemas.terminal.options import option
from controlmill.schemas.terminal.ranges import Range

from .config import SEED

SHARE = Range(0, 1)
PLAIN = SamplingSettings()


@dataclass(frozen=True)
class SampleOptions:
    """What is sampled from a ControlNet."""

    image: Path | None = option(None, "A photo to take the condition from.", panel="Control")
    control: Path | None = option(None, "A finished control map, instead of --image; with --mask, in addition to it.")
    variant: tuple[str, ...] = option(
        (), "How photos are annotated, e.g. canny=100:200; by default as the run's maps were. Repeatable."
    )
    strength: float = option(PLAIN.strength, "Factor on what the ControlNet adds to the base; 0: no control.")
    control_start: float = option(PLAIN.control_start, "Share of the steps after which control begins.", within=SHARE)
    control_end: float = option(PLAIN.control_end, "Share of the steps after which it ends.", within=SHARE)
    mask: Path | None = option(None, "Sample only where this picture is white, and keep the rest of --image.")
    add: tuple[str, ...] = option((), "A further ControlNet, whose effect is added. Repeatable.", panel="Several")
    add_image: tuple[str, ...] = option((), "A photo for each --add.", shown="--image")
    add_control: tuple[str, ...] = option((), "A finished map for each --add, instead of --add-image.")
    add_weight: tuple[str, ...] = option((), "A factor for each --add, times --strength.", shown="1")
    prompt: str = option("", "What the picture shows.", panel="Prompts")
    prompts: str = option(
        "",
        PROMPTS,
        shown="user with --prompt, else none",
    )
    added_prompt: str = option(PLAIN.added_prompt, "Text added to the end of every prompt but the empty one.")
    negative: str = option(PLAIN.negative_prompt, "Negative prompt: what pictures should not show.")
    base: str = option(
        "",
        "Base to sample with: the one that it was trained for, or another of its family.",
        shown="the run's",
        panel="Sampling",
    )
    sampler: SamplerName = option(PLAIN.sampler, "Diffusion solver.")
    steps: int = option(0, "Denoising steps.", shown=f"the run's --sampling-steps, else {PLAIN.steps}")
    guidance_scale: float = option(0.0, "Guidance scale; 0: the base's default.")
    guidance_weighting: Weighting = option(
        PLAIN.guidance_weighting,
        "Weights of the ControlNet's connections. resolution: the paper's, for sampling without a prompt. guess: guess "
        "mode's.",
    )
    seed: int = option(0, "Seed of the noise.", within=SEED)
    size: int = option(
        0, "Shorter side of the pictures in pixels; 0: the run's, else the base's.", within=Range(0, 8192)
    )
    out: Path = option(
        Path("sample.png"),
        "File to write; with --count, NAME_0.png and so on. The map is beside it.",
        panel="Output",
    )
    count: int = option(1, "Number of pictures for each kind of prompt.", within=Range(1))
    batch_size: int = option(BATCH, "Pictures at once, at most.", within=Range(1))
    precision: Literal["fp32", "bf16", "fp16"] = option("fp32", "Number format that base and ControlNet compute in.")
    device: str = device_option()
    weights: Path | None = weights_option(shown="the run's")
    accept_license: tuple[str, ...] = license_option()

    @property
    def kinds(self) -> tuple[str, ...]:
        """Kinds of prompts."""
        return tuple(word.strip() for word in self.prompts.split(",") if word.strip()) or (
            ("user",) if self.prompt else ("none",)
        )

    @property
    def weights_of_added(self) -> list[float]:
        """A factor for each further ControlNet."""
        return [float(text) for text in self.add_weight] or [1.0] * len(self.add)

    def settings(self, steps: int) -> SamplingSettings:
        """How pictures are sampled; ``steps`` where they are not asked for."""
        return SamplingSettings(
            self.sampler,
            self.steps or steps,
            self.guidance_scale,
            self.guidance_weighting,
            self.control_start,
            self.control_end,
            self.strength,
            self.negative,
            self.added_prompt,
            self.seed,
        )

    def conflicts(self) -> Iterable[str]:
        """A file that is no picture's; settings that contradict each other."""
        from controlmill.evaluation.plots import FORMATS

        if self.control_start >= self.control_end:
            yield f"--control-start {self.control_start}: must be below --control-end {self.control_end}"
        if self.mask and not self.image:
            yield "--mask: give --image, the photo of which the rest is kept"
        unknown = [kind for kind in self.kinds if kind not in PROMPT_KINDS]
        if unknown or len(set(self.kinds)) < len(self.kinds):
            yield f"--prompts {self.prompts}: some of {', '.join(PROMPT_KINDS)}, each once"
        elif ("user" in self.kinds) != bool(self.prompt):
            yield "--prompt is what --prompts user samples with: give both or neither"
        yield from self._added_conflicts()
        if self.out.suffix.lower() not in FORMATS:
            yield f"--out {self.out}: the name must end in one of {', '.join(FORMATS)}"

    def _added_conflicts(self) -> Iterable[str]:
        count = len(self.add)
        if self.add_image and self.add_control:
            yield "--add-image and --add-control: one kind for all that is added"
        for flag, values in (("image", self.add_image), ("control", self.add_control), ("weight", self.add_weight)):
            if values and len(values) != count:
                yield f"--add-{flag}: given {len(values)} times, --add {count} times"
        for text in self.add_weight:
            try:
                right = math.isfinite(float(text))
            except ValueError:
                right = False
            if not right:
                yield f"--add-weight {text}: must be a finite number"
        if count and not (self.image or self.add_image or self.add_control):
            yield "--add: give --add-image or --add-control for it"


@dataclass(frozen=True)
class ExportOptions:
    """The file that a ControlNet is exported to."""

    out: Path = option(Path("controlnet.safetensors"), "The .safetensors file to write.")
    layout: Literal["original", "diffusers"] = option(
        "original", "Names of the tensors. original: for web interfaces. diffusers: as in the run's folder."
    )
    dtype: Literal["fp32", "fp16", "bf16"] = option("fp16", "Number format of the tensors.")
