"""A network of PyTorch as annotators run it: built from its files, made ready, called with one batch."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from controlmill.schemas.errors import MillError, error_text

from ..base import Network
from .inference import compiled, ready
from .placement import Placement
from .torch_device import autocast, upload


class TorchNetwork(Network):
    """A network whose batch is one call.

    ``exact`` and ``channels_last`` are those of :func:`inference.ready`; batches have their channels last too, and
    without it as :func:`torch_device.upload` decides.
    """

    exact: ClassVar[bool] = False
    channels_last: ClassVar[bool] = False

    def __init__(self, files: Mapping[str, Path], place: Placement):
        self._place = place
        self._network = ready(self._built(files), place, self.exact, self.channels_last)
        self._run = compiled(self.entry(), place, self.name)

    @abstractmethod
    def build(self, files: Mapping[str, Path]) -> Any:
        """The module with its weights, on the CPU."""

    def _built(self, files: Mapping[str, Path]) -> Any:
        """What :meth:`build` returns.

        Raises:
            MillError: the files hold other weights.
        """
        try:
            return self.build(files)
        except (KeyError, RuntimeError) as error:
            if isinstance(error, RuntimeError) and "state_dict" not in str(error):
                raise
            names = ", ".join(str(path) for path in files.values())
            raise MillError(f"{names} does not fit the network {self.name}: {error_text(error)}") from error

    def entry(self) -> Callable[..., Any]:
        """What is called with a batch, and compiled where the placement asks for that."""
        run: Callable[..., Any] = self._network
        return run

    def forward(self, batch: Sequence[np.ndarray]) -> list[Any]:
        """One raw output for each input."""
        import torch

        with torch.inference_mode():
            with autocast(self._place):
                output = self._run(upload(batch, self._place, self.channels_last or None))
            return self.outputs(output)

    @abstractmethod
    def outputs(self, output: Any) -> list[Any]:
        """One raw output for each input, from what the module returned for the batch; tensors are on the device."""
