"""A second family of bases, for tests: a Stable Diffusion whose UNet attends to a second text encoder's output too."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import torch
from torch import nn

from controlmill.bases.base import Encoder, Prompt
from controlmill.bases.controlnet import ControlledDenoiser
from controlmill.bases.encoders import TextEncoder, VaeEncoder, tokens_of
from controlmill.bases.loading import load_part
from controlmill.bases.registry import Family
from controlmill.bases.stable_diffusion import StableDiffusion, StableDiffusionFacts

if TYPE_CHECKING:
    from controlmill.annotators.runtime.placement import Placement

SECOND, KIND = "text_encoder_2", "transformers:CLIPTextModel"
FAMILY = Family(
    "two texts",
    {"unet": "UNet2DConditionModel", "text_encoder": "CLIPTextModel", SECOND: "CLIPTextModel"},
    f"{__name__}:TwoTextsFacts",
)


def save_second_base(small_base: Path, folder: Path) -> Path:
    """A base of the family, made of a Stable Diffusion."""
    shutil.copytree(small_base, folder)
    shutil.copytree(folder / "text_encoder", folder / SECOND)
    index = folder / "model_index.json"
    index.write_text(json.dumps({**json.loads(index.read_text()), SECOND: ["transformers", "CLIPTextModel"]}))
    return folder


class TwoTextEncoder(TextEncoder):
    """Captions → ``embedding``, and ``pooled``, float32 (width,)."""

    arrays: ClassVar[tuple[str, ...]] = ("embedding", "pooled")

    def __init__(self, name: str, place: Placement):
        super().__init__(name, place)
        self.second = load_part(name, SECOND, kind=KIND)

    def forward(self, items: Sequence[str]) -> list[dict[str, np.ndarray]]:
        with torch.inference_mode():
            pooled = self.second(tokens_of(self.tokenizer, items)).pooler_output
        return [{**row, "pooled": more.numpy()} for row, more in zip(super().forward(items), pooled, strict=True)]


class TwoTextsFacts(StableDiffusionFacts):
    encoders: ClassVar[Mapping[str, type[Encoder]]] = {"latents": VaeEncoder, "embeddings": TwoTextEncoder}

    def load(self, device: torch.device, precision: str = "fp32", trainable: bool = False) -> TwoTexts:
        plain = super().load(device, precision, trainable)
        networks = {**plain.networks, SECOND: load_part(self.name, SECOND, plain.dtype, KIND).to(device)}
        return TwoTexts(self, networks, plain.tokenizer, device, plain.dtype, plain.guidance)


class TwoTexts(StableDiffusion):
    def encode_prompts(self, prompts: Sequence[str]) -> Prompt:
        with torch.no_grad():
            second: Any = self.networks[SECOND]
            pooled = second(tokens_of(self.tokenizer, prompts).to(self.device)).pooler_output
            return Prompt({**super().encode_prompts(prompts), "pooled": pooled})

    def controlled(self, controlnet: Any | None) -> nn.Module:
        return TwoTextsDenoiser(self.denoiser, controlnet)


class TwoTextsDenoiser(ControlledDenoiser):
    def attended(self, noisy: torch.Tensor, prompt: Mapping[str, torch.Tensor]) -> dict[str, Any]:
        return {"encoder_hidden_states": prompt["embedding"] + prompt["pooled"][:, None]}
