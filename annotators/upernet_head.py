"""UperNet's head with its largest convolution done at the resolution of each level: a third of its work, equal scores.

The last 3x3 convolution reads four levels, three of them enlarged to the size of the first. Convolution and bilinear
enlargement are both linear, so the nine products of a level with its weights are made before it is enlarged, on 1/4,
1/16 and 1/64 of the pixels; shifting by the taps, enlarging and summing are then two products with small matrices.
"""

from __future__ import annotations

import functools
from typing import Any


def head_scores(head: Any, features: Any) -> Any:
    """What ``UperNetHead.forward`` of transformers gives, up to rounding.

    Args:
        head: a ``UperNetHead``.
        features: feature maps of the backbone, the largest first.
    """
    from torch.nn.functional import interpolate

    laterals = [lateral(feature) for lateral, feature in zip(head.lateral_convs, features, strict=False)]
    laterals.append(head.psp_forward(features))
    for level in range(len(laterals) - 1, 0, -1):
        size = laterals[level - 1].shape[2:]
        laterals[level - 1] = laterals[level - 1] + interpolate(laterals[level], size=size, mode="bilinear")
    levels = [conv(lateral) for conv, lateral in zip(head.fpn_convs, laterals, strict=False)]
    levels.append(laterals[-1])
    bottleneck = head.fpn_bottleneck
    mixed = bottleneck.activation(bottleneck.batch_norm(convolve_enlarged(levels, bottleneck.conv.weight)))
    return head.classifier(mixed)


def convolve_enlarged(levels: list[Any], weight: Any) -> Any:
    """``conv2d(cat(all levels enlarged to the first one's size), weight, padding=1)``.

    Args:
        levels: tensors (B, C, h, w), the first the largest.
        weight: (O, len(levels) * C, 3, 3).
    """
    import torch

    height, width = levels[0].shape[2:]
    first, *others = weight.split([level.shape[1] for level in levels], dim=1)
    total = torch.nn.functional.conv2d(levels[0], first, padding=1)
    for level, part in zip(levels[1:], others, strict=True):
        low_height, low_width = level.shape[2:]
        down = shifted_enlargement(low_height, height, level.device).to(total.dtype)
        across = shifted_enlargement(low_width, width, level.device).to(total.dtype)
        # (O, C, ky, kx) as the 1x1 convolution of nine times the channels
        taps = part.permute(0, 2, 3, 1).reshape(-1, part.shape[1], 1, 1)
        products = torch.nn.functional.conv2d(level, taps).reshape(-1, 3, 3, low_height, low_width)
        rows = products.transpose(2, 3).reshape(-1, 3 * low_width) @ across.T
        total += (down @ rows.reshape(-1, 3 * low_height, width)).reshape(total.shape)
    return total


@functools.lru_cache(maxsize=64)
def shifted_enlargement(low: int, high: int, device: Any) -> Any:
    """Float32 (high, 3 * low): enlargement of a line, read at the pixel before, at, and after; zero outside."""
    import torch

    line = torch.eye(low, device=device)[None]
    enlarged = torch.nn.functional.interpolate(line, size=high, mode="linear", align_corners=False)[0].T
    padded = torch.nn.functional.pad(enlarged, (0, 0, 1, 1))
    return torch.cat([padded[tap : tap + high] for tap in range(3)], dim=1)
