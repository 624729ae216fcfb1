"""What an annotator is, and what a network is.

A *network* turns a batch of images into raw outputs; an *annotator* turns one image, and one raw output if it uses a
network, into one map. Annotators that name the same network share its forward pass (``hed`` and ``scribble``)::

    image ── Network.preprocess ── Network.forward (batched) ── Network.postprocess ──┬── Annotator.annotate ── hed
                                                                                      └── Annotator.annotate ── scribble
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from controlmill.schemas.fingerprint import package_versions

if TYPE_CHECKING:
    from .runtime.placement import Placement
    from .runtime.weights import WeightsFile


@dataclass(frozen=True)
class Annotation:
    """A finished map (see the kinds in ``schemas.conditions``), or a caption, and what was measured beside it."""

    map: np.ndarray | str
    columns: Mapping[str, Any] = field(default_factory=dict)


class Network(ABC):
    """A network that one or more annotators share. An instance is loaded, and then serves many threads.

    ``version`` goes up whenever the same weights would give other outputs. ``cpu_batch`` is the batch that ``auto``
    means on a CPU: most networks gain nothing from more than one picture there (docs/annotators.md). ``packages`` are
    those it runs in; PyTorch is prepared (its device, threads and arithmetic) for one that has torch among them.
    """

    name: ClassVar[str]
    version: ClassVar[int] = 1
    cpu_batch: ClassVar[int] = 1
    weights: ClassVar[tuple[WeightsFile, ...]]
    packages: ClassVar[tuple[str, ...]] = ("torch", "controlnet-aux")

    @abstractmethod
    def __init__(self, files: Mapping[str, Path], place: Placement):
        """Load from ``files`` (names of ``weights`` → local paths) onto ``place``."""

    @abstractmethod
    def preprocess(self, image: np.ndarray) -> np.ndarray:
        """One image, uint8 (H, W, 3) RGB, as the network's input. Runs in codec threads."""

    @abstractmethod
    def forward(self, batch: Sequence[np.ndarray]) -> list[Any]:
        """Raw outputs, one for each input; inputs have one shape. The caller holds a lock."""

    def postprocess(self, raw: Any, image: np.ndarray) -> Any:
        """What the annotators are given, from one raw output. Runs in codec threads."""
        return raw


@dataclass(frozen=True)
class Annotator(ABC):
    """One condition, made one way. The dataclass fields of a subclass are its parameters.

    ``version`` goes up whenever the same input would give another map. ``columns`` are stored beside the map: what
    :meth:`draw` drew and what :meth:`annotate` measured (name → Arrow type).
    """

    condition: ClassVar[str]
    variant: ClassVar[str]
    version: ClassVar[int] = 1
    network: ClassVar[type[Network] | None] = None
    columns: ClassVar[Mapping[str, str]] = {}
    packages: ClassVar[tuple[str, ...]] = ("opencv", "numpy")

    @property
    def palette(self) -> bytes | None:
        """768 bytes of RGB that paint a map of labels (see ``schemas.codecs.encode_map``); None for its default."""
        return None

    def draw(self, rng: np.random.Generator) -> dict[str, Any]:
        """Parameters drawn for one row, by a generator seeded with the row."""
        return {}

    @abstractmethod
    def annotate(self, image: np.ndarray, output: Any, drawn: Mapping[str, Any]) -> Annotation:
        """The map of one image.

        Args:
            image: uint8 (H, W, 3), RGB; not to be changed.
            output: what the network's ``postprocess`` returned, or None without a network; not to be changed.
            drawn: what :meth:`draw` returned.
        """

    def provenance(self) -> dict[str, Any]:
        """What decides the map beside image, weights and placement."""
        return {
            "condition": self.condition,
            "variant": self.variant,
            "version": self.version,
            "params": asdict(self),
            "packages": package_versions(*self.packages),
        }
