"""Surface normals: from the slopes of the depth map (ControlNet 1.0), or by a network of their own (ControlNet 1.1).

The two do not agree on the order of channels, and neither does ControlNet: 1.0 was fed (z, y, x) in RGB, 1.1 (x, y, z).
``x_channel`` is in the provenance, for whoever mirrors a map.
"""

from __future__ import annotations

import contextlib
import io
import math
import types
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import cv2
import numpy as np

from .base import Annotation, Annotator, Network
from .depth import DPT, MiDaS, normalised
from .runtime.network import TorchNetwork
from .runtime.resizing import back_to, to_multiples
from .runtime.torch_device import finite, load_state_dict, no_init_weights
from .runtime.upstream import controlnet_aux
from .runtime.weights import WeightsFile, annotators_file

SCANNET = annotators_file(
    "scannet.pt",
    "03dbf1600c51ee3d45c29f77b77bf1a3b7a24c3452dba62a4ae658f37330c209",
    291.1,
    "MIT",
)
IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


class NormalBae(TorchNetwork):
    """RGB normalised as for ImageNet in, shorter side 512; normals x, y, z, float32 (H, W, 3) in -1 to 1, after it.

    Source: Bae et al. 2021; controlnet-aux 0.0.10 ``normalbae/__init__.py``.
    """

    name: ClassVar[str] = "normalbae"
    weights: ClassVar[tuple[WeightsFile, ...]] = (SCANNET,)
    packages: ClassVar[tuple[str, ...]] = ("torch", "timm", "controlnet-aux", "opencv", "numpy")
    resolution: ClassVar[int] = 512

    def build(self, files: Mapping[str, Path]) -> Any:
        """Upstream's network with its weights."""
        settings = types.SimpleNamespace(
            mode="client", architecture="BN", pretrained="scannet", sampling_ratio=0.4, importance_ratio=0.7
        )
        with no_init_weights(), contextlib.redirect_stdout(io.StringIO()):  # upstream prints while it builds
            network = controlnet_aux("normalbae.nets.NNET").NNET(settings)
        state = load_state_dict(files[SCANNET.name])["model"]
        network.load_state_dict({key.removeprefix("module."): tensor for key, tensor in state.items()})
        return network

    def preprocess(self, image: np.ndarray) -> np.ndarray:
        """float32 (3, h, w), sides multiples of 64."""
        pixels = to_multiples(image, 64, short=self.resolution).astype(np.float32) / 255.0
        normal = (pixels - np.array(IMAGENET_MEAN, np.float32)) / np.array(IMAGENET_STD, np.float32)
        return normal.transpose(2, 0, 1)

    def outputs(self, output: Any) -> list[np.ndarray]:
        """float32 (h, w, 3)."""
        return list(output[0][-1][:, :3].float().permute(0, 2, 3, 1).cpu().numpy())

    def postprocess(self, raw: np.ndarray, image: np.ndarray) -> np.ndarray:
        """float32 (H, W, 3)."""
        return back_to(np.ascontiguousarray(finite(raw)), image)


@dataclass(frozen=True)
class DPTNormals(Annotator):
    """Normals from depth: Sobel slopes of the raw depth and a constant z of ``a``, scaled to length 1.

    Source: ControlNet 1.0 ``annotator/midas/__init__.py`` and controlnet-aux's MidasDetector, with their defaults
    (ControlNet's demo starts at bg_th 0.4). Where depth, scaled from 0 to 1, is below ``bg_th`` the normal faces the
    camera. RGB is (z, y, x): the order that ControlNet 1.0 was fed.
    """

    a: float = 2 * math.pi
    bg_th: float = 0.1

    condition: ClassVar[str] = "normals"
    variant: ClassVar[str] = "depth"
    version: ClassVar[int] = 1
    network: ClassVar[type[Network] | None] = DPT
    x_channel: ClassVar[int] = 2

    def annotate(self, image: np.ndarray, output: np.ndarray, drawn: Mapping[str, Any]) -> Annotation:
        """rgb map, 127 for a slope of zero."""
        x, y = (cv2.Sobel(output, cv2.CV_32F, *axis, ksize=3) for axis in ((1, 0), (0, 1)))
        background = normalised(output)[0] < self.bg_th
        x[background] = 0
        y[background] = 0
        vectors = np.stack([x, y, np.full_like(x, self.a)], axis=2)
        lengths = np.sum(vectors**2.0, axis=2, keepdims=True) ** 0.5
        return Annotation(painted(vectors / lengths)[:, :, ::-1].copy())

    def provenance(self) -> dict[str, Any]:
        """What decides the map, and where its x is."""
        return {**super().provenance(), "x_channel": self.x_channel}


@dataclass(frozen=True)
class MiDaSNormals(DPTNormals):
    """The same from depth=controlnet."""

    variant: ClassVar[str] = "controlnet"
    network: ClassVar[type[Network] | None] = MiDaS


@dataclass(frozen=True)
class BaeNormals(Annotator):
    """Normals by NormalBae, as ControlNet 1.1 was trained on; RGB is (x, y, z)."""

    condition: ClassVar[str] = "normals"
    variant: ClassVar[str] = "bae"
    network: ClassVar[type[Network] | None] = NormalBae
    x_channel: ClassVar[int] = 0

    def annotate(self, image: np.ndarray, output: np.ndarray, drawn: Mapping[str, Any]) -> Annotation:
        """rgb map."""
        return Annotation((((output + 1) * 0.5).clip(0, 1) * 255.0).astype(np.uint8))

    def provenance(self) -> dict[str, Any]:
        """What decides the map, and where its x is."""
        return {**super().provenance(), "x_channel": self.x_channel}


def painted(vectors: np.ndarray) -> np.ndarray:
    """uint8 from -1 to 1."""
    return (vectors * 127.5 + 127.5).clip(0, 255).astype(np.uint8)
