"""A base in one ``.safetensors`` file, in the layout of the original Stable Diffusion, read by diffusers.

Such a file holds weights alone. Configuration and tokenizer come from, in this order: a folder of its name beside the
file (``model.safetensors``, ``model/``) that holds a diffusers pipeline, with or without weights; the hub's cache; the
hub. Which of the hub's pipelines is meant is told by the file's own keys, as diffusers tells it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import diffusers
import torch
from diffusers.loaders.single_file_utils import fetch_diffusers_config, infer_diffusers_model_type
from safetensors import SafetensorError, safe_open

from controlmill.schemas.errors import MillError

from .files import file_of
from .parts import ONE_TEXT, TWO_TEXTS, UNCHECKED

UNET, VAE, TEXT, TEXTS = "model.diffusion_model.", "first_stage_model.", "cond_stage_model.", "conditioner.embedders."
CONFIGURATION = ("model_index.json", "unet/config.json", "vae/config.json", "scheduler/scheduler_config.json")
OF_TOKENIZER = ("vocab.json", "merges.txt", "tokenizer_config.json")
FIRST = f"{UNET}input_blocks.0.0.weight"  # (channels, latent channels, 3, 3)
WIDTH = ".attn2.to_k.weight"  # (channels, width of the text)
FIRST_OF_VAE = f"{VAE}encoder.conv_in.weight"


@dataclass(frozen=True)
class Layout:
    """Of the files of a family.

    Args:
        pipeline: the class of diffusers that loads one.
        text: what the keys of text encoders begin with.
        text_encoders: their parts of the pipeline, and those of their tokenizers.
        settings: of the pipeline, in place of parts that no file has.
    """

    pipeline: str
    text: str
    text_encoders: Mapping[str, str]
    settings: Mapping[str, Any] = field(default_factory=dict)

    @property
    def files(self) -> list[str]:
        """The configuration that a file needs beside it, without that of tokenizers."""
        return [*CONFIGURATION, *(f"{part}/config.json" for part in self.text_encoders)]

    @property
    def parts(self) -> list[str]:
        """Networks and tokenizers, by their part of the pipeline."""
        return ["unet", "vae", *self.text_encoders, *self.text_encoders.values()]


FIRST_LAYOUT = Layout("StableDiffusionPipeline", TEXT, ONE_TEXT, {**UNCHECKED, "requires_safety_checker": False})
XL_LAYOUT = Layout("StableDiffusionXLPipeline", TEXTS, TWO_TEXTS)
LAYOUTS = {"v1": FIRST_LAYOUT, "v2": FIRST_LAYOUT, "xl_base": XL_LAYOUT}  # by diffusers' name of the family


def read_shapes(path: Path) -> tuple[dict[str, torch.Tensor], Layout]:
    """Key → a tensor of its shape on the meta device, and the layout: the file's head is read, no weight is.

    Raises:
        MillError: not a .safetensors file, or not a whole Stable Diffusion 1.x, 2.x or XL.
    """
    try:
        with safe_open(path, "pt") as file:
            shapes = {key: torch.empty(file.get_slice(key).get_shape(), device="meta") for key in file.keys()}  # noqa: SIM118
    except (SafetensorError, OSError) as error:
        raise MillError(f"--base {path}: cannot be read as .safetensors: {error}") from error
    family = infer_diffusers_model_type(shapes)
    layout = LAYOUTS.get(family)
    parts = (UNET, VAE, (layout or FIRST_LAYOUT).text)
    absent = [part for part in parts if not any(key.startswith(part) for key in shapes)]
    if layout is None or absent or FIRST not in shapes or FIRST_OF_VAE not in shapes:
        said = f"it has no {', '.join(f'{part}*' for part in absent)}" if absent else f"it looks like {family}"
        raise MillError(
            f"--base {path}: not a whole Stable Diffusion 1.x, 2.x or XL in the original layout ({said}); "
            "for others give a diffusers folder"
        )
    return shapes, layout


def configuration(path: Path) -> str:
    """The folder with configuration and tokenizers of a single file; nothing is loaded.

    Raises:
        MillError: it cannot be had, with what to fetch; or it does not fit the file.
    """
    shapes, layout = read_shapes(path)
    beside = path.with_suffix("")
    if beside.is_dir():
        if absent := _absent(beside, layout):
            raise MillError(f"--base {path}: the folder {beside} beside it has no {', '.join(absent)}")
        return str(beside)
    repository: str = fetch_diffusers_config(shapes)["pretrained_model_name_or_path"]
    tokenizers = [f"{part}/{file}" for part in layout.text_encoders.values() for file in OF_TOKENIZER]
    try:
        return str([file_of(repository, name) for name in (*tokenizers, *layout.files)][-1].parents[1])
    except OSError as error:
        needed = ", ".join([*layout.files, *(f"{part}/" for part in layout.text_encoders.values())])
        raise MillError(
            f"--base {path}: the file holds weights alone, and its configuration is neither beside it nor in the Hub's "
            f"cache ({str(error).splitlines()[0]}). Put {needed} of {repository}, or of what the file was made from, "
            f"into the folder {beside}"
        ) from error


def _absent(folder: Path, layout: Layout) -> list[str]:
    """What a folder of configuration lacks."""
    names = [name for name in layout.files if not (folder / name).is_file()]
    return [*names, *(f"{part}/" for part in layout.text_encoders.values() if not (folder / part).is_dir())]


def check_fits(path: Path, unet: dict[str, Any], vae: dict[str, Any]) -> None:
    """Raise MillError where a configuration belongs to another model than the file; nothing is loaded."""
    shapes, _ = read_shapes(path)
    width = next((tensor.shape[1] for key, tensor in shapes.items() if key.endswith(WIDTH)), None)
    pairs = {
        "block_out_channels[0]": (unet["block_out_channels"][0], shapes[FIRST].shape[0]),
        "in_channels": (unet["in_channels"], shapes[FIRST].shape[1]),
        "cross_attention_dim": (unet["cross_attention_dim"], width),
        "vae block_out_channels[0]": (vae["block_out_channels"][0], shapes[FIRST_OF_VAE].shape[0]),
    }
    wrong = [f"{name} is {said}, the file has {found}" for name, (said, found) in pairs.items() if said != found]
    if wrong:
        raise MillError(f"--base {path}: its configuration is of another model: {'; '.join(wrong)}")


_kept: dict[tuple[Path, str, int], Any] = {}  # (file, part, when the file was changed) → what was loaded from it


def keep(path: Path, part: str, network: Any) -> None:
    """Keep what was loaded from a file for the next one who loads it."""
    _kept[path, part, path.stat().st_mtime_ns] = network


def load_network(path: Path, folder: str, part: str) -> Any:
    """A network of a file, float32, on the CPU, configured by ``folder``; no other part is loaded.

    One that is kept is given away: nobody else gets it.

    Raises:
        MillError: the weights do not fit the configuration.
    """
    if kept := _kept.pop((path, part, path.stat().st_mtime_ns), None):
        return kept
    layout = read_shapes(path)[1]
    left_out = {other: None for other in layout.parts if other != part}
    try:
        loaded = getattr(diffusers, layout.pipeline).from_single_file(
            str(path), config=folder, dtype=torch.float32, local_files_only=True, **layout.settings, **left_out
        )
    except (ValueError, KeyError, RuntimeError) as error:
        raise MillError(f"--base {path}: its weights do not fit the configuration in {folder}: {error}") from error
    network = getattr(loaded, part)
    absent = [key for key, value in network.state_dict().items() if value.is_meta]
    if absent:
        raise MillError(f"--base {path}: {len(absent)} weights are not there: {', '.join(absent[:3])} …")
    return network
