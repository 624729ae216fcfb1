"""The blocks of FID's InceptionV3 as modules: torchvision's, with other pools."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import avg_pool2d, max_pool2d
from torch.nn.utils.fusion import fuse_conv_bn_eval
from torchvision.models.inception import BasicConv2d, Inception3, InceptionA, InceptionC, InceptionE

ORDER = (
    *("Conv2d_1a_3x3", "Conv2d_2a_3x3", "Conv2d_2b_3x3", "maxpool1"),
    *("Conv2d_3b_1x1", "Conv2d_4a_3x3", "maxpool2"),
    *("Mixed_5b", "Mixed_5c", "Mixed_5d", "Mixed_6a", "Mixed_6b", "Mixed_6c", "Mixed_6d", "Mixed_6e"),
    *("Mixed_7a", "Mixed_7b", "Mixed_7c"),
)


def fid_inception(classes: int) -> Inception3:
    """The network, its weights not set."""
    network = Inception3(num_classes=classes, aux_logits=False, init_weights=False)
    for name, inputs, pooled in (("5b", 192, 32), ("5c", 256, 64), ("5d", 288, 64)):
        setattr(network, f"Mixed_{name}", _BlockA(inputs, pooled))
    for name, inner in (("6b", 128), ("6c", 160), ("6d", 160), ("6e", 192)):
        setattr(network, f"Mixed_{name}", _BlockC(768, inner))
    network.Mixed_7b = _BlockE(1280)
    network.Mixed_7c = _LastBlockE(2048)
    return network


def pooled_features(network: Inception3) -> nn.Sequential:
    """Pictures (B, 3, 299, 299) → (B, 2048): everything but the classes, normalisation taken into the convolutions."""
    for module in network.eval().modules():
        if isinstance(module, BasicConv2d):
            fused: Any = fuse_conv_bn_eval(module.conv, module.bn)
            module.conv, module.bn = fused, nn.Identity()
    layers = [getattr(network, name) for name in ORDER]
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten())


def _average(x: Tensor) -> Tensor:
    return avg_pool2d(x, kernel_size=3, stride=1, padding=1, count_include_pad=False)


def _through(x: Tensor, *layers: Any) -> Tensor:
    for layer in layers:
        x = layer(x)
    return x


class _BlockA(InceptionA):
    def _forward(self, x: Tensor) -> list[Tensor]:
        return [
            self.branch1x1(x),
            _through(x, self.branch5x5_1, self.branch5x5_2),
            _through(x, self.branch3x3dbl_1, self.branch3x3dbl_2, self.branch3x3dbl_3),
            self.branch_pool(_average(x)),
        ]


class _BlockC(InceptionC):
    def _forward(self, x: Tensor) -> list[Tensor]:
        double = [getattr(self, f"branch7x7dbl_{number}") for number in range(1, 6)]
        return [
            self.branch1x1(x),
            _through(x, self.branch7x7_1, self.branch7x7_2, self.branch7x7_3),
            _through(x, *double),
            self.branch_pool(_average(x)),
        ]


class _BlockE(InceptionE):
    def _forward(self, x: Tensor) -> list[Tensor]:
        single = self.branch3x3_1(x)
        double = _through(x, self.branch3x3dbl_1, self.branch3x3dbl_2)
        return [
            self.branch1x1(x),
            torch.cat([self.branch3x3_2a(single), self.branch3x3_2b(single)], 1),
            torch.cat([self.branch3x3dbl_3a(double), self.branch3x3dbl_3b(double)], 1),
            self.branch_pool(self.pooled(x)),
        ]

    def pooled(self, x: Tensor) -> Tensor:
        return _average(x)


class _LastBlockE(_BlockE):
    def pooled(self, x: Tensor) -> Tensor:
        return max_pool2d(x, kernel_size=3, stride=1, padding=1)
