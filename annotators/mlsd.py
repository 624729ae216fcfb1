"""Straight lines by M-LSD (Gu et al. 2021), in place of the deep Hough transform that the paper names.

Source: controlnet-aux 0.0.10 ``mlsd/__init__.py`` and ``mlsd/utils.py`` (``pred_lines``). Its decoder takes one
picture, and its detector turns every exception into a black map; here the decoder is batched, on the device, and errors
are raised. The lines are the same.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

import cv2
import numpy as np

from .base import Annotation, Annotator, Network
from .runtime.network import TorchNetwork
from .runtime.resizing import to_multiples
from .runtime.torch_device import finite, load_state_dict, no_init_weights
from .runtime.upstream import controlnet_aux
from .runtime.weights import WeightsFile, annotators_file

MLSD_LARGE = annotators_file(
    "mlsd_large_512_fp32.pth",
    "5696f168eb2c30d4374bbfd45436f7415bb4d88da29bea97eea0101520fba082",
    6.3,
    "Apache-2.0",
)
TOP = 200  # line centres that are looked at, the most certain first


class Lines(NamedTuple):
    """Candidates, the most certain first. ``ends`` float64 (N, 4): x0, y0, x1, y1 in pixels of the picture;
    ``scores`` float32 (N,) in 0 to 1; ``lengths`` float32 (N,) in cells of the output, two input pixels each.
    """

    ends: np.ndarray
    scores: np.ndarray
    lengths: np.ndarray


class MLSD(TorchNetwork):
    """RGB and a channel of ones in, centres and displacements at half the size out; the best 200 lines after it."""

    name: ClassVar[str] = "mlsd"
    weights: ClassVar[tuple[WeightsFile, ...]] = (MLSD_LARGE,)
    packages: ClassVar[tuple[str, ...]] = ("torch", "controlnet-aux", "opencv", "numpy")

    def build(self, files: Mapping[str, Path]) -> Any:
        """The architecture with its weights."""
        with no_init_weights():
            network = self.architecture()
        network.load_state_dict(load_state_dict(files[self.weights[0].name]))
        return network

    def architecture(self) -> Any:
        """The network, without weights."""
        return controlnet_aux("mlsd.models.mbv2_mlsd_large").MobileV2_MLSD_Large()

    def preprocess(self, image: np.ndarray) -> np.ndarray:
        """float32 (4, h, w), -1 to 1, sides rounded to multiples of 64; the fourth channel is a one among 0 to 255."""
        pixels = to_multiples(image, 64)
        ones = np.ones((*pixels.shape[:2], 1), np.uint8)
        return np.concatenate([pixels, ones], axis=2).transpose(2, 0, 1).astype(np.float32) / 127.5 - 1.0

    def outputs(self, output: Any) -> list[tuple[np.ndarray, ...]]:
        """For each picture: scores (N,), centres (N, 2) x and y, displacements (N, 4), input size (height, width)."""
        import torch
        from torch.nn import functional

        output = output.float()
        heat = torch.sigmoid(output[:, 0])
        heat = heat * (functional.max_pool2d(heat, 3, stride=1, padding=1) == heat)
        height, width = heat.shape[1:]
        scores, places = heat.flatten(1).topk(min(TOP, heat[0].numel()), dim=1)
        ends = output[:, 1:5].flatten(2).gather(2, places[:, None].expand(-1, 4, -1)).transpose(1, 2)
        centres = torch.stack([places % width, places // width], dim=2)
        size = np.array([2 * height, 2 * width])
        found = [tensor.cpu().numpy() for tensor in (scores, centres, ends)]
        return [(*(array[i] for array in found), size) for i in range(len(output))]

    def postprocess(self, raw: tuple[np.ndarray, ...], image: np.ndarray) -> Lines:
        """Lines in pixels of the picture."""
        scores, centres, displacements, size = raw
        finite(scores)
        finite(displacements)
        lengths = np.sqrt(np.sum((displacements[:, :2] - displacements[:, 2:]) ** 2, axis=1))
        scale = (np.array(image.shape[:2]) / size)[::-1]
        ends = 2 * (np.tile(centres, 2).astype(np.float64) + displacements) * np.tile(scale, 2)
        return Lines(ends, scores, lengths)


@dataclass(frozen=True)
class MLSDLines(Annotator):
    """Lines drawn white, one pixel wide, without anti-aliasing.

    ``thr_v`` is the least certainty, ``thr_d`` the least length in cells of two pixels (both as in ControlNet 1.0). A
    picture without lines is a valid empty map: ``n_lines`` is 0.
    """

    thr_v: float = 0.1
    thr_d: float = 0.1

    condition: ClassVar[str] = "hough"
    variant: ClassVar[str] = "mlsd"
    network: ClassVar[type[Network] | None] = MLSD
    columns: ClassVar[Mapping[str, str]] = {"n_lines": "int32"}

    def annotate(self, image: np.ndarray, output: Lines, drawn: Mapping[str, Any]) -> Annotation:
        """Binary map, 255 on lines."""
        lines = output.ends[(output.scores > self.thr_v) & (output.lengths > self.thr_d)]
        drawing = np.zeros(image.shape[:2], np.uint8)
        for x0, y0, x1, y1 in lines.astype(np.int64).tolist():
            cv2.line(drawing, (x0, y0), (x1, y1), 255, 1)
        return Annotation(drawing, {"n_lines": len(lines)})
