"""ControlNets beside a denoiser in the stock pipelines: several added, and their connections weighted by guidance."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from typing import Any

import torch
from diffusers import MultiControlNetModel

from .sampling import Control, Weighting

Residuals = tuple[list[torch.Tensor], torch.Tensor]  # of the skip connections, of the middle block


class AddedControlNets(MultiControlNetModel):
    """What the stock pipelines take as several ControlNets; what they give is added. One alone is the sum of one.

    A ControlNet whose scale is 0 in a step, since control has not begun or has ended, is not computed.
    """

    def __init__(self, controls: Sequence[Control], weighting: Weighting):
        super().__init__([control.network for control in controls])
        self.weighting = weighting

    def forward(
        self,
        sample: torch.Tensor,
        timestep: torch.Tensor,
        encoder_hidden_states: torch.Tensor,
        controlnet_cond: Sequence[torch.Tensor],
        conditioning_scale: Sequence[float],
        guess_mode: bool = False,
        added_cond_kwargs: dict[str, torch.Tensor] | None = None,
        **_: Any,
    ) -> Residuals:
        """As diffusers' class: (residuals of the skip connections, residual of the middle block)."""
        found, nothing = list[Residuals](), sample.new_zeros(len(sample), 1, 1, 1)
        for network, images, scale in zip(self.nets, controlnet_cond, conditioning_scale, strict=True):
            if scale:
                down, mid = network(
                    sample,
                    timestep,
                    encoder_hidden_states=encoder_hidden_states,
                    controlnet_cond=images,
                    added_cond_kwargs=added_cond_kwargs,
                    conditioning_scale=scale,
                    guess_mode=guess_mode and self.weighting != "resolution",
                    return_dict=False,
                )
                down = [residual if residual.dim() else nothing for residual in down]  # those that are not connected
                by_height = self.weighting == "resolution"
                found.append(by_resolution(down, mid, sample.shape[2]) if by_height else (down, mid))
        if not found:
            return [nothing] * len(self.nets[0].controlnet_down_blocks), nothing
        downs, mids = zip(*found, strict=True)
        return [sum(several[1:], several[0]) for several in zip(*downs, strict=True)], sum(mids[1:], mids[0])


def by_resolution(down: Sequence[torch.Tensor], mid: torch.Tensor, height: int) -> Residuals:
    """CFG resolution weighting (paper, section 3.4): each connection times L / h, the height of latents by its own.

    At 512 pixels that is the paper's 64 / h: 1, 1, 1, 2, 2, 2, 4, 4, 4, 8, 8, 8, and 8 in the middle.

    Args:
        height: of the latents.
    """
    return [residual * (height / residual.shape[2]) for residual in down], mid * (height / mid.shape[2])


@contextlib.contextmanager
def embedded_once(controls: Sequence[Control]) -> Iterator[None]:
    """In here each ControlNet computes the embedding of its condition once, instead of in every step."""
    networks = {id(control.network): control.network for control in controls}
    embeddings = [network.controlnet_cond_embedding for network in networks.values()]
    for embedding in embeddings:
        embedding.forward = _remembering(embedding)
    try:
        yield
    finally:
        for embedding in embeddings:
            del embedding.forward


def _remembering(embedding: Any) -> Any:
    """The forward pass of a module that gives the same again for the same tensor."""
    compute, known = embedding.forward, list[tuple[torch.Tensor, torch.Tensor]]()

    def forward(images: torch.Tensor) -> torch.Tensor:
        for given, made in known:
            if given is images:
                return made
        known.append((images, compute(images)))
        return known[-1][1]

    return forward
