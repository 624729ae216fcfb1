"""The networks of Stable Diffusion, by their part of a diffusers pipeline: loaded, or without weights."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from controlmill.annotators.runtime.torch_device import torch_dtype
from controlmill.schemas.errors import MillError
from controlmill.schemas.files.documents import read_as

from . import digests
from .configuration import configured_by, is_single_file
from .loading import load_part

if TYPE_CHECKING:
    import torch


def load_networks(
    name: str, parts: Sequence[str], device: torch.device, precision: str, trainable: bool
) -> dict[str, Any]:
    """The networks of the base ``name``, frozen, in evaluation mode, by part.

    In ``precision``; a UNet that is to be trained in float32, and a VAE never in fp16.

    Raises:
        MillError: one cannot be loaded.
    """
    import torch

    dtypes = dict.fromkeys(parts, torch_dtype(precision)) | {"vae": _vae_dtype(precision)}
    dtypes |= {"unet": torch.float32} if trainable else {}
    if trainable and is_single_file(name):  # what is loaded to be digested is used too, see single_file
        for part in parts:
            digests.weights_of(name, part)
    networks = {part: load_part(name, part, dtype) for part, dtype in dtypes.items()}
    for network in networks.values():
        network.to(device)
    return networks


def networks_without_weights(configs: Mapping[str, Mapping[str, Any]], precision: str) -> dict[str, Any]:
    """Networks on PyTorch's meta device, as a base has them whose UNet is to be trained.

    Args:
        configs: configuration of each part.
        precision: fp32, bf16 or fp16.
    """
    import torch
    from diffusers import AutoencoderKL, UNet2DConditionModel
    from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection

    from .controlnet import round_frozen

    texts = {"text_encoder": CLIPTextModel, "text_encoder_2": CLIPTextModelWithProjection}
    with torch.device("meta"):
        networks = {
            "unet": UNet2DConditionModel.from_config(configs["unet"]),
            "vae": AutoencoderKL.from_config(configs["vae"]),
            **{part: texts[part](CLIPTextConfig.from_dict(configs[part])) for part in texts if part in configs},
        }
    for part, network in networks.items():
        network.requires_grad_(False).eval()
        if part != "unet":
            round_frozen(network, _vae_dtype(precision) if part == "vae" else torch_dtype(precision))
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
