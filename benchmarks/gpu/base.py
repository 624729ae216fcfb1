"""A base of Stable Diffusion 1.5's architecture with random weights, or a tiny one of the same classes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from diffusers import AutoencoderKL, DDIMScheduler, StableDiffusionPipeline, UNet2DConditionModel
from transformers import CLIPTextConfig, CLIPTextModel

from recipes.tiny_base.tokens import make_tokenizer, write_vocabulary

WORDS = ("a", "photograph", "of", "something")
TOKENS = 77
WHOLE: dict[str, dict[str, Any]] = {
    "unet": {"sample_size": 64, "cross_attention_dim": 768},  # the rest is 1.5's by default
    "vae": {"block_out_channels": (128, 256, 512, 512), "layers_per_block": 2, "sample_size": 512},
    "text": {"vocab_size": 49408, "hidden_size": 768, "intermediate_size": 3072, "num_hidden_layers": 12},
}
TOY: dict[str, dict[str, Any]] = {
    "unet": {
        "sample_size": 8,
        "cross_attention_dim": 32,
        "block_out_channels": (16, 32, 32, 32),
        "layers_per_block": 1,
        "attention_head_dim": 2,
        "norm_num_groups": 8,
    },
    "vae": {"block_out_channels": (8, 8, 8, 8), "layers_per_block": 1, "sample_size": 64, "norm_num_groups": 4},
    "text": {"vocab_size": 1024, "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 1},
}


def write_base(folder: Path, toy: bool, device: str) -> Path:
    """The pipeline's folder; weights are drawn on the device, which is much sooner."""
    settings = TOY if toy else WHOLE
    tokenizer = make_tokenizer(WORDS, TOKENS)
    blocks = len(settings["vae"]["block_out_channels"])
    torch.manual_seed(0)
    with torch.device(device):
        unet = UNet2DConditionModel(**settings["unet"])
        vae = AutoencoderKL(
            latent_channels=4,
            down_block_types=("DownEncoderBlock2D",) * blocks,
            up_block_types=("UpDecoderBlock2D",) * blocks,
            **settings["vae"],
        )
        text = CLIPTextModel(
            CLIPTextConfig(
                max_position_embeddings=TOKENS,
                num_attention_heads=settings["text"]["hidden_size"] // (64 if not toy else 16),
                bos_token_id=tokenizer.bos_token_id,
                eos_token_id=tokenizer.eos_token_id,
                pad_token_id=tokenizer.pad_token_id,
                **settings["text"],
            )
        )
    StableDiffusionPipeline(
        vae=vae,
        text_encoder=text,
        tokenizer=tokenizer,
        unet=unet,
        scheduler=DDIMScheduler(steps_offset=1, clip_sample=False, beta_schedule="scaled_linear"),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    ).save_pretrained(folder)
    write_vocabulary(WORDS, folder / "tokenizer")
    return folder
