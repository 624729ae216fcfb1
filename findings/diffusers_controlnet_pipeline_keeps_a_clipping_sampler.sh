#!/usr/bin/env bash
# diffusers 0.42.1, with torch 2.14.1 and transformers 5.23.0
#
# What: DDIMScheduler clips the predicted picture to -1 to 1 unless its configuration says clip_sample false, which is
#   right for pixels and wrong for latents. StableDiffusionPipeline sets it to false when it is made, with a notice;
#   StableDiffusionControlNetPipeline takes the same scheduler as it is.
# Seen: one UNet, one noise, one prompt, and a new ControlNet, whose zero convolutions add exactly nothing: with
#   clip_sample true the two pipelines give different latents (largest difference as large as the latents), with false
#   the same bits.
# Guessed: a ControlNet that adds nothing changes no picture, whatever scheduler the base was saved with.
#
# It matters for bases that were saved with a scheduler made by hand: "without control" and "with" then differ by the
# sampler. DDIMScheduler.from_config(config, clip_sample=False) is right for both.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check diffusers==0.42.1 torch==2.14.1 transformers==5.23.0
HF_HUB_OFFLINE=1 "$folder/venv/bin/python" - <<'PY'
import diffusers
import torch
from diffusers import (
    AutoencoderKL,
    ControlNetModel,
    DDIMScheduler,
    StableDiffusionControlNetPipeline,
    StableDiffusionPipeline,
    UNet2DConditionModel,
)

diffusers.logging.set_verbosity_error()
torch.manual_seed(0)
side, width = 8, 8
unet = UNet2DConditionModel(
    sample_size=side,
    block_out_channels=(8, 16),
    layers_per_block=1,
    norm_num_groups=4,
    down_block_types=("CrossAttnDownBlock2D", "DownBlock2D"),
    up_block_types=("UpBlock2D", "CrossAttnUpBlock2D"),
    cross_attention_dim=width,
    attention_head_dim=2,
)
vae = AutoencoderKL(block_out_channels=(8,), norm_num_groups=4)
controlnet = ControlNetModel.from_unet(unet, conditioning_embedding_out_channels=(8,))
noise, texts = torch.randn(1, 4, side, side), torch.randn(2, 1, 4, width)
parts = dict.fromkeys(("text_encoder", "tokenizer", "safety_checker", "feature_extractor"))


def sampled(kind, clip, made=None, called=None):
    scheduler = DDIMScheduler(clip_sample=clip, steps_offset=1)
    pipeline = kind(
        vae=vae, unet=unet, scheduler=scheduler, requires_safety_checker=False, **parts, **(made or {})
    )
    pipeline.set_progress_bar_config(disable=True)
    latents = pipeline(
        prompt_embeds=texts[0],
        negative_prompt_embeds=texts[1],
        latents=noise,
        height=side,
        width=side,
        num_inference_steps=4,
        output_type="latent",
        **(called or {}),
    ).images
    return latents, pipeline.scheduler.config.clip_sample


for clip in (True, False):
    plain, mended = sampled(StableDiffusionPipeline, clip)
    control = {"image": torch.zeros(1, 3, side, side)}
    controlled, kept = sampled(StableDiffusionControlNetPipeline, clip, {"controlnet": controlnet}, control)
    apart = float((plain - controlled).abs().max())
    print(f"clip_sample {clip}: plain pipeline {mended}, with a ControlNet {kept}; latents apart by {apart:.3g}")
    assert mended is False
    assert kept is clip
    assert (apart > 1) if clip else apart == 0
PY
