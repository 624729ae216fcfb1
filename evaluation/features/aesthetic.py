"""LAION's aesthetic score of a picture: linear layers on CLIP's embedding (improved-aesthetic-predictor, 2022)."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from controlmill.annotators.runtime.torch_device import load_state_dict
from controlmill.annotators.runtime.weights import WeightsFile
from controlmill.schemas.errors import MillError

AESTHETIC = WeightsFile(
    "sac+logos+ava1-l14-linearMSE.pth",
    "christophschuhmann/improved-aesthetic-predictor",
    "main",
    "21dd590f3ccdc646f0d53120778b296013b096a035a2718c9cb0d511bff0f1e0",
    3.7,
    "Apache-2.0",
    url="https://github.com/christophschuhmann/improved-aesthetic-predictor/raw/main/sac+logos+ava1-l14-linearMSE.pth",
)
LAYERS = (0, 2, 4, 6, 7)  # between them are dropouts, and nothing that is not linear


class AestheticHead:
    """The layers, as published."""

    def __init__(self, path: Path):
        """Raises MillError where the file holds other weights."""
        state = load_state_dict(path)
        try:
            self._layers = [
                tuple(state[f"layers.{number}.{name}"].double().numpy() for name in ("weight", "bias"))
                for number in LAYERS
            ]
        except KeyError as error:
            raise MillError(f"{path} does not fit the aesthetic head: it has no {error}") from error

    def scores(self, embeddings: np.ndarray) -> np.ndarray:
        """How beautiful people would find each picture, about 1 to 10: float64 (N,).

        Args:
            embeddings: (N, 768) of ``clip``, of any length but 0.
        """
        values = np.asarray(embeddings, np.float64)
        values = values / np.linalg.norm(values, axis=1, keepdims=True)
        for weight, bias in self._layers:
            values = values @ weight.T + bias
        return values[:, 0]
