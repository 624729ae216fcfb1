"""Export: a ControlNet's weights in one file, for web interfaces or diffusers."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from controlmill.annotators.runtime.torch_device import DTYPES, torch_dtype
from controlmill.bases.configuration import read_controlnet_config
from controlmill.bases.controlnet_file import to_original
from controlmill.schemas.errors import MillError, error_text
from controlmill.schemas.files.permissions import obey_umask

if TYPE_CHECKING:
    import torch

CHANNELS = {  # of each Stable Diffusion, by the width of the text that it attends to
    768: [320, 640, 1280, 1280],
    1024: [320, 640, 1280, 1280],
    2048: [320, 640, 1280],
}
HALVINGS = 4


def unreadable(config: Mapping[str, Any]) -> str:
    """Why no web interface loads such a ControlNet, whatever the layout; empty where they do."""
    channels, embedding = list(config["block_out_channels"]), config["conditioning_embedding_out_channels"]
    if CHANNELS.get(config["cross_attention_dim"]) == channels and len(embedding) == HALVINGS:
        return ""
    return (
        "no web interface can load this: they read ControlNets of Stable Diffusion 1.x, 2.x and XL, and "
        f"this one is of a base of {channels} channels that attends to width {config['cross_attention_dim']} (the "
        "tiny base?); diffusers reads the run's folder"
    )


def check_form(out: Path, layout: str, dtype: str) -> None:
    """Raise MillError where there is no such layout or dtype, or the file exists."""
    if layout not in ("original", "diffusers") or dtype not in DTYPES:
        raise MillError(f"--layout {layout} --dtype {dtype}: original or diffusers; fp32, fp16 or bf16")
    if out.exists():
        raise MillError(f"{out} exists")


def export_weights(folder: Path, out: Path, layout: str, dtype: str) -> int:
    """Write one .safetensors file; returns how many tensors are in it.

    Raises:
        MillError: no ControlNet in ``folder``, an unknown layout or dtype, or a file that exists.
    """
    check_form(out, layout, dtype)
    config = read_controlnet_config(str(folder))
    files = sorted(folder.glob("*.safetensors"))
    if not files:
        raise MillError(f"{folder} holds no .safetensors file")
    from safetensors import SafetensorError
    from safetensors.torch import load_file, save_file

    weights: dict[str, torch.Tensor] = {}
    for file in files:
        try:
            weights.update(load_file(file))
        except SafetensorError as error:
            raise MillError(f"{file} is damaged ({error_text(error)})") from error
    named = to_original(weights, config) if layout == "original" else weights
    out.parent.mkdir(parents=True, exist_ok=True)
    kind = torch_dtype(dtype)
    scratch = out.with_name(out.name + "~")
    save_file({key: tensor.to(kind).contiguous() for key, tensor in named.items()}, scratch, {"format": "pt"})
    obey_umask(scratch)
    scratch.replace(out)
    return len(named)
