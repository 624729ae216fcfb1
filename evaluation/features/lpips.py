"""LPIPS distances between pictures (Zhang et al. 2018), version 0.1 on AlexNet."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from controlmill.annotators.runtime.network import TorchNetwork
from controlmill.annotators.runtime.torch_device import load_state_dict
from controlmill.annotators.runtime.weights import PackageWeights, WeightsFile
from controlmill.schemas.errors import MillError

ALEXNET = WeightsFile(
    "alexnet-owt-7be5be79.pth",
    "pytorch/vision",
    "AlexNet_Weights.IMAGENET1K_V1",
    None,
    244.4,
    "BSD-3-Clause",
    url="https://download.pytorch.org/models/alexnet-owt-7be5be79.pth",
)
LAYER_WEIGHTS = WeightsFile(
    "lpips/alex.pth",
    "richzhang/PerceptualSimilarity",
    "v0.1",
    "df73285e35b22355a2df87cdb6b70b343713b667eddbda73e1977e0c860835c0",
    0.1,
    "BSD-2-Clause",
    package=PackageWeights(
        distribution="torchmetrics",
        version="1.9.0",
        file="torchmetrics/functional/image/lpips_models/alex.pth",
        sha256="df73285e35b22355a2df87cdb6b70b343713b667eddbda73e1977e0c860835c0",
        licence="BSD-2-Clause",
        note="the same file",
    ),
    url="https://github.com/richzhang/PerceptualSimilarity/raw/master/lpips/weights/v0.1/alex.pth",
)
SHIFT, SCALE = np.array([[-0.030, -0.088, -0.188], [0.458, 0.448, 0.450]], np.float32)  # of pictures from -1 to 1
STAGES = ((0, 2), (2, 5), (5, 8), (8, 10), (10, 12))  # layers of AlexNet, each ending with a ReLU
EPSILON = 1e-8


class LPIPS(TorchNetwork):
    """Pictures of one size in; of each its activations behind five layers, each pixel of length 1."""

    name: ClassVar[str] = "lpips-alex"
    weights: ClassVar[tuple[WeightsFile, ...]] = (ALEXNET, LAYER_WEIGHTS)
    packages: ClassVar[tuple[str, ...]] = ("torch", "torchvision", "numpy")

    def build(self, files: Mapping[str, Path]) -> Any:
        """AlexNet's convolutions.

        Raises:
            MillError: a file holds other weights.
        """
        import torch
        from torchvision.models import alexnet

        state, path = load_state_dict(files[ALEXNET.name]), files[LAYER_WEIGHTS.name]
        layers, prefix = load_state_dict(path), "features."
        with torch.device("meta"):  # its classifier, of 54 million random numbers, is not needed
            network = alexnet(weights=None).features
        try:
            convolutions = {key[len(prefix) :]: state[key] for key in state if key.startswith(prefix)}
            network.load_state_dict(convolutions, assign=True)
            self._weights = [
                layers[f"lin{number}.model.1.weight"][0].to(self._place.device) for number in range(len(STAGES))
            ]
        except (RuntimeError, KeyError) as error:
            raise MillError(f"{files[ALEXNET.name]} and {path} are not those of LPIPS on AlexNet: {error}") from error
        return network

    def entry(self) -> Any:
        """Activations of a batch behind each stage."""

        def activations(pixels: Any) -> list[Any]:
            found = []
            for first, last in STAGES:
                pixels = self._network[first:last](pixels)
                found.append(pixels / (EPSILON + (pixels.float() ** 2).sum(1, keepdim=True)).sqrt())
            return found

        return activations

    def preprocess(self, image: np.ndarray) -> np.ndarray:
        """float32 (3, H, W)."""
        pixels = image.astype(np.float32) / 127.5 - 1.0
        return np.ascontiguousarray(((pixels - SHIFT) / SCALE).transpose(2, 0, 1))

    def outputs(self, output: Any) -> list[list[Any]]:
        """Of each picture five tensors (C, h, w), on the device."""
        return [[stage[number] for stage in output] for number in range(len(output[0]))]

    def distance(self, one: Sequence[Any], other: Sequence[Any]) -> float:
        """Between two pictures' activations: 0 and more, 0 for the same picture."""
        import torch

        with torch.inference_mode():
            parts = [
                (weight * (a - b) ** 2).sum(0).mean() for weight, a, b in zip(self._weights, one, other, strict=True)
            ]
            return float(sum(parts))

    def distances(self, inputs: Sequence[np.ndarray]) -> np.ndarray:
        """float64 (k, k), symmetric, between k pictures of one size, as :meth:`preprocess` gives them."""
        found = self.forward(list(inputs))
        matrix = np.zeros((len(found), len(found)))
        for i, one in enumerate(found):
            for j in range(i):
                matrix[i, j] = matrix[j, i] = self.distance(one, found[j])
        return matrix
