"""The encoders of a base model: its VAE for pictures, its text encoder for captions. Used to fill training's caches."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from controlmill.annotators.runtime.placement import Placement
from controlmill.annotators.runtime.torch_device import autocast, upload
from controlmill.schemas.errors import MillError
from controlmill.schemas.fingerprint import package_versions

from .configuration import is_single_file
from .digests import text_digest, vae_digest
from .loading import load_part


def load_vae(name: str) -> Any:
    """A base's VAE, float32, on the CPU. Raises MillError where it cannot be had."""
    return load_part(_not_a_file(name), "vae")


def load_text(name: str) -> tuple[Any, Any]:
    """(text encoder, tokenizer) of a base, as :func:`load_vae`."""
    return load_part(_not_a_file(name), "text_encoder"), load_part(name, "tokenizer")


def _not_a_file(name: str) -> str:
    if is_single_file(name):
        raise MillError(
            f"--base {name}: encode takes a folder or a name on the hub; convert the file once with diffusers' "
            "StableDiffusionPipeline.from_single_file(FILE).save_pretrained(FOLDER). Training from the file will know "
            "the cache as its own"
        )
    return name


class VaeEncoder:
    """Pictures → moments of the VAE's posterior, unscaled."""

    packages = ("torch", "diffusers")

    def __init__(self, base: str, place: Placement):
        self.vae, self.place = load_vae(base), place
        self.digest = vae_digest(base)
        self.vae.to(place.device)
        config = self.vae.config
        self.factor = 2 ** (len(config.block_out_channels) - 1)
        self.facts = {"channels": config.latent_channels, "factor": self.factor}

    def forward(self, pictures: Sequence[np.ndarray]) -> list[np.ndarray]:
        """Moments of each, float32 (2, C, h, w): mean, then standard deviation; pictures float32 (3, H, W), −1 to 1."""
        import torch

        with torch.inference_mode(), autocast(self.place):
            posterior = self.vae.encode(upload(pictures, self.place)).latent_dist
            moments = torch.stack([posterior.mean, posterior.std], dim=1)
        return list(moments.float().cpu().numpy())


class TextEncoder:
    """Captions → what the UNet attends to."""

    packages = ("torch", "transformers")

    def __init__(self, base: str, place: Placement):
        (self.encoder, self.tokenizer), self.place = load_text(base), place
        self.digest = text_digest(base, self.tokenizer)
        self.encoder.to(place.device)
        self.facts = {"width": self.encoder.config.hidden_size, "tokens": self.tokenizer.model_max_length}

    def forward(self, captions: Sequence[str]) -> list[np.ndarray]:
        """float32 (tokens, width) for each."""
        import torch

        given = self.tokenizer(list(captions), padding="max_length", truncation=True, return_tensors="pt").input_ids
        with torch.inference_mode(), autocast(self.place):
            hidden = self.encoder(given.to(self.place.device))[0]
        return list(hidden.float().cpu().numpy())


ENCODERS: dict[str, type[VaeEncoder] | type[TextEncoder]] = {"latents": VaeEncoder, "embeddings": TextEncoder}


def provenance(encoder: VaeEncoder | TextEncoder, place: Placement, stored: str) -> dict[str, Any]:
    """What decides a cache beside the rows. The base's name is not in it: equal weights are equal wherever they lie."""
    return {
        "sha256": encoder.digest,
        **encoder.facts,
        "stored": stored,
        "packages": package_versions(*encoder.packages),
        "placement": place.provenance(),
    }
