"""What configuration files of Stable Diffusion 1.x and 2.x say, read without torch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Self

from controlmill.schemas.errors import MillError
from controlmill.schemas.tables import EMBEDDINGS, LATENTS

from . import digests
from .base import Encoder, Facts
from .configuration import Connection, configured_by, is_single_file, location, read_controlnet_config
from .controlnet_file import check_file
from .encoders import TextEncoder, VaeEncoder
from .files import read_config
from .loading import load_part
from .parts import ONE_TEXT, UNCHECKED

UNET, VAE, TEXT, SCHEDULER = (
    "unet/config.json",
    "vae/config.json",
    "text_encoder/config.json",
    "scheduler/scheduler_config.json",
)
PREDICTIONS = "epsilon", "v_prediction"  # where the schedule says nothing, the first
NEEDED = {
    UNET: ("in_channels", "block_out_channels", "layers_per_block", "cross_attention_dim"),
    VAE: ("latent_channels", "block_out_channels"),
}


@dataclass(frozen=True)
class StableDiffusionConfig(Facts):
    """What configuration files of one say, as they are; all of :class:`base.Facts` but how it is loaded."""

    name: str
    unet: dict[str, Any]
    vae: dict[str, Any]
    text_encoder: dict[str, Any]
    scheduler: dict[str, Any]

    encoders: ClassVar[Mapping[str, type[Encoder]]] = {LATENTS: VaeEncoder, EMBEDDINGS: TextEncoder}
    pipeline: ClassVar[str] = "StableDiffusionControlNetPipeline"
    left_out: ClassVar[Mapping[str, Any]] = UNCHECKED
    files: ClassVar[Sequence[str]] = (UNET, VAE, TEXT, SCHEDULER)
    text_encoders: ClassVar[Mapping[str, str]] = ONE_TEXT
    shared: ClassVar[Sequence[str]] = ("cross_attention_dim", "block_out_channels", "layers_per_block", "in_channels")

    @classmethod
    def read(cls, name: str) -> Self:
        """See :meth:`base.Facts.read`."""
        where = configured_by(name)
        facts = cls(name, *(read_config(where, file) for file in cls.files))
        facts.check()
        return facts

    def check(self) -> None:
        """Raise MillError where the files are damaged, do not fit each other, or describe what is not supported."""
        configs = {UNET: self.unet, VAE: self.vae}
        lacking = [f"{key} in {file}" for file, keys in NEEDED.items() for key in keys if key not in configs[file]]
        if lacking:
            raise MillError(f"--base {self.name}: its configuration is damaged, there is no {', no '.join(lacking)}")
        if is_single_file(self.name):
            from . import single_file

            single_file.check_fits(Path(location(self.name)), self.unet, self.vae)
        if self.unet["in_channels"] != self.vae["latent_channels"]:
            raise MillError(
                f"--base {self.name}: its UNet takes {self.unet['in_channels']} channels, its VAE gives "
                f"{self.vae['latent_channels']}: bases for inpainting and the like are not supported"
            )
        if (prediction := self.scheduler.get("prediction_type", PREDICTIONS[0])) not in PREDICTIONS:
            raise MillError(
                f"--base {self.name}: it predicts {prediction!r}; supported are {' and '.join(PREDICTIONS)}"
            )
        self.check_text()

    def check_text(self) -> None:
        """Raise MillError where the UNet is given other than what the text encoders say."""
        if self.unet.get("addition_embed_type") or self.unet.get("encoder_hid_dim_type"):
            raise MillError(f"--base {self.name}: its UNet takes more than the text of Stable Diffusion 1.x and 2.x")

    @property
    def text_configs(self) -> Mapping[str, Mapping[str, Any]]:
        """The configuration of each text encoder."""
        return {part: getattr(self, part) for part in self.text_encoders}

    @property
    def text_width(self) -> int:
        """Of what the UNet attends to, as the text encoders give it."""
        usual = digests.TEXT_SETTINGS["hidden_size"]
        return sum(int(config.get("hidden_size", usual)) for config in self.text_configs.values())

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
        for key in self.shared:
            if _plain(config.get(key)) != _plain(self.unet.get(key)):
                raise MillError(f"{name}: its {key} is {config.get(key)}, the base's {self.unet.get(key)}")
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
        return digests.text_digest(self.name, self.text_configs, self.load_tokenizers())

    def encoder_record(self, table: str) -> Mapping[str, Any]:
        """See :meth:`base.Facts.encoder_record`."""
        if table == LATENTS:
            return {"sha256": self.encoder_digest(table), **self.cache_sizes(table)}
        tokenizers = self.load_tokenizers()
        digest = digests.text_digest(self.name, self.text_configs, tokenizers)
        tokens = next(iter(tokenizers.values())).model_max_length
        return {"sha256": digest, "width": self.text_width, "tokens": tokens}

    def load_tokenizers(self) -> dict[str, Any]:
        """The tokenizer of each text encoder, by its part."""
        return {part: load_part(self.name, part) for part in self.text_encoders.values()}

    def fingerprint(self, tokenizers: Mapping[str, Any] | None = None) -> str:
        """See :func:`digests.base_digest`; ``tokenizers`` are the base's where they are loaded already."""
        configs = {"unet": self.unet, "vae": self.vae, "scheduler": self.scheduler}
        return digests.base_digest(self.name, self.parts, configs, tokenizers or self.load_tokenizers())

    @property
    def parts(self) -> tuple[str, ...]:
        """The networks, by their part of a diffusers pipeline."""
        return ("unet", "vae", *self.text_encoders)

    def start_reading(self) -> None:
        """See :meth:`base.Facts.start_reading`."""
        digests.start(self.name, self.parts)


def _plain(value: Any) -> Any:
    return list(value) if isinstance(value, (list, tuple)) else value
