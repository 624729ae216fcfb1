"""A base in one ``.safetensors`` file, in the layout of the original Stable Diffusion, read by diffusers.

Such a file holds weights alone. Configuration and tokenizer come from, in this order: a folder of its name beside the
file (``model.safetensors``, ``model/``) that holds a diffusers pipeline, with or without weights; the hub's cache; the
hub. Which of the hub's pipelines is meant is told by the file's own keys, as diffusers tells it.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from diffusers import StableDiffusionPipeline
from diffusers.loaders.single_file_utils import fetch_diffusers_config, infer_diffusers_model_type
from safetensors import SafetensorError, safe_open

from controlmill.schemas.errors import MillError

from .files import file_of

FAMILIES = ("v1", "v2")
NEEDED = (
    "model_index.json",
    "unet/config.json",
    "vae/config.json",
    "text_encoder/config.json",
    "scheduler/scheduler_config.json",
)
OF_TOKENIZER = ("tokenizer/vocab.json", "tokenizer/merges.txt", "tokenizer/tokenizer_config.json")
UNET, VAE, TEXT = "model.diffusion_model.", "first_stage_model.", "cond_stage_model."
FIRST = f"{UNET}input_blocks.0.0.weight"  # (channels, latent channels, 3, 3)
WIDTH = ".attn2.to_k.weight"  # (channels, width of the text)
FIRST_OF_VAE = f"{VAE}encoder.conv_in.weight"


def read_shapes(path: Path) -> dict[str, torch.Tensor]:
    """Key → a tensor of its shape on the meta device: the file's head is read, no weight is.

    Raises:
        MillError: not a .safetensors file, or not a whole Stable Diffusion 1.x or 2.x.
    """
    try:
        with safe_open(path, "pt") as file:
            shapes = {key: torch.empty(file.get_slice(key).get_shape(), device="meta") for key in file.keys()}  # noqa: SIM118
    except (SafetensorError, OSError) as error:
        raise MillError(f"--base {path}: cannot be read as .safetensors: {error}") from error
    absent = [part for part in (UNET, VAE, TEXT) if not any(key.startswith(part) for key in shapes)]
    family = infer_diffusers_model_type(shapes)
    if absent or FIRST not in shapes or FIRST_OF_VAE not in shapes or family not in FAMILIES:
        said = f"it has no {', '.join(f'{part}*' for part in absent)}" if absent else f"it looks like {family}"
        raise MillError(
            f"--base {path}: not a whole Stable Diffusion 1.x or 2.x in the original layout ({said}); "
            "for others give a diffusers folder, which the from_single_file of their pipeline makes"
        )
    return shapes


def configuration(path: Path) -> str:
    """The folder with configuration and tokenizer of a single file; nothing is loaded.

    Raises:
        MillError: it cannot be had, with what to fetch; or it does not fit the file.
    """
    shapes = read_shapes(path)
    beside = path.with_suffix("")
    if beside.is_dir():
        if absent := _absent(beside):
            raise MillError(f"--base {path}: the folder {beside} beside it has no {', '.join(absent)}")
        return str(beside)
    repository: str = fetch_diffusers_config(shapes)["pretrained_model_name_or_path"]
    try:
        return str([file_of(repository, name) for name in (*OF_TOKENIZER, *NEEDED)][-1].parents[1])
    except OSError as error:
        raise MillError(
            f"--base {path}: the file holds weights alone, and its configuration is neither beside it nor in the hub's "
            f"cache ({str(error).splitlines()[0]}). Put {', '.join(NEEDED)} and tokenizer/ of {repository}, or of what "
            f"the file was made from, into the folder {beside}"
        ) from error


def _absent(folder: Path) -> list[str]:
    """What a folder of configuration lacks."""
    names = [name for name in NEEDED if not (folder / name).is_file()]
    return names if (folder / "tokenizer").is_dir() else [*names, "tokenizer/"]


def check_fits(path: Path, unet: dict[str, Any], vae: dict[str, Any]) -> None:
    """Raise MillError where a configuration belongs to another model than the file; nothing is loaded."""
    shapes = read_shapes(path)
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


_kept: dict[Path, tuple[int, dict[str, Any]]] = {}  # file → when it was changed, what was loaded from it


def keep(path: Path, modules: dict[str, Any]) -> None:
    """Keep what was loaded from a file for the next one who loads it."""
    _kept[path] = path.stat().st_mtime_ns, modules


def load_modules(path: Path, folder: str) -> dict[str, Any]:
    """``unet``, ``vae`` and ``text_encoder`` of a file, float32, on the CPU, configured by ``folder``.

    Raises:
        MillError: the weights do not fit the configuration.
    """
    changed, modules = _kept.pop(path, (0, {}))
    if modules and changed == path.stat().st_mtime_ns:
        return modules
    try:
        loaded = StableDiffusionPipeline.from_single_file(
            str(path),
            config=folder,
            dtype=torch.float32,
            safety_checker=None,
            feature_extractor=None,
            requires_safety_checker=False,
            local_files_only=True,
        )
    except (ValueError, KeyError, RuntimeError) as error:
        raise MillError(f"--base {path}: its weights do not fit the configuration in {folder}: {error}") from error
    modules = {"unet": loaded.unet, "vae": loaded.vae, "text_encoder": loaded.text_encoder}
    absent = [key for module in modules.values() for key, value in module.state_dict().items() if value.is_meta]
    if absent:
        raise MillError(f"--base {path}: {len(absent)} weights are not there: {', '.join(absent[:3])} …")
    return modules
