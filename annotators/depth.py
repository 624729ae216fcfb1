"""Depth by MiDaS 3.0 DPT-hybrid (Ranftl et al. 2021): inverse, relative, larger is nearer.

Two homes of one network: transformers' at 384x384 (the default; it shares nothing between instances), and
controlnet-aux 0.0.10's at 512 pixels, as ControlNet 1.1 (the app of 1.0 takes 384). DPT-large is another network.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from .base import Annotation, Annotator, Network
from .runtime.network import TorchNetwork
from .runtime.placement import Placement
from .runtime.resizing import back_to, to_multiples
from .runtime.torch_device import finite, load_state_dict, no_init_weights
from .runtime.transformers_model import load_model, model_files
from .runtime.upstream import controlnet_aux
from .runtime.weights import WeightsFile, annotators_file

MIDAS_HYBRID = annotators_file(
    "dpt_hybrid-midas-501f0c75.pt",
    "501f0c75b3bca7daec6b3682c5054c09b366765aef6fa3a09d03a5cb4b230853",
    492.8,
    "MIT",
)


class DPT(TorchNetwork):
    """RGB in -1 to 1, squashed to 384x384, in; inverse depth, float32 (H, W), not scaled, after postprocessing."""

    name: ClassVar[str] = "dpt-hybrid"
    version: ClassVar[int] = 3
    weights: ClassVar[tuple[WeightsFile, ...]] = model_files(
        "Intel/dpt-hybrid-midas",
        "11eaf7a1cf4bd70740697dbc216f98980c0aeb03",
        "Apache-2.0",
        ("pytorch_model.bin", 489.6),
    )
    packages: ClassVar[tuple[str, ...]] = ("torch", "torchvision", "transformers", "numpy")

    def __init__(self, files: Mapping[str, Path], place: Placement):
        from transformers import DPTImageProcessor

        super().__init__(files, place)
        bilinear = 2  # the repository's preprocessor_config.json
        self._processor = DPTImageProcessor(resample=bilinear)

    def build(self, files: Mapping[str, Path]) -> Any:
        """The model of transformers."""
        from transformers import DPTForDepthEstimation

        return load_model(DPTForDepthEstimation, self.weights, files)

    def preprocess(self, image: np.ndarray) -> np.ndarray:
        """float32 (3, 384, 384)."""
        pixels: np.ndarray = self._processor(image, return_tensors="np")["pixel_values"][0]
        return pixels

    def outputs(self, output: Any) -> list[np.ndarray]:
        """float32 (384, 384)."""
        return list(output.predicted_depth.float().cpu().numpy())

    def postprocess(self, raw: np.ndarray, image: np.ndarray) -> np.ndarray:
        """float32 (H, W), enlarged as ``post_process_depth_estimation`` does."""
        import torch

        with torch.inference_mode():
            depth = torch.nn.functional.interpolate(
                torch.from_numpy(finite(raw))[None, None], size=image.shape[:2], mode="bicubic", align_corners=False
            )
        enlarged: np.ndarray = depth[0, 0].numpy()
        return enlarged


class DPTLarge(DPT):
    """The same with a plain vision transformer of 24 layers (DPT-large)."""

    name: ClassVar[str] = "dpt-large"
    version: ClassVar[int] = 1
    weights: ClassVar[tuple[WeightsFile, ...]] = model_files(
        "Intel/dpt-large",
        "bc15f29aa3a80d532f2ed650b5e16ac48d8958f9",
        "Apache-2.0",
        ("model.safetensors", 1370.0),
    )


class MiDaS(TorchNetwork):
    """RGB in -1 to 1 in, shorter side 512; inverse depth, float32 (H, W), not scaled, after postprocessing."""

    name: ClassVar[str] = "midas"
    weights: ClassVar[tuple[WeightsFile, ...]] = (MIDAS_HYBRID,)
    packages: ClassVar[tuple[str, ...]] = ("torch", "timm", "controlnet-aux", "opencv", "numpy")
    resolution: ClassVar[int] = 512
    exact: ClassVar[bool] = True
    # upstream's hooks write activations into one dictionary of their module, whatever the instance
    _activations: ClassVar[threading.Lock] = threading.Lock()

    def build(self, files: Mapping[str, Path]) -> Any:
        """Upstream's network with its weights."""
        with no_init_weights():
            network = controlnet_aux("midas.midas.dpt_depth").DPTDepthModel(backbone="vitb_rn50_384", non_negative=True)
        state = load_state_dict(files[MIDAS_HYBRID.name])
        network.load_state_dict(state["model"] if "optimizer" in state else state)
        return network

    def preprocess(self, image: np.ndarray) -> np.ndarray:
        """float32 (3, h, w), sides multiples of 64."""
        pixels = to_multiples(image, 64, short=self.resolution)
        return pixels.transpose(2, 0, 1).astype(np.float32) / 127.5 - 1.0

    def entry(self) -> Callable[..., Any]:
        """The network, which leaves no activations: a compiled one is compiled anew where it finds some, or none."""

        def run(pixels: Any) -> Any:
            depth = self._network(pixels)
            self._network.pretrained.activations.clear()
            return depth

        return run

    def forward(self, batch: Sequence[np.ndarray]) -> list[np.ndarray]:
        """float32 (h, w)."""
        with self._activations:
            return super().forward(batch)

    def outputs(self, output: Any) -> list[np.ndarray]:
        """float32 (h, w)."""
        return list(output.float().cpu().numpy())

    def postprocess(self, raw: np.ndarray, image: np.ndarray) -> np.ndarray:
        """float32 (H, W)."""
        return back_to(finite(raw), image)


@dataclass(frozen=True)
class DPTDepth(Annotator):
    """Inverse depth, each map scaled from its own minimum (0) to its maximum (65535); the range is in the columns.

    The network's value is raw_min + map / 65535 * (raw_max - raw_min). Constant depth gives a map of zeros.
    """

    condition: ClassVar[str] = "depth"
    variant: ClassVar[str] = "dpt"
    network: ClassVar[type[Network] | None] = DPT
    columns: ClassVar[Mapping[str, str]] = {"raw_min": "float32", "raw_max": "float32"}

    def annotate(self, image: np.ndarray, output: np.ndarray, drawn: Mapping[str, Any]) -> Annotation:
        """gray16 map."""
        scaled, low, high = normalised(output)
        return Annotation(np.rint(scaled * 65535).astype(np.uint16), {"raw_min": low, "raw_max": high})


@dataclass(frozen=True)
class DPTLargeDepth(DPTDepth):
    """The same by DPT-large, the judge of ControlNet++."""

    variant: ClassVar[str] = "dpt-large"
    network: ClassVar[type[Network] | None] = DPTLarge


@dataclass(frozen=True)
class MiDaSDepth(DPTDepth):
    """The same by controlnet-aux's MiDaS at 512, as ControlNet 1.1."""

    variant: ClassVar[str] = "controlnet"
    network: ClassVar[type[Network] | None] = MiDaS


def normalised(depth: np.ndarray) -> tuple[np.ndarray, float, float]:
    """Depth from 0 to 1, float32, with its minimum and maximum; zeros where it is constant."""
    low, high = float(depth.min()), float(depth.max())
    shifted = depth - np.float32(low)
    return (shifted / shifted.max() if high > low else np.zeros_like(depth)), low, high
