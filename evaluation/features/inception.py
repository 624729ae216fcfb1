"""FID's InceptionV3: that of TensorFlow, 2015-12-05, with pictures scaled as clean-fid does (Parmar et al. 2022).

It is torchvision's architecture but for its pools: averages leave out what lies beyond the edge, and the last block
takes the maximum (Heusel et al. 2017; pytorch-fid 0.3.0). Of clean-fid 0.1.35: each channel is scaled as floats, by
Pillow's bicubic filter, which widens as pictures shrink, and is not rounded to 8 bits in between.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from PIL import Image

from controlmill.annotators.runtime.torch_device import load_state_dict, no_init_weights
from controlmill.annotators.runtime.weights import WeightsFile
from controlmill.schemas.errors import MillError

from .network import FeatureNetwork

INCEPTION = WeightsFile(
    "pt_inception-2015-12-05-6726825d.pth",
    "mseitzer/pytorch-fid",
    "fid_weights",
    "6726825d0af5f729cebd5821db510b11b1cfad8faad88a03f1befd49fb9129b2",
    95.6,
    "Apache-2.0",
    url="https://github.com/mseitzer/pytorch-fid/releases/download/fid_weights/pt_inception-2015-12-05-6726825d.pth",
)
SIDE = 299
CLASSES = 1008


class Inception(FeatureNetwork):
    """Pictures of any size in, scaled to 299x299; the 2,048 averages before the classes out."""

    name: ClassVar[str] = "inception"
    table: ClassVar[str] = "inception"
    weights: ClassVar[tuple[WeightsFile, ...]] = (INCEPTION,)
    packages: ClassVar[tuple[str, ...]] = ("torch", "torchvision", "pillow", "numpy")
    cpu_batch: ClassVar[int] = 8
    channels_last: ClassVar[bool] = True

    def build(self, files: Mapping[str, Path]) -> Any:
        """The layers up to the last pool.

        Raises:
            MillError: the file holds other weights.
        """
        from .inception_blocks import fid_inception, pooled_features

        with no_init_weights():
            network = fid_inception(CLASSES)
        path = files[INCEPTION.name]
        try:
            network.load_state_dict(load_state_dict(path))
        except RuntimeError as error:
            raise MillError(f"{path} does not fit FID's InceptionV3: {str(error).splitlines()[-1].strip()}") from error
        return pooled_features(network)

    def preprocess(self, image: np.ndarray) -> np.ndarray:
        """float32 (3, 299, 299), about -1 to 1."""
        return (scaled(image, SIDE) - 128) / 128


def scaled(image: np.ndarray, side: int) -> np.ndarray:
    """float32 (3, side, side), 0 to 255, of uint8 (H, W, 3); bicubic, not rounded, the picture's shape not kept."""
    channels = image.transpose(2, 0, 1).astype(np.float32)
    resized = [Image.fromarray(channel).resize((side, side), Image.Resampling.BICUBIC) for channel in channels]
    return np.stack([np.asarray(channel) for channel in resized]).clip(0, 255)
