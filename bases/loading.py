"""Loading the parts of a base from a folder or a name on the hub: from files that are here, else fetched."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from controlmill.annotators.runtime import weights
from controlmill.schemas.errors import MillError, error_text

from .configuration import configured_by

CLASSES = {
    "unet": ("diffusers", "UNet2DConditionModel"),
    "vae": ("diffusers", "AutoencoderKL"),
    "text_encoder": ("transformers", "CLIPTextModel"),
    "tokenizer": ("transformers", "CLIPTokenizer"),
}


def load_part(name: str, part: str, dtype: Any = None) -> Any:
    """A part of a base; a network is frozen, in evaluation mode, on the CPU.

    Args:
        name: a base.
        part: ``unet``, ``vae``, ``text_encoder`` or ``tokenizer``; of a base in a single file only the tokenizer.
        dtype: of a network's weights; by default float32.

    Raises:
        MillError: it cannot be loaded. Weights are read from .safetensors files; pickles could run code.
    """
    import importlib

    import torch
    from safetensors import SafetensorError
    from transformers.utils import logging

    logging.disable_progress_bar()
    library, kind = CLASSES[part]
    loader = getattr(importlib.import_module(library), kind)
    network = part != "tokenizer"
    settings = {"dtype": dtype or torch.float32, "use_safetensors": True} if network else {}
    where = configured_by(name)
    try:
        try:
            loaded = loader.from_pretrained(where, subfolder=part, local_files_only=True, **settings)
        except (OSError, ValueError):
            if Path(where).exists() or not weights.hub_answers():
                raise
            loaded = loader.from_pretrained(where, subfolder=part, **settings)
    except (OSError, ValueError, SafetensorError) as error:
        raise MillError(
            f"--base {name}: its {part} cannot be loaded ({error_text(error)}). Weights are read from .safetensors "
            "files; pickled ones (.bin, .ckpt) can run code, and are not"
        ) from error
    return loaded.requires_grad_(False).eval() if network else loaded
