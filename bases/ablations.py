"""What the paper compares a ControlNet with: lite ones, and plain fine-tuning with the map on the input channels."""

from __future__ import annotations

import functools
from typing import Any

import torch
from diffusers import ControlNetModel
from torch import nn


class LiteBlock(nn.Module):
    """What stands for an encoder block: one convolution for each of its outputs, without time or prompt."""

    def __init__(self, inputs: int, outputs: int, layers: int, downsample: bool):
        super().__init__()
        widths = [inputs] + [outputs] * layers
        self.layers = nn.ModuleList(nn.Conv2d(widths[i], outputs, 3, padding=1) for i in range(layers))
        if downsample:
            self.layers.append(nn.Conv2d(outputs, outputs, 3, padding=1, stride=2))

    def forward(self, hidden_states: torch.Tensor, temb: torch.Tensor) -> tuple[torch.Tensor, tuple[torch.Tensor, ...]]:
        """As a diffusers down block: (last output, all outputs)."""
        found = []
        for layer in self.layers:
            hidden_states = torch.nn.functional.silu(layer(hidden_states))
            found.append(hidden_states)
        return hidden_states, tuple(found)


class LiteMiddle(nn.Module):
    """One convolution for the middle block."""

    def __init__(self, channels: int):
        super().__init__()
        self.layer = nn.Conv2d(channels, channels, 3, padding=1)

    def forward(self, sample: torch.Tensor, temb: torch.Tensor) -> torch.Tensor:
        """float (N, C, h, w) in and out."""
        out: torch.Tensor = torch.nn.functional.silu(self.layer(sample))
        return out


class LiteControlNet(ControlNetModel):
    """ControlNet-lite (paper, section 4.2): each block of the trainable copy is replaced by single convolutions.

    A ControlNetModel for the stock pipelines, which check the class; it is loaded by this class's own from_pretrained.
    """

    @functools.wraps(ControlNetModel.__init__)  # type: ignore[misc]
    def __init__(self, *args: Any, **kwargs: Any):
        super().__init__(*args, **kwargs)
        widths = self.config.block_out_channels
        before = (widths[0], *widths[:-1])
        self.down_blocks = nn.ModuleList(
            LiteBlock(inputs, outputs, self.config.layers_per_block, downsample=i < len(widths) - 1)
            for i, (inputs, outputs) in enumerate(zip(before, widths, strict=True))
        )
        self.mid_block = LiteMiddle(widths[-1])


class NoEmbedding(nn.Module):
    """The condition's embedding of a network that is given none."""

    def forward(self, control: torch.Tensor) -> torch.Tensor:
        """One zero, which is added to whatever there is."""
        return control.new_zeros(())


class InputControlNet(ControlNetModel):
    """Plain fine-tuning with the map on the input channels (paper, first version: "trained without ControlNet").

    The encoder that is fine-tuned is this network's copy: its first convolution sees the noisy latents and, through the
    condition's embedding, the map, as further input channels. What it gives is the difference to the encoder as it was
    (``frozen``): the base, which adds that to its own encoder's outputs, decodes those of the fine-tuned one alone. So
    nothing is kept of the base's encoder, there are no zero convolutions, and the stock pipelines run it. It is trained
    together with the base's decoder.
    """

    @functools.wraps(ControlNetModel.__init__)  # type: ignore[misc]
    def __init__(self, *args: Any, **kwargs: Any):
        super().__init__(*args, **kwargs)
        self.frozen = ControlNetModel(*args, **kwargs)
        self.frozen.controlnet_cond_embedding = NoEmbedding()
        for network in (self, self.frozen):
            network.controlnet_down_blocks = nn.ModuleList(nn.Identity() for _ in network.controlnet_down_blocks)
            network.controlnet_mid_block = nn.Identity()

    def forward(self, *args: Any, return_dict: bool = True, **kwargs: Any) -> Any:
        """As a ControlNetModel."""
        down, mid = super().forward(*args, **kwargs, return_dict=False)
        with torch.no_grad():
            before, mid_before = self.frozen(*args, **kwargs, return_dict=False)
        difference = [now - then for now, then in zip(down, before, strict=True)], mid - mid_before
        if not return_dict:
            return difference
        from diffusers.models.controlnets.controlnet import ControlNetOutput

        return ControlNetOutput(down_block_res_samples=tuple(difference[0]), mid_block_res_sample=difference[1])
