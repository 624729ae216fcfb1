"""ControlNets in one ``.safetensors`` file: under the keys of the original repository, or under those of diffusers.

Source of the names: ``cldm/cldm.py`` of lllyasviel/ControlNet and the ``openaimodel.py`` of ldm; diffusers converts the
other way in ``loaders/single_file_utils.py`` (``convert_controlnet_checkpoint``).
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from controlmill.schemas.errors import MillError, error_text

if TYPE_CHECKING:
    import torch
    from diffusers import ControlNetModel

PREFIX = "control_model."
HINT = "input_hint_block.{}.weight"  # of the original
OWN_HINT = "controlnet_cond_embedding.{}.weight"  # of diffusers
MOST_HALVINGS = 16
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
        "add_embedding.linear_1": "label_emb.0.0",  # of Stable Diffusion XL
        "add_embedding.linear_2": "label_emb.0.2",
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


def check_file(path: Path, unet: Mapping[str, Any], name: str) -> None:
    """Raise MillError where ``path`` is no ControlNet of a base whose UNet has the configuration ``unet``.

    ``name`` is what the message calls it. The file's head is read, no weight is.
    """
    _described(path, unet, name)


def load_file_controlnet(path: Path, unet: Mapping[str, Any]) -> ControlNetModel:
    """The ControlNet of a file, float32, for a base whose UNet has the configuration ``unet``.

    Raises:
        MillError: it is none.
    """
    import torch
    from safetensors.torch import load_file

    controlnet, keys = _described(path, unet, str(path))
    tensors = load_file(path)
    weights = {key: tensors[stored].to(torch.float32) for key, stored in keys.items()}
    controlnet.load_state_dict(weights, assign=True)
    return controlnet.requires_grad_(True).eval()


def _described(path: Path, unet: Mapping[str, Any], name: str) -> tuple[ControlNetModel, dict[str, str]]:
    """An empty ControlNet as a file's, on the meta device, and the file's key of each of its weights."""
    import torch
    from diffusers import ControlNetModel, UNet2DConditionModel
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, "pt") as file:
            shapes = {key: tuple(file.get_slice(key).get_shape()) for key in file.keys()}  # noqa: SIM118
    except (SafetensorError, OSError) as error:
        raise MillError(f"{name}: cannot be read as .safetensors ({error_text(error)})") from error
    prefix = PREFIX if any(key.startswith(PREFIX) for key in shapes) else ""
    hints = _hints(shapes, prefix)
    if not hints:
        raise MillError(f"{name}: not a ControlNet, neither under the original repository's keys nor diffusers'")
    with torch.device("meta"):
        controlnet: ControlNetModel = ControlNetModel.from_unet(
            UNet2DConditionModel.from_config(dict(unet)),
            load_weights_from_unet=False,
            conditioning_embedding_out_channels=tuple(shape[0] for shape in hints),
            conditioning_channels=hints[0][1],
        )
    wanted = controlnet.state_dict()
    keys = {key: key for key in wanted}
    if OWN_HINT.format("conv_in") not in shapes:
        named = to_original(wanted, controlnet.config)
        keys = {key: prefix + name.removeprefix(PREFIX) for key, name in zip(wanted, named, strict=True)}
    for key, stored in keys.items():
        found = shapes.get(stored)
        if found != tuple(wanted[key].shape):
            said = f"of shape {found}, not {tuple(wanted[key].shape)}" if found else "missing"
            raise MillError(f"{name}: not a ControlNet for this base ({stored} is {said})")
    return controlnet, keys


def _hints(shapes: Mapping[str, tuple[int, ...]], prefix: str) -> list[tuple[int, ...]]:
    """Shapes of the convolutions of a condition's embedding that widen it: the first, and each that halves."""
    own = ["conv_in", *(f"blocks.{i}" for i in range(1, MOST_HALVINGS, 2))]
    for names in ([OWN_HINT.format(place) for place in own], [prefix + HINT.format(4 * i) for i in range(len(own))]):
        if names[0] in shapes:
            return [shapes[name] for name in names if name in shapes and len(shapes[name]) == 4]
    return []
