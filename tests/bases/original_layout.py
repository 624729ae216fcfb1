"""The layout of the original repositories, written from a pipeline of diffusers."""

from __future__ import annotations

from typing import Any

import torch
from transformers import CLIPTextModelWithProjection

from controlmill.bases import single_file
from controlmill.bases.controlnet_file import RESNET, original_modules

OPEN_CLIP = {
    "embeddings.token_embedding.weight": "token_embedding.weight",
    "embeddings.position_embedding.weight": "positional_embedding",
    "final_layer_norm.weight": "ln_final.weight",
    "final_layer_norm.bias": "ln_final.bias",
}
OF_A_BLOCK = (("layer_norm", "ln_"), ("mlp.fc1", "mlp.c_fc"), ("mlp.fc2", "mlp.c_proj"), ("self_attn", "attn"))
VAE_NAMES = (("conv_shortcut", "nin_shortcut"), ("conv_norm_out", "norm_out"), ("group_norm", "norm"))
VAE_NAMES += (("to_q", "q"), ("to_k", "k"), ("to_v", "v"), ("to_out.0", "proj_out"))


def original_layout(pipeline: Any) -> dict[str, torch.Tensor]:
    """A pipeline's weights under the keys of the original Stable Diffusion, or XL: what diffusers' loader undoes."""
    config = {**pipeline.unet.config, "conditioning_embedding_out_channels": (16,)}
    modules = {**original_modules(config), "conv_norm_out": "out.0", "conv_out": "out.2"}
    layers = config["layers_per_block"] + 1
    for block, kind in enumerate(config["up_block_types"]):
        for layer in range(layers):
            at, resnet = f"output_blocks.{block * layers + layer}", f"up_blocks.{block}.resnets.{layer}"
            modules |= {f"{resnet}.{part}": f"{at}.0.{name}" for part, name in RESNET.items()}
            modules[f"up_blocks.{block}.attentions.{layer}"] = f"{at}.1"
        modules[f"up_blocks.{block}.upsamplers.0.conv"] = f"{at}.{2 if 'Attn' in kind else 1}.conv"
    named = {}
    for key, value in pipeline.unet.state_dict().items():
        parts = key.split(".")
        module = next(name for n in range(len(parts), 0, -1) if (name := ".".join(parts[:n])) in modules)
        named[single_file.UNET + modules[module] + key[len(module) :]] = value
    for key, value in pipeline.vae.state_dict().items():
        name = key
        for ours, theirs in VAE_NAMES:
            name = name.replace(ours, theirs)
        name = name.replace("mid_block.attentions.0", "mid.attn_1")
        for i in (0, 1):
            name = name.replace(f"mid_block.resnets.{i}", f"mid.block_{i + 1}")
        last = len(pipeline.vae.config.block_out_channels) - 1
        for i in range(last + 1):
            name = name.replace(f"down_blocks.{i}.", f"down.{i}.").replace(f"up_blocks.{i}.", f"up.{last - i}.")
        name = name.replace("resnets", "block").replace("samplers.0", "sample")
        linear = ".attn_1." in name and value.ndim == 2  # these are 1x1 convolutions in the original
        named[single_file.VAE + name] = value[:, :, None, None] if linear else value
    second = getattr(pipeline, "text_encoder_2", None)
    first = f"{single_file.TEXTS}0." if second else single_file.TEXT
    for key, value in pipeline.text_encoder.state_dict().items():
        named[f"{first}transformer.text_model.{key.removeprefix('text_model.')}"] = value
    if second:
        named |= {f"{single_file.TEXTS}1.model.{key}": value for key, value in open_clip_layout(second).items()}
    return {key: value.contiguous() for key, value in named.items()}


def open_clip_layout(encoder: CLIPTextModelWithProjection) -> dict[str, torch.Tensor]:
    """A text encoder's weights under the keys of OpenCLIP."""
    weights = {key.removeprefix("text_model."): value for key, value in encoder.state_dict().items()}
    named = {theirs: weights.pop(ours) for ours, theirs in OPEN_CLIP.items()}
    named["text_projection"] = weights.pop("text_projection.weight").T
    for key, value in weights.items():
        layer, _, rest = key.removeprefix("encoder.layers.").partition(".")
        at = f"transformer.resblocks.{layer}"
        if rest.startswith("self_attn.q_proj"):
            parts = [weights[key.replace("q_proj", f"{name}_proj")] for name in "qkv"]
            named[f"{at}.attn.in_proj_{rest.rpartition('.')[2]}"] = torch.cat(parts)
        elif not rest.startswith(("self_attn.k_proj", "self_attn.v_proj")):
            for ours, theirs in OF_A_BLOCK:
                rest = rest.replace(ours, theirs)
            named[f"{at}.{rest}"] = value
    return named
