"""Encoders that fill the caches of Stable Diffusion: a VAE for pictures, one or two CLIP text encoders for captions."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from controlmill.annotators.runtime.torch_device import autocast, upload

from .base import Encoder
from .loading import load_part
from .parts import TWO_TEXTS

if TYPE_CHECKING:
    import torch

    from controlmill.annotators.runtime.placement import Placement

MOMENTS, EMBEDDING, POOLED = "moments", "embedding", "pooled"


class VaeEncoder(Encoder):
    """Pictures → ``moments`` of the VAE's posterior, float32 (2, C, h, w), unscaled: mean, then standard deviation."""

    arrays: ClassVar[tuple[str, ...]] = (MOMENTS,)
    packages: ClassVar[tuple[str, ...]] = ("torch", "diffusers")

    def __init__(self, name: str, place: Placement):
        self.vae, self.place = load_part(name, "vae"), place
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
        self.encoder = load_part(name, "text_encoder")
        self.tokenizer, self.place = load_part(name, "tokenizer"), place
        self.encoder.to(place.device)

    def forward(self, items: Sequence[str]) -> list[dict[str, np.ndarray]]:
        """Of captions."""
        import torch

        tokens = tokens_of(self.tokenizer, items)
        with torch.inference_mode(), autocast(self.place):
            hidden = self.encoder(tokens.to(self.place.device))[0]
        return [{EMBEDDING: row} for row in hidden.float().cpu().numpy()]


class TwoTextEncoders(Encoder):
    """Captions → ``embedding``, float32 (tokens, width), and ``pooled``, float32 (width,), of Stable Diffusion XL."""

    arrays: ClassVar[tuple[str, ...]] = (EMBEDDING, POOLED)
    packages: ClassVar[tuple[str, ...]] = ("torch", "transformers")

    def __init__(self, name: str, place: Placement):
        self.encoders = [load_part(name, part).to(place.device) for part in TWO_TEXTS]
        self.tokenizers = [load_part(name, part) for part in TWO_TEXTS.values()]
        self.place = place

    def forward(self, items: Sequence[str]) -> list[dict[str, np.ndarray]]:
        """Of captions."""
        import torch

        with torch.inference_mode(), autocast(self.place):
            both = two_texts(self.encoders, self.tokenizers, items, self.place.device)
        rows = zip(*(tensor.float().cpu().numpy() for tensor in both), strict=True)
        return [{EMBEDDING: embedding, POOLED: pooled} for embedding, pooled in rows]


def two_texts(
    encoders: Sequence[Any], tokenizers: Sequence[Any], prompts: Sequence[str], device: Any
) -> tuple[torch.Tensor, torch.Tensor]:
    """What two CLIP text encoders make of prompts, as ``encode_prompt`` of the stock pipelines of Stable Diffusion XL.

    Returns:
        (last hidden states but one, side by side, (N, tokens, width); the projected text of the second, (N, width)).
    """
    import torch

    made = [
        encoder(tokens_of(tokenizer, prompts).to(device), output_hidden_states=True)
        for encoder, tokenizer in zip(encoders, tokenizers, strict=True)
    ]
    return torch.cat([each.hidden_states[-2] for each in made], dim=-1), made[-1].text_embeds


def tokens_of(tokenizer: Any, prompts: Sequence[str]) -> torch.Tensor:
    """int64 (N, tokens): prompts cut off or padded to the tokenizer's length."""
    tokens: torch.Tensor = tokenizer(
        list(prompts), padding="max_length", truncation=True, return_tensors="pt"
    ).input_ids
    return tokens
