"""The options of sample and export-weights; those of train are the settings of :mod:`config`."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from controlmill.annotators.options import device_option, weights_option
from controlmill.schemas.terminal.options import Range, option

from .config import SEED


@dataclass(frozen=True)
class SampleOptions:
    """What is sampled from a run's ControlNet."""

    image: Path | None = option(None, "A photo to take the condition from; it is annotated as the run's maps were.")
    control: Path | None = option(None, "A finished control map, instead of --image.")
    prompt: str = option("", "What the picture shows.")
    out: Path = option(Path("sample.png"), "File to write; with --count, NAME_0.png and so on. The map is beside it.")
    count: int = option(1, "Number of pictures.", within=Range(1))
    seed: int = option(0, "Seed of the noise.", within=SEED)
    steps: int = option(0, "DDIM steps; 0: the run's --sampling-steps.")
    guidance_scale: float = option(0.0, "Guidance scale; 0: the base's default.")
    device: str = device_option()
    weights: Path | None = weights_option(shown="the run's")

    def conflicts(self) -> Iterable[str]:
        """A file that is no picture's."""
        from controlmill.evaluation.plots import FORMATS

        if self.out.suffix.lower() not in FORMATS:
            yield f"--out {self.out}: the name must end in one of {', '.join(FORMATS)}"


@dataclass(frozen=True)
class ExportOptions:
    """The file that a ControlNet is exported to."""

    out: Path = option(Path("controlnet.safetensors"), "The .safetensors file to write.")
    layout: Literal["original", "diffusers"] = option(
        "original", "Names of the tensors. original: for web interfaces. diffusers: as in the run's folder."
    )
    dtype: Literal["fp32", "fp16", "bf16"] = option("fp16", "Number format of the tensors.")
