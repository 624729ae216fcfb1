"""The families of bases: a row for each. Which one a base is of is told by the parts in its ``model_index.json``."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

from controlmill.schemas.errors import MillError

from .base import Base, Facts
from .configuration import configured_by
from .files import read_config

if TYPE_CHECKING:
    import torch

INDEX = "model_index.json"


@dataclass(frozen=True)
class Family:
    """A family of bases.

    Args:
        title: what people call it.
        networks: part of a diffusers folder → its class: a base of the family has these and the VAE.
        facts: its subclass of :class:`base.Facts`, as ``module:class``; imported when it is needed.
    """

    title: str
    networks: Mapping[str, str]
    facts: str

    def has(self, index: Mapping[str, Any]) -> bool:
        """Whether a pipeline of such a ``model_index.json`` is of the family."""
        found = {part: index[part] for part in index if part.startswith(NETWORKS)}
        classes = {part: entry[-1] for part, entry in found.items() if isinstance(entry, list) and entry and entry[-1]}
        return classes == self.networks

    def kind(self) -> type[Facts]:
        """The subclass of Facts."""
        module, name = self.facts.split(":")
        return cast(type[Facts], getattr(importlib.import_module(module, __package__), name))


NETWORKS = ("unet", "transformer", "prior", "text_encoder")  # also text_encoder_2…

FAMILIES: dict[str, Family] = {
    "stable-diffusion": Family(
        "Stable Diffusion 1.x and 2.x",
        {"unet": "UNet2DConditionModel", "text_encoder": "CLIPTextModel"},
        ".stable_diffusion:StableDiffusionFacts",
    ),
    "stable-diffusion-xl": Family(
        "Stable Diffusion XL",
        {
            "unet": "UNet2DConditionModel",
            "text_encoder": "CLIPTextModel",
            "text_encoder_2": "CLIPTextModelWithProjection",
        },
        ".stable_diffusion_xl:StableDiffusionXLFacts",
    ),
}


def read_facts(name: str) -> Facts:
    """What the configuration files of a base say; no weights are loaded.

    Raises:
        MillError: they cannot be had, or the base is of a family that is not supported.
    """
    where = configured_by(name)
    try:
        index = read_config(where, INDEX)
        for family in FAMILIES.values():
            if family.has(index):
                return family.kind().read(name)
    except (OSError, ValueError) as error:
        raise MillError(
            f"--base {name}: not found here, and the Hub could not give it ({str(error).splitlines()[0]}); "
            "give a folder with a diffusers pipeline, or --base tiny"
        ) from error
    known = " and ".join(family.title for family in FAMILIES.values())
    raise MillError(f"--base {name}: only bases of {known} are supported; its {INDEX} describes another model")


def load_base(name: str, device: torch.device, precision: str = "fp32", trainable: bool = False) -> Base:
    """A base, frozen, in evaluation mode.

    Args:
        name: a folder, a name on the hub, a ``.safetensors`` file, or ``tiny``.
        device: where its networks are.
        precision: fp32, bf16 or fp16.
        trainable: leave the denoiser in float32, for what is copied from it and trained, and digest all weights as they
            are loaded.

    Raises:
        MillError: it cannot be loaded.
    """
    return read_facts(name).load(device, precision, trainable)
