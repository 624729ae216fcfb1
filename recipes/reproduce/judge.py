"""A small network that says shape and depth of each pixel of a drawn picture: the judge of sampled pictures.

It plays the part that OneFormer has in the paper. It is trained on a corpus of its own, in which colours say nothing of
shapes, so that it cannot take a colour for a shape.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from torch import nn

from controlmill.schemas.files.whole import replacing
from recipes.tiny_base.scenes import GROUND_DEPTH, NEAREST_DEPTH, SHAPES, Scene, draw_scene

CORPUS = 2  # the tiny base was trained on scenes of corpus 0, ControlNets are on 1, and 3 is measured on
CLASSES = len(SHAPES) + 1
BATCH = 32
RATE = 3e-3
NOISE = 0.04  # standard deviation that is added to pictures of 0 to 1: sampled ones are not as clean as drawn ones


class Judge(nn.Module):
    """A U-Net on a half, a quarter and an eighth of the size, with about 110,000 parameters."""

    def __init__(self, width: int = 16):
        super().__init__()
        self.half_size = _convolutions(3, width, 2)
        self.quarter_size = _convolutions(width, 2 * width, 2)
        self.eighth_size = _convolutions(2 * width, 4 * width, 2)
        self.to_quarter = _convolutions(6 * width, 2 * width)
        self.to_half = _convolutions(3 * width, width)
        self.out = nn.Sequential(nn.Conv2d(width, 4 * (CLASSES + 1), 1), nn.PixelShuffle(2))

    def forward(self, pictures: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Float (N, 3, H, W) in 0 to 1 → scores of the labels (N, 6, H, W), depth (N, H, W) in 0 to 1."""
        half = self.half_size(pictures)
        quarter = self.quarter_size(half)
        quarter = self.to_quarter(torch.cat([quarter, _doubled(self.eighth_size(quarter))], 1))
        out = self.out(self.to_half(torch.cat([half, _doubled(quarter)], 1)))
        return out[:, :CLASSES], out[:, CLASSES].sigmoid()

    @torch.no_grad()
    def judge(self, pictures: Sequence[np.ndarray]) -> list[Judged]:
        """What it sees in pictures, uint8 (H, W, 3)."""
        found: list[Judged] = []
        for start in range(0, len(pictures), BATCH):
            scores, depth = self(as_tensor(pictures[start : start + BATCH]))
            labels = scores.argmax(1).to(torch.uint8).numpy()
            scaled = GROUND_DEPTH + (NEAREST_DEPTH - GROUND_DEPTH) * depth
            depths = scaled.clamp(0, 65535).round().numpy().astype(np.uint16)
            found += [Judged(*pair) for pair in zip(labels, depths, strict=True)]
        return found


@dataclass(frozen=True)
class Judged:
    """As the corpus's own maps: ``labels`` uint8 (H, W), ``depth`` uint16 (H, W)."""

    labels: np.ndarray
    depth: np.ndarray


def _convolutions(inputs: int, outputs: int, stride: int = 1) -> nn.Sequential:
    layers: list[nn.Module] = []
    for channels, step in ((inputs, stride), (outputs, 1)):
        layers += [nn.Conv2d(channels, outputs, 3, step, padding=1), nn.GroupNorm(4, outputs), nn.SiLU()]
    return nn.Sequential(*layers)


def _doubled(features: torch.Tensor) -> torch.Tensor:
    return nn.functional.interpolate(features, scale_factor=2)


def as_tensor(pictures: Sequence[np.ndarray]) -> torch.Tensor:
    """Float32 (N, 3, H, W) in 0 to 1 of uint8 (H, W, 3)."""
    return torch.from_numpy(np.stack(pictures)).permute(0, 3, 1, 2).float() / 255


def train_judge(steps: int, scenes: int, seed: int = 0) -> Judge:
    """A judge that has seen ``scenes`` scenes, after ``steps`` steps of 32."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        judge = Judge()
        drawn = [draw_scene(CORPUS, index) for index in range(scenes)]
        optimizer = torch.optim.AdamW(judge.parameters())
        schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, RATE, total_steps=max(2, steps))
        for _ in range(steps):
            batch = [drawn[i] for i in torch.randint(scenes, (BATCH,)).tolist()]
            pictures = as_tensor([scene.image for scene in batch])
            scores, depth = judge(pictures + NOISE * torch.randn_like(pictures))
            loss = nn.functional.cross_entropy(scores, _labels(batch)) + 10 * (depth - _depths(batch)).square().mean()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
    return judge.eval()


def _labels(scenes: Sequence[Scene]) -> torch.Tensor:
    return torch.from_numpy(np.stack([scene.labels for scene in scenes])).long()


def _depths(scenes: Sequence[Scene]) -> torch.Tensor:
    depth = np.stack([scene.depth for scene in scenes]).astype(np.float32)
    return torch.from_numpy((depth - GROUND_DEPTH) / (NEAREST_DEPTH - GROUND_DEPTH))


def the_judge(path: Path, steps: int, scenes: int) -> Judge:
    """The judge in a file; it is trained and written first where there is none."""
    if not path.exists():
        with replacing(path) as scratch:
            save_file(train_judge(steps, scenes).state_dict(), scratch)
    judge = Judge()
    judge.load_state_dict(load_file(path))
    return judge.eval()
