"""What turns a picture or a text into features, and by which table of a dataset these are stored."""

from __future__ import annotations

from typing import Any, ClassVar, Literal

import numpy as np

from controlmill.annotators.runtime.network import TorchNetwork
from controlmill.annotators.runtime.torch_device import finite


class FeatureNetwork(TorchNetwork):
    """A network whose outputs are stored: float32 (D,) for each picture, or each text.

    ``table`` is where; ``of`` is what it takes: pictures, uint8 (H, W, 3) RGB, or texts, str.
    """

    table: ClassVar[str]
    of: ClassVar[Literal["pictures", "texts"]] = "pictures"

    def outputs(self, output: Any) -> list[np.ndarray]:
        """float32 (D,) for each."""
        return list(output.float().cpu().numpy())

    def postprocess(self, raw: np.ndarray, image: Any) -> np.ndarray:
        """The features.

        Raises:
            ValueError: they are not finite.
        """
        return finite(raw)
