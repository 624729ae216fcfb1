"""Stable Diffusion XL: a UNet that attends to two CLIP text encoders, and is told a pooled text and picture sizes.

Sizes (Podell et al. 2023, section 2.2: original size, crop, target size) are those of the picture at hand, uncropped,
as the stock pipelines sample: a ControlNet is trained on what it will be given. A dropped prompt is zeros in the
authors' training code (generative-models, ``sgm/modules/encoders/modules.py``), and so is an absent negative prompt in
the stock pipelines where ``model_index.json`` says ``force_zeros_for_empty_prompt``; here they stand for every empty
prompt of such a base.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from controlmill.schemas.errors import MillError
from controlmill.schemas.tables import EMBEDDINGS, LATENTS

from .base import Encoder, Prompt
from .encoders import EMBEDDING, POOLED, TwoTextEncoders, VaeEncoder, two_texts
from .parts import TWO_TEXTS
from .stable_diffusion import StableDiffusion, StableDiffusionFacts

if TYPE_CHECKING:
    import torch
    from torch import nn

SIZES = 6  # numbers that the UNet is told: original, crop, target; height or top first


@dataclass(frozen=True)
class StableDiffusionXLFacts(StableDiffusionFacts):
    """What configuration files of one say, as they are."""

    text_encoder_2: dict[str, Any]
    index: dict[str, Any]

    encoders: ClassVar[Mapping[str, type[Encoder]]] = {LATENTS: VaeEncoder, EMBEDDINGS: TwoTextEncoders}
    pipeline: ClassVar[str] = "StableDiffusionXLControlNetPipeline"
    left_out: ClassVar[Mapping[str, Any]] = {}
    files: ClassVar[Sequence[str]] = (*StableDiffusionFacts.files, "text_encoder_2/config.json", "model_index.json")
    text_encoders: ClassVar[Mapping[str, str]] = TWO_TEXTS
    shared: ClassVar[Sequence[str]] = (
        *StableDiffusionFacts.shared,
        "transformer_layers_per_block",
        "addition_embed_type",
        "projection_class_embeddings_input_dim",
    )

    def check_text(self) -> None:
        """See :meth:`StableDiffusionConfig.check_text`."""
        told = self.unet.get("addition_time_embed_dim") or 0
        pairs = {
            "addition_embed_type": (self.unet.get("addition_embed_type"), "text_time"),
            "cross_attention_dim": (self.unet["cross_attention_dim"], self.text_width),
            "projection_class_embeddings_input_dim": (
                self.unet.get("projection_class_embeddings_input_dim"),
                self.text_encoder_2.get("projection_dim", 0) + SIZES * told,
            ),
        }
        wrong = [f"{name} is {found}, not {wanted}" for name, (found, wanted) in pairs.items() if found != wanted]
        if wrong:
            raise MillError(f"--base {self.name}: its UNet does not fit its text encoders: {'; '.join(wrong)}")
        if self.vae.get("latents_mean") or self.vae.get("latents_std"):
            raise MillError(
                f"--base {self.name}: its latents have a mean and a deviation; such bases are not supported"
            )

    @property
    def has_zeros(self) -> bool:
        """Whether zeros stand for the empty prompt."""
        return bool(self.index.get("force_zeros_for_empty_prompt", True))

    def kind(self) -> type[StableDiffusion]:
        """See :meth:`StableDiffusionFacts.kind`."""
        return StableDiffusionXL


class StableDiffusionXL(StableDiffusion):
    """A loaded one."""

    guidance = 5.0  # of the stock pipelines
    plain_pipeline = "StableDiffusionXLPipeline"
    of_pipeline: ClassVar[Mapping[str, bool]] = {"add_watermarker": False}
    facts: StableDiffusionXLFacts

    def encode_prompts(self, prompts: Sequence[str]) -> Prompt:
        """``embedding``, (N, tokens, width), and ``pooled``, (N, width), in the base's dtype."""
        import torch

        with torch.no_grad():
            encoders = [self.networks[part] for part in self.facts.text_encoders]
            embedding, pooled = two_texts(encoders, list(self.tokenizers.values()), prompts, self.device)
            if self.facts.has_zeros:
                said = torch.tensor([bool(prompt) for prompt in prompts]).to(self.device, pooled.dtype)[:, None]
                embedding, pooled = embedding * said[:, :, None], pooled * said
            return Prompt({EMBEDDING: embedding, POOLED: pooled})

    def prompt_arguments(self, prompt: Prompt) -> dict[str, torch.Tensor]:
        """See :meth:`StableDiffusion.prompt_arguments`."""
        return {**super().prompt_arguments(prompt), "pooled_prompt_embeds": prompt[POOLED]}

    def controlled(self, controlnet: Any | None) -> nn.Module:
        """See :meth:`base.Base.controlled`."""
        from .controlnet import ControlledDenoiserXL

        return ControlledDenoiserXL(self.denoiser, controlnet, self.facts.vae_factor)
