"""Cartoon line drawings by Anime2Sketch (Mukosame 2021), the paper's "cartoon line drawing".

Source: controlnet-aux 0.0.10 ``lineart_anime/__init__.py`` (ControlNet 1.1 ``annotator/lineart_anime``).
"""

from __future__ import annotations

import functools
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import cv2
import numpy as np

from .base import Annotation, Annotator, Network
from .runtime.network import TorchNetwork
from .runtime.torch_device import finite, load_state_dict, no_init_weights
from .runtime.upstream import controlnet_aux
from .runtime.weights import WeightsFile, annotators_file

NET_G = annotators_file(
    "netG.pth",
    "ccabdcc3f5cf3c07cf65d58776acb21df7dfda825cdc70c9766a93fd62bfc488",
    217.6,
    "MIT",
)


class Anime2Sketch(TorchNetwork):
    """RGB in -1 to 1 in; black lines on white out, float32 (H, W) in 0 to 255 and a little beyond."""

    name: ClassVar[str] = "anime2sketch"
    weights: ClassVar[tuple[WeightsFile, ...]] = (NET_G,)
    packages: ClassVar[tuple[str, ...]] = ("torch", "controlnet-aux", "opencv", "numpy")

    def build(self, files: Mapping[str, Path]) -> Any:
        """Upstream's generator with its weights."""
        from torch import nn

        norm = functools.partial(nn.InstanceNorm2d, affine=False, track_running_stats=False)
        with no_init_weights():
            network = controlnet_aux("lineart_anime").UnetGenerator(3, 1, 8, 64, norm_layer=norm, use_dropout=False)
        state = load_state_dict(files[NET_G.name])
        network.load_state_dict({key.replace("module.", ""): tensor for key, tensor in state.items()})
        return network

    def preprocess(self, image: np.ndarray) -> np.ndarray:
        """float32 (3, h, w), -1 to 1, sides enlarged to multiples of 256."""
        height, width = (-(-side // 256) * 256 for side in image.shape[:2])
        pixels = cv2.resize(image, (width, height), interpolation=cv2.INTER_CUBIC)
        return pixels.transpose(2, 0, 1).astype(np.float32) / 127.5 - 1.0

    def outputs(self, output: Any) -> list[np.ndarray]:
        """float32 (h, w), 0 to 255."""
        return list((output[:, 0].float() * 127.5 + 127.5).cpu().numpy())

    def postprocess(self, raw: np.ndarray, image: np.ndarray) -> np.ndarray:
        """float32 (H, W) at the picture's size."""
        return cv2.resize(finite(raw), image.shape[1::-1], interpolation=cv2.INTER_CUBIC)


@dataclass(frozen=True)
class CartoonLines(Annotator):
    """White lines on black, as ControlNet 1.1 was trained on."""

    condition: ClassVar[str] = "cartoon"
    variant: ClassVar[str] = "anime2sketch"
    network: ClassVar[type[Network] | None] = Anime2Sketch

    def annotate(self, image: np.ndarray, output: np.ndarray, drawn: Mapping[str, Any]) -> Annotation:
        """gray8 map."""
        return Annotation(255 - output.clip(0, 255).astype(np.uint8))
