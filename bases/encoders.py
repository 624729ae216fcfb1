"""Encoders that families of bases share: a VAE for pictures, one CLIP text encoder for captions."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from controlmill.annotators.runtime.torch_device import autocast, upload
from controlmill.schemas.errors import MillError

from .base import Encoder
from .configuration import is_single_file
from .loading import load_part

if TYPE_CHECKING:
    import torch

    from controlmill.annotators.runtime.placement import Placement

MOMENTS, EMBEDDING = "moments", "embedding"


class VaeEncoder(Encoder):
    """Pictures → ``moments`` of the VAE's posterior, float32 (2, C, h, w), unscaled: mean, then standard deviation."""

    arrays: ClassVar[tuple[str, ...]] = (MOMENTS,)
    packages: ClassVar[tuple[str, ...]] = ("torch", "diffusers")

    def __init__(self, name: str, place: Placement):
        self.vae, self.place = load_part(_not_a_file(name), "vae"), place
        self.vae.to(place.device)
        self.multiple = 2 ** (len(self.vae.config.block_out_channels) - 1)

    def forward(self, items: Sequence[np.ndarray]) -> list[dict[str, np.ndarray]]:
        """Of pictures, float32 (3, H, W) in −1 to 1."""
        import torch

        with torch.inference_mode(), autocast(self.place):
            posterior = self.vae.encode(upload(items, self.place)).latent_dist
            moments = torch.stack([posterior.mean, posterior.std], dim=1)
        return [{MOMENTS: row} for row in moments.float().cpu().numpy()]


class TextEncoder(Encoder):
    """Captions → ``embedding``, float32 (tokens, width): what the UNet attends to."""

    arrays: ClassVar[tuple[str, ...]] = (EMBEDDING,)
    packages: ClassVar[tuple[str, ...]] = ("torch", "transformers")

    def __init__(self, name: str, place: Placement):
        self.encoder = load_part(_not_a_file(name), "text_encoder")
        self.tokenizer, self.place = load_part(name, "tokenizer"), place
        self.encoder.to(place.device)

    def forward(self, items: Sequence[str]) -> list[dict[str, np.ndarray]]:
        """Of captions."""
        import torch

        tokens = tokens_of(self.tokenizer, items)
        with torch.inference_mode(), autocast(self.place):
            hidden = self.encoder(tokens.to(self.place.device))[0]
        return [{EMBEDDING: row} for row in hidden.float().cpu().numpy()]


def tokens_of(tokenizer: Any, prompts: Sequence[str]) -> torch.Tensor:
    """int64 (N, tokens): prompts cut off or padded to the tokenizer's length."""
    tokens: torch.Tensor = tokenizer(
        list(prompts), padding="max_length", truncation=True, return_tensors="pt"
    ).input_ids
    return tokens


def _not_a_file(name: str) -> str:
    if is_single_file(name):
        raise MillError(
            f"--base {name}: encode takes a folder or a name on the hub; convert the file once with diffusers' "
            "StableDiffusionPipeline.from_single_file(FILE).save_pretrained(FOLDER). Training from the file will know "
            "the cache as its own"
        )
    return name
