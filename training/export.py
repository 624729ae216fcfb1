"""Export: a ControlNet's weights under the keys of the original repository, which web interfaces read.

Source of the names: ``cldm/cldm.py`` of lllyasviel/ControlNet and the ``openaimodel.py`` of ldm; diffusers converts the
other way in ``loaders/single_file_utils.py`` (``convert_controlnet_checkpoint``).
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from controlmill.annotators.runtime.torch_device import DTYPES, torch_dtype
from controlmill.bases.configuration import read_controlnet_config
from controlmill.schemas.errors import MillError, error_text
from controlmill.schemas.files.permissions import obey_umask

if TYPE_CHECKING:
    import torch

PREFIX = "control_model."
WIDTHS = {768: "1.x", 1024: "2.x"}  # of the text that a Stable Diffusion attends to
CHANNELS, HALVINGS = [320, 640, 1280, 1280], 4  # of all of them
RESNET = {
    "norm1": "in_layers.0",
    "conv1": "in_layers.2",
    "time_emb_proj": "emb_layers.1",
    "norm2": "out_layers.0",
    "conv2": "out_layers.3",
    "conv_shortcut": "skip_connection",
}


def original_modules(config: Mapping[str, Any]) -> dict[str, str]:
    """Module name in diffusers → in the original, from a ControlNetModel's configuration."""
    layers, blocks = config["layers_per_block"], len(config["block_out_channels"])
    hints = 2 * (len(config["conditioning_embedding_out_channels"]) - 1)
    names = {
        "conv_in": "input_blocks.0.0",
        "time_embedding.linear_1": "time_embed.0",
        "time_embedding.linear_2": "time_embed.2",
        "controlnet_mid_block": "middle_block_out.0",
        "controlnet_cond_embedding.conv_in": "input_hint_block.0",
        "controlnet_cond_embedding.conv_out": f"input_hint_block.{2 * hints + 2}",
        "mid_block.attentions.0": "middle_block.1",
    }
    for i in range(hints):  # a convolution and a SiLU each
        names[f"controlnet_cond_embedding.blocks.{i}"] = f"input_hint_block.{2 * i + 2}"
    for resnet, place in (("resnets.0", "0"), ("resnets.1", "2")):
        names |= {f"mid_block.{resnet}.{part}": f"middle_block.{place}.{name}" for part, name in RESNET.items()}
    for block in range(blocks):
        first = block * (layers + 1) + 1
        for layer in range(layers):
            place = f"input_blocks.{first + layer}"
            resnet = f"down_blocks.{block}.resnets.{layer}"
            names |= {f"{resnet}.{part}": f"{place}.0.{name}" for part, name in RESNET.items()}
            names[f"down_blocks.{block}.attentions.{layer}"] = f"{place}.1"
        names[f"down_blocks.{block}.downsamplers.0.conv"] = f"input_blocks.{first + layers}.0.op"
    connections = blocks * (layers + 1)  # the first convolution, each layer, each downsampling but the last
    names |= {f"controlnet_down_blocks.{i}": f"zero_convs.{i}.0" for i in range(connections)}
    return names


def to_original(weights: Mapping[str, torch.Tensor], config: Mapping[str, Any]) -> dict[str, torch.Tensor]:
    """Weights under the original's keys.

    Raises:
        MillError: a weight that the original architecture has no place for.
    """
    names = original_modules(config)
    renamed = {}
    for key, tensor in weights.items():
        parts = key.split(".")
        module = next((name for n in range(len(parts), 0, -1) if (name := ".".join(parts[:n])) in names), None)
        if module is None:
            raise MillError(f"{key} has no place in the original layout")
        renamed[PREFIX + names[module] + key[len(module) :]] = tensor
    return renamed


def unreadable(config: Mapping[str, Any]) -> str:
    """Why no web interface loads such a ControlNet, whatever the layout; empty where they do."""
    channels, embedding = list(config["block_out_channels"]), config["conditioning_embedding_out_channels"]
    if config["cross_attention_dim"] in WIDTHS and channels == CHANNELS and len(embedding) == HALVINGS:
        return ""
    return (
        f"no web interface can load this: they read ControlNets of Stable Diffusion {' and '.join(WIDTHS.values())}, "
        f"and this one is of a base of {channels} channels that attends to width {config['cross_attention_dim']} (the "
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
