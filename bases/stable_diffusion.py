"""Stable Diffusion 1.x and 2.x: a UNet that attends to the last hidden state of one CLIP text encoder."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from controlmill.annotators.runtime.torch_device import torch_dtype
from controlmill.schemas.errors import MillError
from controlmill.schemas.tables import EMBEDDINGS, LATENTS

from . import digests
from .base import Base, Encoder, Facts, Prompt
from .configuration import Connection, Unlock, configured_by, is_single_file, location, read_controlnet_config
from .controlnet_file import check_file, load_file_controlnet
from .diffusion_schedule import DiffusionSchedule
from .encoders import EMBEDDING, MOMENTS, TextEncoder, VaeEncoder, tokens_of
from .files import read_config
from .loading import load_part
from .networks import NETWORKS, UnreadTokenizer, load_networks, networks_without_weights, read_guidance
from .sampling import AfterStep, Control, Denoising, SamplerName
from .stock_pipeline import make_pipeline, sample_latents

if TYPE_CHECKING:
    import torch
    from torch import nn

UNET, VAE, TEXT, SCHEDULER = (
    "unet/config.json",
    "vae/config.json",
    "text_encoder/config.json",
    "scheduler/scheduler_config.json",
)
NEEDED = {
    UNET: ("in_channels", "block_out_channels", "layers_per_block", "cross_attention_dim"),
    VAE: ("latent_channels", "block_out_channels"),
}
MOST_TOKENS = 77  # CLIP's, where a configuration does not say


@dataclass(frozen=True)
class StableDiffusionFacts(Facts):
    """What configuration files of one say, as they are."""

    name: str
    unet: dict[str, Any]
    vae: dict[str, Any]
    text_encoder: dict[str, Any]
    scheduler: dict[str, Any]

    encoders: ClassVar[Mapping[str, type[Encoder]]] = {LATENTS: VaeEncoder, EMBEDDINGS: TextEncoder}

    @classmethod
    def read(cls, name: str) -> StableDiffusionFacts:
        """See :meth:`base.Facts.read`."""
        where = configured_by(name)
        facts = cls(name, *(read_config(where, file) for file in (UNET, VAE, TEXT, SCHEDULER)))
        facts._check_whole()
        if is_single_file(name):
            from . import single_file

            single_file.check_fits(Path(location(name)), facts.unet, facts.vae)
        if facts.unet["in_channels"] != facts.vae["latent_channels"]:
            raise MillError(
                f"--base {name}: its UNet takes {facts.unet['in_channels']} channels, its VAE gives "
                f"{facts.vae['latent_channels']}: bases for inpainting and the like are not supported"
            )
        if facts.unet.get("addition_embed_type") or facts.unet.get("encoder_hid_dim_type"):
            raise MillError(f"--base {name}: its UNet takes more than the text of Stable Diffusion 1.x and 2.x")
        return facts

    def _check_whole(self) -> None:
        configs = {UNET: self.unet, VAE: self.vae}
        lacking = [f"{key} in {file}" for file, keys in NEEDED.items() for key in keys if key not in configs[file]]
        if lacking:
            raise MillError(f"--base {self.name}: its configuration is damaged, there is no {', no '.join(lacking)}")

    @property
    def vae_factor(self) -> int:
        """Pixels per latent."""
        return int(2 ** (len(self.vae["block_out_channels"]) - 1))

    @property
    def multiple(self) -> int:
        """Sides of pictures are multiples of this."""
        return int(self.vae_factor * 2 ** (len(self.unet["block_out_channels"]) - 1))

    @property
    def side(self) -> int:
        """See :attr:`base.Facts.side`."""
        size = self.unet.get("sample_size")
        return int(size if isinstance(size, int) else 64) * self.vae_factor

    def check_controlnet(self, address: str, name: str, connection: Connection = "zero") -> None:
        """See :meth:`base.Facts.check_controlnet`."""
        if is_single_file(address):
            check_file(Path(address), self.unet, name)
            return
        config = read_controlnet_config(address, connection)
        for key in ("cross_attention_dim", "block_out_channels", "layers_per_block", "in_channels"):
            if _plain(config.get(key)) != _plain(self.unet[key]):
                raise MillError(f"{name}: its {key} is {config.get(key)}, the base's {self.unet[key]}")
        halvings = len(config["conditioning_embedding_out_channels"])
        if halvings != self.vae_factor.bit_length():
            raise MillError(f"{name}: made for a VAE of factor {2 ** (halvings - 1)}, not {self.vae_factor}")

    def cache_sizes(self, table: str) -> Mapping[str, int]:
        """See :meth:`base.Facts.cache_sizes`."""
        if table == LATENTS:
            return {"channels": self.vae["latent_channels"], "factor": self.vae_factor}
        return {"width": self.unet["cross_attention_dim"]}

    def encoder_digest(self, table: str) -> str:
        """See :meth:`base.Facts.encoder_digest`."""
        if table == LATENTS:
            return digests.vae_digest(self.name, self.vae)
        return digests.text_digest(self.name, self.text_encoder, load_part(self.name, "tokenizer"))

    def encoder_record(self, table: str) -> Mapping[str, Any]:
        """See :meth:`base.Facts.encoder_record`."""
        if table == LATENTS:
            return {"sha256": self.encoder_digest(table), **self.cache_sizes(table)}
        tokenizer = load_part(self.name, "tokenizer")
        digest = digests.text_digest(self.name, self.text_encoder, tokenizer)
        width = self.text_encoder.get("hidden_size", digests.TEXT_SETTINGS["hidden_size"])
        return {"sha256": digest, "width": width, "tokens": tokenizer.model_max_length}

    def fingerprint(self, tokenizer: Any = None) -> str:
        """See :func:`digests.base_digest`; ``tokenizer`` is the base's where it is loaded already."""
        configs = {"unet": self.unet, "vae": self.vae, "scheduler": self.scheduler}
        return digests.base_digest(self.name, NETWORKS, configs, tokenizer or load_part(self.name, "tokenizer"))

    def start_reading(self) -> None:
        """See :meth:`base.Facts.start_reading`."""
        digests.start(self.name, NETWORKS)

    def load(self, device: torch.device, precision: str = "fp32", trainable: bool = False) -> StableDiffusion:
        """See :meth:`base.Facts.load`."""
        networks = load_networks(self.name, device, precision, trainable)
        tokenizer = load_part(self.name, "tokenizer")
        guidance = read_guidance(self.name, StableDiffusion.guidance)
        return StableDiffusion(self, networks, tokenizer, device, torch_dtype(precision), guidance)

    def without_weights(self, precision: str) -> StableDiffusion:
        """See :meth:`base.Facts.without_weights`."""
        import torch

        networks = networks_without_weights(self.unet, self.vae, self.text_encoder, precision)
        tokenizer = UnreadTokenizer(int(self.text_encoder.get("max_position_embeddings", MOST_TOKENS)))
        place, dtype = torch.device("cpu"), torch_dtype(precision)
        return StableDiffusion(self, networks, tokenizer, place, dtype, StableDiffusion.guidance)


def _plain(value: Any) -> Any:
    return list(value) if isinstance(value, (list, tuple)) else value


class StableDiffusion(Base):
    """A loaded one; what it is given is as it leaves :meth:`StableDiffusionFacts.load`."""

    guidance = 9.0  # paper

    def __init__(
        self,
        facts: StableDiffusionFacts,
        networks: Mapping[str, Any],
        tokenizer: Any,
        device: torch.device,
        dtype: torch.dtype,
        guidance: float,
    ):
        self.facts: StableDiffusionFacts = facts
        self.networks, self.tokenizer, self.device, self.dtype = networks, tokenizer, device, dtype
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
            tokens = tokens_of(self.tokenizer, prompts).to(self.device)
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
        return make_pipeline(self.networks, self.tokenizer, self.facts.scheduler, controlnet, sampler)

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
        prompts, start = (prompt[EMBEDDING], negative[EMBEDDING]), latents.to(self.device)
        with torch.autocast(self.device.type, self.dtype, self.dtype != torch.float32):
            return sample_latents(pipeline, prompts, controls, start, how, after_step)

    def fingerprint(self) -> str:
        """See :meth:`StableDiffusionFacts.fingerprint`."""
        return self.facts.fingerprint(self.tokenizer)
