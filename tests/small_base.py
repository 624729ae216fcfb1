"""A Stable Diffusion, and an XL, so small that a run of a few steps takes a second; its weights are random."""

from __future__ import annotations

from pathlib import Path

import torch
from diffusers import (
    AutoencoderKL,
    DDIMScheduler,
    EulerDiscreteScheduler,
    StableDiffusionPipeline,
    StableDiffusionXLPipeline,
    UNet2DConditionModel,
)
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection

from recipes.tiny_base.scenes import caption_words
from recipes.tiny_base.tokens import make_tokenizer, write_vocabulary


def small_unet() -> UNet2DConditionModel:
    return UNet2DConditionModel(
        sample_size=16,
        in_channels=4,
        out_channels=4,
        layers_per_block=1,
        block_out_channels=(16, 32),
        down_block_types=("CrossAttnDownBlock2D", "DownBlock2D"),
        up_block_types=("UpBlock2D", "CrossAttnUpBlock2D"),
        cross_attention_dim=32,
        attention_head_dim=2,
        norm_num_groups=8,
    )


def small_vae(**settings: float) -> AutoencoderKL:
    return AutoencoderKL(
        block_out_channels=(8, 8, 16),
        down_block_types=("DownEncoderBlock2D",) * 3,
        up_block_types=("UpDecoderBlock2D",) * 3,
        layers_per_block=1,
        norm_num_groups=4,
        latent_channels=4,
        sample_size=64,
        mid_block_add_attention=False,
        **settings,
    )


def save_small_base(folder: Path, prediction: str = "epsilon") -> Path:
    torch.manual_seed(0)
    tokenizer = make_tokenizer(caption_words(), 24)
    text = CLIPTextConfig(
        vocab_size=len(tokenizer),
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=1,
        num_attention_heads=2,
        max_position_embeddings=24,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    StableDiffusionPipeline(
        vae=small_vae(),
        text_encoder=CLIPTextModel(text),
        tokenizer=tokenizer,
        unet=small_unet(),
        scheduler=DDIMScheduler(steps_offset=1, clip_sample=False, prediction_type=prediction),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    ).save_pretrained(folder)
    write_vocabulary(caption_words(), folder / "tokenizer")
    return folder


def save_small_xl(folder: Path) -> Path:
    """A Stable Diffusion XL as small; its tokenizers pad differently, as those of the real one."""
    torch.manual_seed(0)
    first, second = (make_tokenizer(caption_words(), 24) for _ in range(2))
    second.pad_token = "!"
    width, told = 32, 8
    text = {
        "vocab_size": len(first),
        "intermediate_size": 64,
        "num_attention_heads": 2,
        "max_position_embeddings": 24,
        "bos_token_id": first.bos_token_id,
        "eos_token_id": first.eos_token_id,
    }
    texts = [
        CLIPTextConfig(num_hidden_layers=2, hidden_size=width, pad_token_id=first.pad_token_id, **text),
        # a single file is known to be of an XL by its tenth layer
        CLIPTextConfig(num_hidden_layers=10, hidden_size=2 * width, projection_dim=48, hidden_act="gelu", **text),
    ]
    unet = UNet2DConditionModel(
        sample_size=16,
        layers_per_block=1,
        block_out_channels=(16, 32),
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
        transformer_layers_per_block=[1, 2],
        cross_attention_dim=3 * width,
        attention_head_dim=[2, 4],
        use_linear_projection=True,
        addition_embed_type="text_time",
        addition_time_embed_dim=told,
        projection_class_embeddings_input_dim=48 + 6 * told,
        norm_num_groups=8,
    )
    StableDiffusionXLPipeline(
        vae=small_vae(scaling_factor=0.13025),
        text_encoder=CLIPTextModel(texts[0]),
        text_encoder_2=CLIPTextModelWithProjection(texts[1]),
        tokenizer=first,
        tokenizer_2=second,
        unet=unet,
        scheduler=EulerDiscreteScheduler(
            beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear", steps_offset=1
        ),
        add_watermarker=False,
    ).save_pretrained(folder)
    for part in ("tokenizer", "tokenizer_2"):
        write_vocabulary(caption_words(), folder / part)
    return folder
