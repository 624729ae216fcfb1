"""Files and parts of a base, of its folder or of its repository on the hub: what is here, else fetched."""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Any

from controlmill.schemas.errors import MillError, error_text

from .configuration import configured_by, is_single_file, location
from .files import file_of, weights_of_network

CLASSES = {
    "unet": "diffusers:UNet2DConditionModel",
    "vae": "diffusers:AutoencoderKL",
    "text_encoder": "transformers:CLIPTextModel",
    "text_encoder_2": "transformers:CLIPTextModelWithProjection",
    "tokenizer": "transformers:CLIPTokenizer",
    "tokenizer_2": "transformers:CLIPTokenizer",
}
OF_A_TOKENIZER = ("vocab.json", "merges.txt", "tokenizer_config.json", "special_tokens_map.json", "tokenizer.json")


def load_part(name: str, part: str, dtype: Any = None) -> Any:
    """A part of a base; a network is frozen, in evaluation mode, on the CPU.

    Args:
        name: a base.
        part: a part of a diffusers pipeline, such as ``unet``.
        dtype: of a network's weights; by default float32.

    Raises:
        MillError: it cannot be loaded. Weights are read from .safetensors files; pickles could run code.
    """
    import torch
    from safetensors import SafetensorError
    from transformers.utils import logging

    logging.disable_progress_bar()
    library, class_name = CLASSES[part].split(":")
    loader = getattr(importlib.import_module(library), class_name)
    network = not part.startswith("tokenizer")
    if network and is_single_file(name):
        from . import single_file

        loaded = single_file.load_network(Path(location(name)), configured_by(name), part)
        return loaded.to(dtype or torch.float32).requires_grad_(False).eval()
    settings = {"dtype": dtype or torch.float32, "use_safetensors": True} if network else {}
    try:
        where = configured_by(name) if Path(configured_by(name)).exists() else _fetched(name, part, network)
        loaded = loader.from_pretrained(where, subfolder=part, local_files_only=True, **settings)
    except (OSError, ValueError, SafetensorError) as error:
        raise MillError(
            f"--base {name}: its {part} cannot be loaded ({error_text(error)}). Weights are read from .safetensors "
            "files; pickled ones (.bin, .ckpt) can run code, and are not"
        ) from error
    return loaded.requires_grad_(False).eval() if network else loaded


def _fetched(name: str, part: str, network: bool) -> str:
    """The folder in the hub's cache that has the files of a part."""
    where = configured_by(name)
    if network:
        weights_files(name, part)
        return str(file_of(where, f"{part}/config.json").parents[1])
    found = None
    for file in OF_A_TOKENIZER:
        try:
            found = file_of(where, f"{part}/{file}")
        except OSError:  # a tokenizer has some of them
            continue
    if found is None:
        raise FileNotFoundError(f"{where} has no {part} that can be had")
    return str(found.parents[1])


def weights_files(name: str, part: str) -> list[Path]:
    """The .safetensors files that a part's weights are in, one or several.

    Raises:
        OSError: they cannot be had.
        ValueError: the list of them is damaged.
    """
    stem = "model" if part.startswith("text_encoder") else "diffusion_pytorch_model"
    return weights_of_network(configured_by(name), f"{part}/{stem}.safetensors")
