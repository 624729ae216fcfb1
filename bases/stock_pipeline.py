"""The stock pipelines of diffusers for Stable Diffusion, around networks that are loaded, and a call of one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from .sampling import AfterStep, Control, Denoising, SamplerName

if TYPE_CHECKING:
    import torch


def make_pipeline(
    kind: str, parts: Mapping[str, Any], scheduler: Mapping[str, Any], controlnet: Any | None, sampler: SamplerName
) -> Any:
    """A pipeline.

    Args:
        kind: its class.
        parts: its networks and tokenizers, and its other arguments.
        scheduler: its configuration, as it was saved with the base.
        controlnet: of diffusers, or several as one; None: of a plain pipeline.
        sampler: the solver.
    """
    import diffusers

    solver = {"ddim": diffusers.DDIMScheduler, "unipc": diffusers.UniPCMultistepScheduler}[sampler]
    # as StableDiffusionPipeline mends a scheduler's configuration, the one with a ControlNet does not
    mended = {**scheduler, "clip_sample": False, "steps_offset": 1}
    control = {} if controlnet is None else {"controlnet": controlnet}
    made = getattr(diffusers, kind)(**parts, **control, scheduler=solver.from_config(mended))
    made.set_progress_bar_config(disable=True)
    return made


def sample_latents(
    pipeline: Any,
    prompts: Mapping[str, torch.Tensor],
    controls: Sequence[Control],
    latents: torch.Tensor,
    how: Denoising,
    after_step: AfterStep | None,
) -> torch.Tensor:
    """Scaled latents, (N, C, h, w), that a pipeline makes of noise.

    Args:
        pipeline: of :func:`make_pipeline`, with a ControlNet where there are ``controls``.
        prompts: encoded, N rows each, and those that guidance leads away from, by the pipeline's names.
        controls: maps and scales of the pipeline's ControlNet, one for each that is added.
        latents: the noise, on the pipeline's device.
        how: settings; the guidance scale is taken as it is.
        after_step: see :meth:`base.Base.sample`.
    """
    from .control import embedded_once

    given: dict[str, Any] = {
        **prompts,
        "latents": latents,
        "height": latents.shape[2] * pipeline.vae_scale_factor,
        "width": latents.shape[3] * pipeline.vae_scale_factor,
        "num_inference_steps": how.steps,
        "guidance_scale": how.guidance_scale,
        "output_type": "latent",
    }
    if after_step:
        given["callback_on_step_end"] = _calling(after_step)
    if controls:
        given |= {
            "image": [control.images.to(latents.device) for control in controls],
            "controlnet_conditioning_scale": [control.scale for control in controls],
            "guess_mode": how.guidance_weighting != "none",
            "control_guidance_start": how.control_start,
            "control_guidance_end": how.control_end,
        }
    with embedded_once(controls):
        sampled: torch.Tensor = pipeline(**given).images
    return sampled


def _calling(after_step: AfterStep) -> Any:
    """``after_step`` as the callback of a stock pipeline."""

    def callback(pipeline: Any, step: int, _: Any, tensors: dict[str, Any]) -> dict[str, Any]:
        times = pipeline.scheduler.timesteps
        return {"latents": after_step(tensors["latents"], int(times[step + 1]) if step + 1 < len(times) else None)}

    return callback
