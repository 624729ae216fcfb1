"""What a base is given to sample with: how to denoise, and ControlNets with their maps. Imports nothing heavy."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    import torch

SamplerName = Literal["ddim", "unipc"]
Weighting = Literal["none", "resolution", "guess"]
AfterStep = Callable[["torch.Tensor", int | None], "torch.Tensor"]


@dataclass(frozen=True)
class Denoising:
    """How latents are denoised.

    Args:
        sampler: the solver of the stock pipeline; DDIM without noise (eta 0), or UniPC of order 2.
        steps: of denoising.
        guidance_scale: of classifier-free guidance; 0 is the base's default.
        guidance_weighting: how connections are weighted. ``none``: equally, with and without the prompt. The others
            connect where the prompt is alone. ``resolution``: each times L / h (paper, section 3.4). ``guess``: from .1
            at the first to 1 in the middle, by equal factors, as guess mode of diffusers.
        control_start, control_end: shares of the steps between which there is control.
    """

    sampler: SamplerName = "ddim"
    steps: int = 20
    guidance_scale: float = 0.0
    guidance_weighting: Weighting = "none"
    control_start: float = 0.0
    control_end: float = 1.0


@dataclass(frozen=True)
class Control:
    """A ControlNet on the base's device, of any precision, with a map for each picture.

    Args:
        network: of diffusers, or a subclass.
        images: float (N, 3, H, W) in 0 to 1.
        scale: what its connections are multiplied by.
    """

    network: Any
    images: torch.Tensor
    scale: float = 1.0
