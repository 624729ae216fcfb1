"""What a base model is to those who use one: the protocol that each family of bases implements.

    Facts    what configuration files say, read without torch: sizes, digests, how to load
    Encoder  a part of a base that fills a cache of training: rows of named arrays
    Base     loaded and frozen: latents, prompts, its noise schedule, a ControlNet beside it, samples

A family is one file with its subclasses of these three, and a row in :mod:`registry`.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from controlmill.schemas.errors import MillError

from .configuration import Connection, Unlock
from .noise_schedule import NoiseSchedule
from .sampling import AfterStep, Control, Denoising

if TYPE_CHECKING:
    import torch
    from torch import nn

    from controlmill.annotators.runtime.placement import Placement


class Prompt(Mapping[str, "torch.Tensor"]):
    """Encoded prompts: tensors by the names that their base gives them, with a row for each prompt; immutable."""

    def __init__(self, tensors: Mapping[str, torch.Tensor]):
        self._tensors = dict(tensors)

    def __getitem__(self, name: str) -> torch.Tensor:
        return self._tensors[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._tensors)

    def __len__(self) -> int:
        return len(self._tensors)

    def rows(self, rows: slice) -> Prompt:
        """Some of the prompts."""
        return Prompt({name: tensor[rows] for name, tensor in self.items()})

    @staticmethod
    def joined(prompts: Sequence[Prompt]) -> Prompt:
        """The prompts of several, one after another."""
        import torch

        return Prompt({name: torch.cat([prompt[name] for prompt in prompts]) for name in prompts[0]})

    @staticmethod
    def from_rows(rows: Sequence[Mapping[str, np.ndarray] | None], empty: Prompt) -> Prompt:
        """Rows of a cache, each with an array for each name; None stands for the one prompt of ``empty``.

        In the dtypes of ``empty``, on its device.
        """
        import torch

        def stacked(name: str, blank: torch.Tensor) -> torch.Tensor:
            arrays = [None if row is None else torch.from_numpy(row[name]) for row in rows]
            return torch.stack([blank if array is None else array.to(blank.device, blank.dtype) for array in arrays])

        return Prompt({name: stacked(name, tensor[0]) for name, tensor in empty.items()})


class Encoder(ABC):
    """A part of a base that fills a cache, loaded.

    ``arrays`` are the names of what a row of the cache holds, and of the cache's columns. Sides of pictures that are
    encoded are multiples of ``multiple``.
    """

    arrays: ClassVar[tuple[str, ...]]
    packages: ClassVar[tuple[str, ...]]
    multiple: int = 1

    @abstractmethod
    def __init__(self, name: str, place: Placement):
        """Load it from the base ``name``. Raises MillError where it cannot be had."""

    @abstractmethod
    def forward(self, items: Sequence[Any]) -> list[dict[str, np.ndarray]]:
        """A row of the cache for each picture, float32 (3, H, W) in −1 to 1, or each caption; arrays are float32."""


class Facts(ABC):
    """What is known of a base from its configuration files alone. No weights are loaded, torch is not imported.

    ``vae_factor`` is pixels per latent; sides of pictures are multiples of ``multiple``; ``encoders`` are by the table
    that each fills; ``pipeline`` is the class of diffusers that samples with a ControlNet, and is given ``left_out`` in
    place of parts that are not used.
    """

    name: str
    encoders: ClassVar[Mapping[str, type[Encoder]]]
    pipeline: ClassVar[str]
    left_out: ClassVar[Mapping[str, Any]]

    @classmethod
    @abstractmethod
    def read(cls, name: str) -> Facts:
        """Of the base ``name``: a folder, a name on the hub, or a single file.

        Raises:
            MillError: its files are damaged, or it is one that the family cannot work with.
            OSError, ValueError: they cannot be had, or are no JSON.
        """

    @property
    @abstractmethod
    def vae_factor(self) -> int:
        """Pixels per latent."""

    @property
    @abstractmethod
    def multiple(self) -> int:
        """Sides of pictures are multiples of this."""

    @property
    @abstractmethod
    def side(self) -> int:
        """Of the pictures that it was trained on, in pixels."""

    @abstractmethod
    def check_controlnet(self, address: str, name: str, connection: Connection = "zero") -> None:
        """Raise MillError where a ControlNet cannot be read or belongs to another base; no weights are read.

        Args:
            address: a folder, a repository on the hub, or a ``.safetensors`` file.
            name: what messages call it.
            connection: how it joins its base.
        """

    @abstractmethod
    def cache_sizes(self, table: str) -> Mapping[str, int]:
        """Sizes that a cache has to have, by their names in :class:`records.EncoderRecord`; no weights are read."""

    @abstractmethod
    def fingerprint(self) -> str:
        """See :meth:`Base.fingerprint`; no network is loaded."""

    @abstractmethod
    def encoder_digest(self, table: str) -> str:
        """sha256 of all that decides what a cache holds; equal for equal weights, wherever they are stored."""

    @abstractmethod
    def encoder_record(self, table: str) -> Mapping[str, Any]:
        """What identifies an encoder in a cache's provenance: ``sha256``, and its sizes."""

    @abstractmethod
    def start_reading(self) -> None:
        """Begin to read the files of weights in threads, for their digests."""

    @abstractmethod
    def load(self, device: torch.device, precision: str = "fp32", trainable: bool = False) -> Base:
        """The base, frozen, in evaluation mode; see :func:`registry.load_base`.

        Raises:
            MillError: it cannot be loaded.
        """

    @abstractmethod
    def without_weights(self, precision: str) -> Base:
        """The same with networks on PyTorch's meta device, as a trainable base has them: to estimate with."""

    def check_sizes(self, shapes: Sequence[tuple[int, int]]) -> None:
        """Raise MillError where pictures, (height, width), do not fit the base."""
        for height, width in shapes:
            if height % self.multiple or width % self.multiple:
                raise MillError(
                    f"the base takes sides in multiples of {self.multiple}, the dataset has {width}x{height}: "
                    f"use --crop-size, or ingest again with another --resolution or --fit"
                )


class Base(ABC):
    """A frozen base, loaded.

    ``denoiser`` is the network that predicts, a UNet or a transformer of diffusers; ``networks`` are all by the part
    of a diffusers pipeline, the denoiser among them. ``dtype`` is what it computes in; the weights of a denoiser to be
    trained are float32. ``guidance`` is the scale to sample with where no other is given.
    """

    facts: Facts
    device: torch.device
    dtype: torch.dtype
    denoiser: Any
    networks: Mapping[str, nn.Module]
    guidance: float
    schedule: NoiseSchedule

    @abstractmethod
    def latent_shape(self, height: int, width: int) -> tuple[int, int, int]:
        """(channels, h, w) of the latents of a picture."""

    @abstractmethod
    def encode_images(self, pixels: torch.Tensor, noise: torch.Tensor | None) -> torch.Tensor:
        """Scaled latents, float32, drawn from the VAE's posterior with ``noise``, or its mean without.

        Args:
            pixels: (N, 3, H, W) in −1 to 1.
            noise: (N, C, h, w), standard normal.
        """

    @abstractmethod
    def latents_from(self, arrays: Mapping[str, torch.Tensor], noise: torch.Tensor) -> torch.Tensor:
        """The latents of :meth:`encode_images`, from rows of the cache ``latents``, stacked."""

    @abstractmethod
    def decode(self, latents: torch.Tensor) -> torch.Tensor:
        """Pictures of scaled latents, float32 (N, 3, H, W), about −1 to 1."""

    @abstractmethod
    def encode_prompts(self, prompts: Sequence[str]) -> Prompt:
        """What the text encoders make of prompts, by the names of the cache ``embeddings``; in the base's dtype."""

    @abstractmethod
    def make_controlnet(self, connection: Connection, seed: int) -> Any:
        """An untrained ControlNet for pictures of three channels: a copy of the denoiser's encoder."""

    @abstractmethod
    def controlnet_class(self, connection: Connection) -> Any:
        """The class of diffusers, or a subclass, that such a ControlNet has."""

    @abstractmethod
    def load_controlnet(self, address: str, connection: Connection = "zero") -> Any:
        """A trained ControlNet, float32, on the CPU; see :meth:`Facts.check_controlnet`.

        Raises:
            MillError: it cannot be loaded.
        """

    @abstractmethod
    def uses_skips(self, controlnet: Any) -> bool:
        """Whether a ControlNet has an effect on more than the middle block."""

    @abstractmethod
    def choose_trainable(
        self, controlnet: Any, only_mid: bool, unlock: Unlock
    ) -> tuple[list[nn.Parameter], list[nn.Parameter]]:
        """Decide what is trained, and bring what is not to the base's dtype.

        Returns:
            (trainable parameters of the ControlNet, of the denoiser).
        """

    @abstractmethod
    def controlled(self, controlnet: Any | None) -> nn.Module:
        """Denoiser and ControlNet as one module: (noisy latents, t, prompt, control) → prediction, float (N, C, h, w).

        Control is (N, 3, H, W) in 0 to 1, or None for the base alone; the prompt is a dictionary, as compilers know it.
        """

    @abstractmethod
    def sample(
        self,
        prompt: Prompt,
        negative: Prompt,
        controls: Sequence[Control],
        latents: torch.Tensor,
        how: Denoising,
        after_step: AfterStep | None = None,
    ) -> torch.Tensor:
        """Scaled latents sampled by the stock pipeline of diffusers.

        Args:
            prompt: N, and as many of ``negative``, which guidance leads away from.
            negative: see ``prompt``.
            controls: ControlNets whose effects are added; none: the base alone.
            latents: noise to start from, float32 (N, C, h, w).
            how: settings.
            after_step: changes latents after a step; it is given the time that they are at then, None after the last.
        """

    @abstractmethod
    def fingerprint(self) -> str:
        """sha256 of all weights, configurations and tokens: a base that differs in anything has another."""
