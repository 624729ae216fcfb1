"""Line drawings of photographs by the network of Chan et al. 2022 ("informative drawings"), ControlNet 1.1's lineart.

Source: controlnet-aux 0.0.10 ``lineart/__init__.py`` (ControlNet 1.1 ``annotator/lineart``).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import cv2
import numpy as np

from .base import Annotation, Annotator, Network
from .runtime.network import TorchNetwork
from .runtime.resizing import to_multiples
from .runtime.torch_device import finite, load_state_dict, no_init_weights
from .runtime.upstream import controlnet_aux
from .runtime.weights import WeightsFile, annotators_file

SK_MODEL = annotators_file(
    "sk_model.pth",
    "c686ced2a666b4850b4bb6ccf0748031c3eda9f822de73a34b8979970d90f0c6",
    17.2,
    "MIT",
)
SK_MODEL2 = annotators_file(
    "sk_model2.pth",
    "30a534781061f34e83bb9406b4335da4ff2616c95d22a585c1245aa8363e74e0",
    17.2,
    "MIT",
)


class LineDrawing(TorchNetwork):
    """RGB in 0 to 1 in; dark lines on white out, uint8 (H, W)."""

    name: ClassVar[str] = "lineart"
    weights: ClassVar[tuple[WeightsFile, ...]] = (SK_MODEL,)
    packages: ClassVar[tuple[str, ...]] = ("torch", "controlnet-aux", "opencv", "numpy")

    def build(self, files: Mapping[str, Path]) -> Any:
        """Upstream's generator with its weights."""
        with no_init_weights():
            network = controlnet_aux("lineart").Generator(3, 1, 3)
        network.load_state_dict(load_state_dict(files[self.weights[0].name]))
        return network

    def preprocess(self, image: np.ndarray) -> np.ndarray:
        """float32 (3, h, w), 0 to 1, sides multiples of 64."""
        return to_multiples(image, 64).transpose(2, 0, 1).astype(np.float32) / np.float32(255)

    def outputs(self, output: Any) -> list[np.ndarray]:
        """float32 (h, w), 0 to 1."""
        return list(output[:, 0].float().cpu().numpy())

    def postprocess(self, raw: np.ndarray, image: np.ndarray) -> np.ndarray:
        """uint8 (H, W) at the picture's size."""
        lines = (finite(raw) * 255).clip(0, 255).astype(np.uint8)
        return cv2.resize(lines, image.shape[1::-1], interpolation=cv2.INTER_LINEAR)


class CoarseLineDrawing(LineDrawing):
    """The same with the weights for coarse lines."""

    name: ClassVar[str] = "lineart-coarse"
    weights: ClassVar[tuple[WeightsFile, ...]] = (SK_MODEL2,)


@dataclass(frozen=True)
class Lineart(Annotator):
    """White lines on black, as ControlNet 1.1 was trained on."""

    condition: ClassVar[str] = "cartoon"
    variant: ClassVar[str] = "lineart"
    network: ClassVar[type[Network] | None] = LineDrawing

    def annotate(self, image: np.ndarray, output: np.ndarray, drawn: Mapping[str, Any]) -> Annotation:
        """gray8 map."""
        return Annotation(255 - output)


@dataclass(frozen=True)
class CoarseLineart(Lineart):
    """Coarse lines."""

    variant: ClassVar[str] = "lineart-coarse"
    network: ClassVar[type[Network] | None] = CoarseLineDrawing
