"""What is known of a base from its configuration files alone, read without torch."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from controlmill.annotators.runtime import weights
from controlmill.schemas.errors import MillError

UNET, VAE, TEXT, SCHEDULER = (
    "unet/config.json",
    "vae/config.json",
    "text_encoder/config.json",
    "scheduler/scheduler_config.json",
)
NEEDED_OF_UNET = ("in_channels", "block_out_channels", "layers_per_block", "cross_attention_dim")
TINY = Path(__file__).parent / "tiny"
NEEDED_OF_VAE = ("latent_channels", "block_out_channels")


def location(name: str) -> str:
    """A base's folder, file or hub name; ``tiny`` is the one that comes with ControlMill.

    Raises:
        MillError: there is no such folder or file.
    """
    if name == "tiny":
        if not (TINY / "model_index.json").is_file():
            raise MillError(
                f"the tiny base is missing from this installation ({TINY}): install controlmill again, "
                "or make one with python -m recipes.tiny_base FOLDER (hours on a CPU), then --base FOLDER"
            )
        return str(TINY)
    if name.startswith((".", "/", "~")) or name.endswith((".safetensors", ".ckpt")):
        path = Path(name).expanduser()
        if path.suffix == ".ckpt":
            raise MillError(f"--base {name}: a .ckpt file can run code when it is loaded; convert it to .safetensors")
        if not path.exists():
            raise MillError(f"--base {name}: no such file or folder")
        return str(path)
    return name


Connection = Literal["zero", "gaussian", "lite"]
Unlock = Literal["none", "decoder", "base"]


@dataclass(frozen=True)
class Facts:
    """What is known of a base from its configuration files alone."""

    unet: dict[str, Any]
    vae: dict[str, Any]
    text_encoder: dict[str, Any]
    scheduler: dict[str, Any]

    @property
    def vae_factor(self) -> int:
        """Pixels per latent."""
        return int(2 ** (len(self.vae["block_out_channels"]) - 1))

    @property
    def multiple(self) -> int:
        """Sides of pictures are multiples of this."""
        return int(self.vae_factor * 2 ** (len(self.unet["block_out_channels"]) - 1))

    def check_sizes(self, shapes: list[tuple[int, int]]) -> None:
        """Raise MillError where pictures do not fit the base."""
        for height, width in shapes:
            if height % self.multiple or width % self.multiple:
                raise MillError(
                    f"the base takes sides in multiples of {self.multiple}, the dataset has {width}x{height}: "
                    f"use --crop-size, or ingest again with another --resolution or --fit"
                )

    def check_controlnet(self, config: dict[str, Any], name: str) -> None:
        """Raise MillError where a ControlNet belongs to another base."""
        for key in ("cross_attention_dim", "block_out_channels", "layers_per_block", "in_channels"):
            if _plain(config.get(key)) != _plain(self.unet[key]):
                raise MillError(f"--start-from {name}: its {key} is {config.get(key)}, the base's {self.unet[key]}")
        halvings = len(config["conditioning_embedding_out_channels"])
        if halvings != self.vae_factor.bit_length():
            raise MillError(
                f"--start-from {name}: made for a VAE of factor {2 ** (halvings - 1)}, not {self.vae_factor}"
            )


def _plain(value: Any) -> Any:
    return list(value) if isinstance(value, (list, tuple)) else value


def is_single_file(name: str) -> bool:
    """Whether a base is one ``.safetensors`` file."""
    return name.endswith(".safetensors")


def configured_by(name: str) -> str:
    """The folder, or name on the hub, that has the configuration files and the tokenizer of a base.

    Raises:
        MillError: there is no such base, or a single file's configuration cannot be had.
    """
    where = location(name)
    if not is_single_file(name):
        return where
    from . import single_file

    return single_file.configuration(Path(where))


def read_facts(name: str) -> Facts:
    """Configuration files of a base; no weights are loaded.

    Raises:
        MillError: they cannot be had, or the base is of a family that is not supported.
    """
    where = configured_by(name)
    try:
        facts = Facts(*(read_config(where, file) for file in (UNET, VAE, TEXT, SCHEDULER)))
    except (OSError, ValueError) as error:
        raise MillError(
            f"--base {name}: not found here, and the hub could not give it ({str(error).splitlines()[0]}); "
            "give a folder with a diffusers pipeline, or --base tiny"
        ) from error
    _check_whole(name, facts)
    if is_single_file(name):
        from . import single_file

        single_file.check_fits(Path(location(name)), facts.unet, facts.vae)
    if facts.unet["in_channels"] != facts.vae["latent_channels"]:
        raise MillError(
            f"--base {name}: its UNet takes {facts.unet['in_channels']} channels, its VAE gives "
            f"{facts.vae['latent_channels']}: bases for inpainting and the like are not supported"
        )
    if facts.unet.get("addition_embed_type") or facts.unet.get("encoder_hid_dim_type"):
        raise MillError(f"--base {name}: only Stable Diffusion 1.x and 2.x bases are supported")
    return facts


def _check_whole(name: str, facts: Facts) -> None:
    lacking = [f"{key} in {UNET}" for key in NEEDED_OF_UNET if key not in facts.unet]
    lacking += [f"{key} in {VAE}" for key in NEEDED_OF_VAE if key not in facts.vae]
    if lacking:
        raise MillError(f"--base {name}: its configuration is damaged, there is no {', no '.join(lacking)}")


def read_config(where: str, file: str) -> dict[str, Any]:
    """A configuration file of a folder, or of a repository on the hub: from the hub's cache, else fetched.

    Raises:
        OSError: it cannot be had.
        ValueError: it is no JSON object.
    """
    from huggingface_hub import hf_hub_download, try_to_load_from_cache

    path: Any = Path(where, file)
    if not Path(where).exists():
        path = try_to_load_from_cache(where, file)
        if not isinstance(path, str):
            path = hf_hub_download(where, file, local_files_only=not weights.hub_answers())
    try:
        said = json.loads(Path(path).read_text(encoding="utf-8"))
    except RecursionError as error:
        raise ValueError(f"{path} is nested too deeply") from error
    if not isinstance(said, dict):
        raise ValueError(f"{path} holds no JSON object")
    return said


def read_controlnet_config(folder: str) -> dict[str, Any]:
    """The configuration of a ControlNet.

    Raises:
        MillError: there is none, or it is a lite one, which cannot be started from.
    """
    try:
        config = read_config(folder, "config.json")
    except (OSError, ValueError) as error:
        raise MillError(f"{folder}: no ControlNet there ({str(error).splitlines()[0]})") from error
    if config.get("_class_name") != "ControlNetModel":
        raise MillError(f"{folder} holds a {config.get('_class_name')}, not a ControlNetModel")
    return config
