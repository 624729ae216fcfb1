"""The networks of Stable Diffusion 1.x and 2.x, by their part of a diffusers pipeline: loaded, or without weights."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from controlmill.annotators.runtime.torch_device import torch_dtype
from controlmill.schemas.errors import MillError
from controlmill.schemas.files.documents import read_as

from . import digests
from .configuration import configured_by, is_single_file, location
from .loading import load_part

if TYPE_CHECKING:
    import torch

NETWORKS = ("unet", "vae", "text_encoder")


def load_networks(name: str, device: torch.device, precision: str, trainable: bool) -> dict[str, Any]:
    """The networks of the base ``name``, frozen, in evaluation mode.

    In ``precision``; a UNet that is to be trained in float32, and a VAE never in fp16.

    Raises:
        MillError: one cannot be loaded.
    """
    import torch

    dtypes = {"vae": _vae_dtype(precision), "text_encoder": torch_dtype(precision)}
    dtypes["unet"] = torch.float32 if trainable else torch_dtype(precision)
    networks = (
        _from_file(name, trainable, dtypes)
        if is_single_file(name)
        else {part: load_part(name, part, dtype) for part, dtype in dtypes.items()}
    )
    for network in networks.values():
        network.requires_grad_(False).eval().to(device)
    return networks


def _from_file(name: str, trainable: bool, dtypes: Mapping[str, torch.dtype]) -> dict[str, Any]:
    """Of a base in one file, which is loaded once for its digests and to run."""
    from . import single_file
    from .controlnet import round_frozen

    if trainable:
        digests.weights_of(name, "unet")
    networks = single_file.load_modules(Path(location(name)), configured_by(name))
    for part, network in networks.items():
        round_frozen(network.requires_grad_(False), dtypes[part])
    return networks


def networks_without_weights(
    unet: Mapping[str, Any], vae: Mapping[str, Any], text_encoder: Mapping[str, Any], precision: str
) -> dict[str, Any]:
    """Networks of these configurations on PyTorch's meta device, as a base has them whose UNet is to be trained."""
    import torch
    from diffusers import AutoencoderKL, UNet2DConditionModel
    from transformers import CLIPTextConfig, CLIPTextModel

    from .controlnet import round_frozen

    with torch.device("meta"):
        networks = {
            "unet": UNet2DConditionModel.from_config(unet),
            "vae": AutoencoderKL.from_config(vae),
            "text_encoder": CLIPTextModel(CLIPTextConfig.from_dict(text_encoder)),
        }
    for network in networks.values():
        network.requires_grad_(False).eval()
    round_frozen(networks["vae"], _vae_dtype(precision))
    round_frozen(networks["text_encoder"], torch_dtype(precision))
    return networks


def _vae_dtype(precision: str) -> torch.dtype:
    return torch_dtype("fp32" if precision == "fp16" else precision)  # a VAE in fp16 overflows


@dataclass(frozen=True)
class UnreadTokenizer:
    """In place of a tokenizer that was not loaded: prompts of its length, all of the first token."""

    model_max_length: int

    def __call__(self, prompts: Sequence[str], **_: Any) -> Any:
        """Token ids as a tokenizer of transformers gives them, int64 (N, length)."""
        import torch

        return type("Tokens", (), {"input_ids": torch.zeros(len(prompts), self.model_max_length, dtype=torch.int64)})


@dataclass(frozen=True)
class Guidance:
    """``guidance.json`` of a base: the scale to sample with where no other is given."""

    guidance: float


def read_guidance(name: str, usual: float) -> float:
    """The scale that a base says, else the ``usual`` one. Raises MillError where its file is damaged."""
    card = Path(configured_by(name), "guidance.json")
    if not card.is_file():
        return usual
    try:
        return read_as(Guidance, card).guidance
    except ValueError as error:
        raise MillError(f"{card}: {error}") from error
