"""Stable Diffusion 1.x and 2.x, loaded: a UNet that attends to the last hidden state of one CLIP text encoder."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from controlmill.annotators.runtime.torch_device import torch_dtype

from .base import Base, Prompt
from .configuration import Connection, Unlock, is_single_file
from .controlnet_file import load_file_controlnet
from .diffusion_schedule import DiffusionSchedule
from .encoders import EMBEDDING, MOMENTS, tokens_of
from .networks import UnreadTokenizer, load_networks, networks_without_weights, read_guidance
from .sampling import AfterStep, Control, Denoising, SamplerName
from .stable_diffusion_config import StableDiffusionConfig
from .stock_pipeline import make_pipeline, sample_latents

if TYPE_CHECKING:
    import torch
    from torch import nn

MOST_TOKENS = 77  # CLIP's, where a configuration does not say


class StableDiffusion(Base):
    """A loaded one; what it is given is as it leaves :meth:`StableDiffusionFacts.load`."""

    guidance = 9.0  # paper
    plain_pipeline = "StableDiffusionPipeline"
    of_pipeline: ClassVar[Mapping[str, bool]] = {"requires_safety_checker": False}

    def __init__(
        self,
        facts: StableDiffusionConfig,
        networks: Mapping[str, Any],
        tokenizers: Mapping[str, Any],
        device: torch.device,
        dtype: torch.dtype,
        guidance: float,
    ):
        self.facts: StableDiffusionConfig = facts
        self.networks, self.tokenizers, self.device, self.dtype = networks, tokenizers, device, dtype
        self.denoiser, self.vae, self.text_encoder = (networks[part] for part in ("unet", "vae", "text_encoder"))
        self.guidance = guidance
        self.schedule = DiffusionSchedule(facts.scheduler, device)

    def latent_shape(self, height: int, width: int) -> tuple[int, int, int]:
        """(channels, h, w) of the latents of a picture."""
        factor = self.facts.vae_factor
        return self.facts.vae["latent_channels"], height // factor, width // factor

    def encode_images(self, pixels: torch.Tensor, noise: torch.Tensor | None) -> torch.Tensor:
        """See :meth:`base.Base.encode_images`."""
        import torch

        with torch.no_grad():
            posterior = self.vae.encode(pixels.to(self.device, self.vae.dtype)).latent_dist
            latents: torch.Tensor = posterior.mean.float()
            if noise is not None:
                latents = latents + posterior.std.float() * noise.to(self.device)
            return latents * self.vae.config.scaling_factor

    def latents_from(self, arrays: Mapping[str, torch.Tensor], noise: torch.Tensor) -> torch.Tensor:
        """See :meth:`base.Base.latents_from`."""
        mean, std = arrays[MOMENTS].unbind(1)
        latents: torch.Tensor = (mean + std * noise) * self.vae.config.scaling_factor
        return latents

    def decode(self, latents: torch.Tensor) -> torch.Tensor:
        """See :meth:`base.Base.decode`."""
        import torch

        with torch.no_grad():
            decoded: torch.Tensor = self.vae.decode(latents.to(self.vae.dtype) / self.vae.config.scaling_factor).sample
            return decoded.float()

    def encode_prompts(self, prompts: Sequence[str]) -> Prompt:
        """``embedding``: (N, tokens, width), in the base's dtype."""
        import torch

        with torch.no_grad():
            tokens = tokens_of(self.tokenizers["tokenizer"], prompts).to(self.device)
            return Prompt({EMBEDDING: self.text_encoder(tokens)[0]})

    def make_controlnet(self, connection: Connection, seed: int) -> Any:
        """See :func:`controlnet.make_controlnet`."""
        from .controlnet import make_controlnet

        return make_controlnet(self.denoiser, connection, self.facts.vae_factor, 3, seed)

    def controlnet_class(self, connection: Connection) -> Any:
        """ControlNetModel, or its subclass for lite ones."""
        from .controlnet import controlnet_class

        return controlnet_class(connection)

    def load_controlnet(self, address: str, connection: Connection = "zero") -> Any:
        """See :func:`controlnet.load_controlnet`, and :func:`controlnet_file.load_file_controlnet`."""
        from .controlnet import load_controlnet

        if is_single_file(address):
            return load_file_controlnet(Path(address), self.facts.unet)
        return load_controlnet(address, connection)

    def uses_skips(self, controlnet: Any) -> bool:
        """See :func:`controlnet.is_connected`."""
        from .controlnet import is_connected

        return is_connected(controlnet)

    def choose_trainable(
        self, controlnet: Any, only_mid: bool, unlock: Unlock
    ) -> tuple[list[nn.Parameter], list[nn.Parameter]]:
        """See :func:`controlnet.choose_trainable`."""
        from .controlnet import choose_trainable, round_frozen

        chosen = choose_trainable(controlnet, self.denoiser, only_mid, unlock)
        round_frozen(self.denoiser, self.dtype)
        return chosen

    def controlled(self, controlnet: Any | None) -> nn.Module:
        """See :class:`controlnet.ControlledDenoiser`."""
        from .controlnet import ControlledDenoiser

        return ControlledDenoiser(self.denoiser, controlnet)

    def pipeline(self, controlnet: Any | None = None, sampler: SamplerName = "ddim") -> Any:
        """See :func:`stock_pipeline.make_pipeline`."""
        parts = {**self.networks, **self.tokenizers, **self.facts.left_out, **self.of_pipeline}
        kind = self.plain_pipeline if controlnet is None else self.facts.pipeline
        return make_pipeline(kind, parts, self.facts.scheduler, controlnet, sampler)

    def prompt_arguments(self, prompt: Prompt) -> dict[str, torch.Tensor]:
        """What the stock pipelines are given of a prompt; of a negative one with ``negative_`` before the names."""
        return {"prompt_embeds": prompt[EMBEDDING]}

    def sample(
        self,
        prompt: Prompt,
        negative: Prompt,
        controls: Sequence[Control],
        latents: torch.Tensor,
        how: Denoising,
        after_step: AfterStep | None = None,
    ) -> torch.Tensor:
        """See :meth:`base.Base.sample`: networks run under autocast as in training, the sampler's state is float32."""
        import torch

        from .control import AddedControlNets

        added = AddedControlNets(controls, how.guidance_weighting) if controls else None
        pipeline = self.pipeline(added, how.sampler)
        how = replace(how, guidance_scale=how.guidance_scale or self.guidance)
        prompts, start = self.prompt_arguments(prompt), latents.to(self.device)
        prompts |= {f"negative_{name}": tensor for name, tensor in self.prompt_arguments(negative).items()}
        with torch.autocast(self.device.type, self.dtype, self.dtype != torch.float32):
            return sample_latents(pipeline, prompts, controls, start, how, after_step)

    def fingerprint(self) -> str:
        """See :meth:`StableDiffusionConfig.fingerprint`."""
        return self.facts.fingerprint(self.tokenizers)


class StableDiffusionFacts(StableDiffusionConfig):
    """What is known of one from its configuration files, and how it is loaded."""

    def kind(self) -> type[StableDiffusion]:
        """The class of the loaded base."""
        return StableDiffusion

    def load(self, device: torch.device, precision: str = "fp32", trainable: bool = False) -> StableDiffusion:
        """See :meth:`base.Facts.load`."""
        networks = load_networks(self.name, self.parts, device, precision, trainable)
        tokenizers, kind = self.load_tokenizers(), self.kind()
        return kind(self, networks, tokenizers, device, torch_dtype(precision), read_guidance(self.name, kind.guidance))

    def without_weights(self, precision: str) -> StableDiffusion:
        """See :meth:`base.Facts.without_weights`."""
        import torch

        networks = networks_without_weights({part: getattr(self, part) for part in self.parts}, precision)
        tokenizers = {
            self.text_encoders[part]: UnreadTokenizer(int(config.get("max_position_embeddings", MOST_TOKENS)))
            for part, config in self.text_configs.items()
        }
        kind = self.kind()
        return kind(self, networks, tokenizers, torch.device("cpu"), torch_dtype(precision), kind.guidance)
