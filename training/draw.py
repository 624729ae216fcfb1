"""One picture for a user: a photo is annotated as the run's maps were (or a map is given), and a picture is sampled."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from diffusers import ControlNetModel
from PIL import Image, ImageOps, UnidentifiedImageError
from safetensors.torch import load_file

from ..schemas.conditions import Condition, condition_of_table
from ..schemas.errors import MillError
from .base import Base
from .connections import LiteControlNet
from .data import controlnet_folder
from .fidelity import Judge, make_judge
from .loader import draws
from .run import read_run
from .sampling import sample_pictures, start_noise
from .transforms import control_image, control_picture


def load_controlnet(folder: str, lite: bool) -> ControlNetModel:
    """A trained ControlNet, float32."""
    kind = LiteControlNet if lite else ControlNetModel
    loaded: ControlNetModel = kind.from_pretrained(folder, dtype=torch.float32)
    return loaded.eval()


def draw(
    run: Path,
    image: Path | None,
    control: Path | None,
    prompt: str,
    seed: int,
    count: int,
    steps: int,
    guidance: float,
    device: str,
) -> tuple[list[np.ndarray], np.ndarray]:
    """(pictures, the map as a picture), each uint8 (H, W, 3).

    Raises:
        MillError: no run or no checkpoint; neither or both of ``image`` and ``control``; a file that is no picture; a
            condition that cannot be made here.
    """
    said = read_run(run)
    if said is None:
        raise MillError(f"{run} is not a run (no run.json)")
    if (image is None) == (control is None):
        raise MillError("give --image, a photo to annotate, or --control, a finished map")
    folder = controlnet_folder(str(run))
    config = said["config"]
    provenance = said["provenance"]
    condition = condition_of_table(provenance["table"], provenance["kind"])
    height, width = said["shape"]
    array = _annotated(image, condition, provenance, seed, (width, height)) if image else None
    if array is None:
        assert control is not None
        array = _given(control, condition, (width, height))
    base = Base(config["base"], torch.device(device), "fp32")
    if config["unlock_decoder"]:
        base.unet.load_state_dict(load_file(run / "unet" / "diffusion_pytorch_model.safetensors"))
    controlnet = load_controlnet(folder, config["connection"] == "lite").to(base.device)
    start = start_noise(base, [(0, i) for i in range(count)], seed, height, width)
    picture = np.repeat(control_image(condition.kind, array)[None], count, axis=0)
    pictures = sample_pictures(
        base, controlnet, [prompt] * count, picture, start, steps or config["probe_steps"], guidance or base.guidance
    )
    return pictures, control_picture(condition.kind, array)


def _open(path: Path) -> Image.Image:
    try:
        picture = Image.open(path)
        picture.load()
    except (OSError, UnidentifiedImageError) as error:
        raise MillError(f"{path} cannot be read as a picture: {error}") from error
    return ImageOps.exif_transpose(picture)


def _annotated(
    path: Path, condition: Condition, provenance: dict[str, Any], seed: int, size: tuple[int, int]
) -> np.ndarray:
    judge = make_judge(condition, provenance)
    if not isinstance(judge, Judge):
        raise MillError(f"--image cannot be annotated ({judge}): give a finished map with --control")
    pixels = np.asarray(ImageOps.fit(_open(path).convert("RGB"), size, Image.Resampling.LANCZOS))
    drawn = judge.annotator.draw(draws(seed, 0, (0, 0), "sample"))
    return judge.map_of(pixels, drawn)


def _given(path: Path, condition: Condition, size: tuple[int, int]) -> np.ndarray:
    picture = _open(path)
    if condition.kind == "gray16":
        if not picture.mode.startswith("I"):
            picture = Image.fromarray(np.asarray(picture.convert("L")).astype(np.int32) * 257)
        return np.asarray(ImageOps.fit(picture, size, Image.Resampling.NEAREST)).astype(np.uint16)
    if condition.kind == "labels":
        if picture.mode not in ("L", "P"):
            raise MillError(f"--control {path}: a label map is one channel of ids, not {picture.mode}")
        return np.asarray(ImageOps.fit(picture, size, Image.Resampling.NEAREST))
    mode = "RGB" if condition.kind == "rgb" else "L"
    array = np.asarray(ImageOps.fit(picture.convert(mode), size, Image.Resampling.BOX))
    return np.where(array >= 64, 255, 0).astype(np.uint8) if condition.kind == "binary" else array
