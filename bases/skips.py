"""A frozen decoder without gradients towards its skip connections, for where only the middle block is connected.

The first convolutions of each decoder block see the block's input and a skip side by side. Autograd would compute the
gradient of both; that of the skip leads nowhere.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from diffusers import UNet2DConditionModel
from torch import nn
from torch.nn.grad import conv2d_input


class _TowardsFirst(torch.autograd.Function):
    """A convolution with frozen weights; the gradient of all but the first ``channels`` of its input is called zero."""

    @staticmethod
    def forward(
        ctx: Any, input: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None, padding: Any, channels: int
    ) -> torch.Tensor:
        ctx.save_for_backward(weight)
        ctx.shape, ctx.padding, ctx.channels = input.shape, padding, channels
        return nn.functional.conv2d(input, weight, bias, padding=padding)

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> Any:
        (weight,) = ctx.saved_tensors
        batch, whole, height, width = ctx.shape
        shape = batch, ctx.channels, height, width
        first = conv2d_input(shape, weight[:, : ctx.channels], gradients[0], padding=ctx.padding)
        return nn.functional.pad(first, (0, 0, 0, 0, 0, whole - ctx.channels)), None, None, None, None


class _Convolution(nn.Conv2d):
    """In place of ``convolution``, with its weights."""

    def __init__(self, convolution: nn.Conv2d, channels: int):
        super().__init__(1, 1, 1, device="meta")
        self.__dict__.update(convolution.__dict__)
        self.towards = channels

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        """As the convolution."""
        made: torch.Tensor = _TowardsFirst.apply(input, self.weight, self.bias, self.padding, self.towards)
        return made


def leave_out_skips(unet: UNet2DConditionModel) -> None:
    """Make a frozen UNet's decoder compute no gradient of its skip connections.

    A group of the normalisation before a convolution can hold channels of both halves; then it is kept whole.
    """
    width = unet.config.block_out_channels[-1]  # of what comes up
    for block in unet.up_blocks:
        for resnet in block.resnets:
            group = resnet.norm1.num_channels // resnet.norm1.num_groups
            resnet.conv1 = _Convolution(resnet.conv1, math.ceil(width / group) * group)
            if resnet.conv_shortcut is not None:
                resnet.conv_shortcut = _Convolution(resnet.conv_shortcut, width)
            width = resnet.conv2.out_channels
