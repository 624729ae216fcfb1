"""The encoders of a base model: its VAE for pictures, its text encoder for captions. Used to fill training's caches.

They are here and not in ``training/`` because the job that fills caches and the trainer that reads them both need
them, and neither room imports the other.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from controlmill.annotators.base import Placement
from controlmill.annotators.runtime import weights
from controlmill.annotators.runtime.torch_device import autocast, upload
from controlmill.schemas.errors import MillError, error_text
from controlmill.schemas.fingerprint import package_versions

TINY = Path(__file__).parent / "tiny"
VAE_PARTS = ("encoder.", "quant_conv.")  # the decoder has no say in moments
VAE_SETTINGS = (
    "down_block_types",
    "block_out_channels",
    "layers_per_block",
    "act_fn",
    "latent_channels",
    "norm_num_groups",
    "use_quant_conv",
    "mid_block_add_attention",
)
TEXT_SETTINGS = ("hidden_size", "num_hidden_layers", "num_attention_heads", "hidden_act", "layer_norm_eps")


def location(name: str) -> str:
    """A base's folder, file or hub name; ``tiny`` is the one that comes with ControlMill.

    Raises:
        MillError: there is no such folder or file.
    """
    if name == "tiny":
        if not (TINY / "model_index.json").is_file():
            raise MillError(
                f"the tiny base is missing from this installation ({TINY}): install controlmill again, "
                "or make one with python -m recipes.tiny_base FOLDER (hours on a CPU), then --base FOLDER"
            )
        return str(TINY)
    if name.startswith((".", "/", "~")) or name.endswith((".safetensors", ".ckpt")):
        path = Path(name).expanduser()
        if path.suffix == ".ckpt":
            raise MillError(f"--base {name}: a .ckpt file can run code when it is loaded; convert it to .safetensors")
        if not path.exists():
            raise MillError(f"--base {name}: no such file or folder")
        return str(path)
    return name


def vae_digest(vae: Any) -> str:
    """Digest of what decides moments: every weight of the VAE's encoder, as float32, and its architecture."""
    named = {name: value for name, value in vae.state_dict().items() if name.startswith(VAE_PARTS)}
    return _digest({name: vae.config.get(name) for name in VAE_SETTINGS}, named)


def text_digest(text_encoder: Any, tokenizer: Any) -> str:
    """Digest of what decides embeddings: every weight of the text encoder, as float32, its architecture, the tokens."""
    said = {name: getattr(text_encoder.config, name) for name in TEXT_SETTINGS}
    said |= {"vocabulary": tokenizer.get_vocab(), "length": tokenizer.model_max_length}
    return _digest(said, text_encoder.state_dict())


def _digest(said: dict[str, Any], tensors: dict[str, Any]) -> str:
    digest = hashlib.sha256(json.dumps(said, sort_keys=True).encode())
    for name, tensor in sorted(tensors.items()):
        digest.update(f"{name.removeprefix('text_model.')}{list(tensor.shape)}".encode())
        digest.update(tensor.detach().float().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()


def load_vae(name: str) -> Any:
    """A base's VAE, float32, in evaluation mode, on the CPU. Raises MillError where it cannot be had."""
    from diffusers import AutoencoderKL

    return _load(name, AutoencoderKL, "vae").requires_grad_(False).eval()


def load_text(name: str) -> tuple[Any, Any]:
    """(text encoder, tokenizer) of a base, as :func:`load_vae`."""
    from transformers import CLIPTextModel, CLIPTokenizer
    from transformers.utils import logging

    logging.disable_progress_bar()
    encoder = _load(name, CLIPTextModel, "text_encoder").requires_grad_(False).eval()
    return encoder, _load(name, CLIPTokenizer, "tokenizer")


def _load(name: str, kind: Any, part: str) -> Any:
    where = location(name)
    if where.endswith(".safetensors"):
        raise MillError(
            f"--base {name}: encode takes a folder or a name on the hub; convert the file once with diffusers' "
            "StableDiffusionPipeline.from_single_file(FILE).save_pretrained(FOLDER). Training from the file will know "
            "the cache as its own"
        )
    import torch

    settings: dict[str, Any] = {}
    if part != "tokenizer":
        settings = {"torch_dtype" if part == "vae" else "dtype": torch.float32, "use_safetensors": True}
    try:
        return kind.from_pretrained(where, subfolder=part, local_files_only=True, **settings)
    except (OSError, ValueError) as error:
        first = error
    if not Path(where).exists() and weights.hub_answers():
        try:
            return kind.from_pretrained(where, subfolder=part, **settings)
        except (OSError, ValueError) as error:
            first = error
    raise MillError(f"--base {name}: its {part} cannot be loaded ({error_text(first)})") from first


class VaeEncoder:
    """Pictures → moments of the VAE's posterior, unscaled."""

    packages = ("torch", "diffusers")

    def __init__(self, base: str, place: Placement):
        self.vae, self.place = load_vae(base), place
        self.digest = vae_digest(self.vae)
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
        self.digest = text_digest(self.encoder, self.tokenizer)
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
