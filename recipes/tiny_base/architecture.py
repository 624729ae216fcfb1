"""The tiny base's networks, tokenizer and scheduler: untrained, and as the folder of a pipeline."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import torch
from diffusers import AutoencoderKL, DDIMScheduler, StableDiffusionPipeline, UNet2DConditionModel
from torch import nn
from transformers import CLIPTextConfig, CLIPTextModel

from .scenes import SIDE, caption_words
from .tokens import make_tokenizer, write_vocabulary

PROMPT_TOKENS = 32
TEXT_WIDTH = 64


def make_parts(seed: int) -> dict[str, Any]:
    """Untrained parts of the pipeline, by their names in it."""
    torch.manual_seed(seed)
    tokenizer = make_tokenizer(caption_words(), PROMPT_TOKENS)
    text_config = CLIPTextConfig(
        vocab_size=len(tokenizer),
        hidden_size=TEXT_WIDTH,
        intermediate_size=2 * TEXT_WIDTH,
        projection_dim=TEXT_WIDTH,
        num_hidden_layers=2,
        num_attention_heads=4,
        max_position_embeddings=PROMPT_TOKENS,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    vae = AutoencoderKL(
        block_out_channels=(16, 32, 64),  # three levels: factor 4
        down_block_types=("DownEncoderBlock2D",) * 3,
        up_block_types=("UpDecoderBlock2D",) * 3,
        layers_per_block=1,
        norm_num_groups=8,
        latent_channels=4,
        sample_size=SIDE,
        mid_block_add_attention=False,
    )
    unet = UNet2DConditionModel(
        sample_size=SIDE // 4,
        in_channels=4,
        out_channels=4,
        layers_per_block=1,
        block_out_channels=(48, 96, 112),
        # no attention at 16×16: it takes half of a step on a CPU, and the levels below see the whole picture
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
        cross_attention_dim=TEXT_WIDTH,
        attention_head_dim=4,  # diffusers' name for the number of heads
        norm_num_groups=16,
    )
    # Flat colours are decided where hardly any signal is left. Betas as in DDPM let none through at the end (those of
    # SD 1.5 do); there only a velocity, as SD 2.1 predicts, tells the picture: an epsilon says what is known.
    scheduler = DDIMScheduler(
        beta_start=1e-4,
        beta_end=0.02,
        beta_schedule="linear",
        prediction_type="v_prediction",
        clip_sample=False,
        set_alpha_to_one=False,
        steps_offset=1,
    )
    return {
        "vae": vae,
        "text_encoder": CLIPTextModel(text_config),
        "tokenizer": tokenizer,
        "unet": unet,
        "scheduler": scheduler,
    }


def save_pipeline(parts: dict[str, Any], folder: Path, dtype: torch.dtype = torch.float16) -> None:
    """Write a folder that ``StableDiffusionPipeline.from_pretrained`` loads."""
    copies = {
        name: copy.deepcopy(part).to(dtype) if isinstance(part, nn.Module) else part for name, part in parts.items()
    }
    copies["text_encoder"].float()  # transformers loads in the stored dtype, diffusers in float32: they would not meet
    pipeline = StableDiffusionPipeline(
        **copies, safety_checker=None, feature_extractor=None, requires_safety_checker=False
    )
    pipeline.save_pretrained(folder)
    write_vocabulary(caption_words(), folder / "tokenizer")
