"""Reads an export with a trainer's own code and keeps what it sees.

python -m tests.schemas.exports.peers NAME PEERS OUT KEPT

PEERS is a folder of the trainers' checkouts; PEERS/site, where it is there, has packages that they import (imagesize,
voluptuous, toml, av, einops, imageio, pandas). KEPT, an .npz file, gets pictures, maps and captions.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from unittest import mock

import numpy as np

Seen = Iterator[tuple[np.ndarray, np.ndarray, str]]  # picture and map, uint8 (H, W, 3), and caption


def bytes_of(tensor: np.ndarray, low: float) -> np.ndarray:
    """uint8 (H, W, 3) of floats (3, H, W), or (H, W, 3), from ``low`` to 1."""
    last = tensor if tensor.shape[-1] == 3 else np.moveaxis(tensor, 0, -1)
    return np.rint((last - low) / (1 - low) * 255).astype(np.uint8)


def kohya(peers: Path, out: Path) -> Seen:
    """``ControlNetDataset``, as `train_control_net.py` makes it of the settings."""
    sys.path.insert(0, str(peers / "sd-scripts"))
    for name in ("lpw_stable_diffusion", "sdxl_lpw_stable_diffusion"):  # they sample, and need an older transformers
        sys.modules[f"library.{name}"] = mock.MagicMock()
    import torch
    from library import config_util, strategy_base

    class Tokens(strategy_base.TokenizeStrategy):  # type: ignore[misc]
        def tokenize(self, text: str) -> list[torch.Tensor]:
            return [torch.zeros(1, 77, dtype=torch.long)]

    strategy_base.TokenizeStrategy.set_strategy(Tokens())
    config = config_util.load_user_config(str(out / "dataset.toml"))
    generator = config_util.BlueprintGenerator(config_util.ConfigSanitizer(False, False, True, True))
    blueprint = generator.generate(config, argparse.Namespace())
    dataset, _ = config_util.generate_dataset_group_by_blueprint(blueprint.dataset_group)
    dataset.set_current_strategies()
    for number in range(len(dataset)):
        example = dataset[number]
        image, control = example["images"][0].numpy(), example["conditioning_images"][0].numpy()
        yield bytes_of(image, -1), bytes_of(control, -1), example["captions"][0]


def musubi_tuner(peers: Path, out: Path) -> Seen:
    """``ImageDataset``, as `flux_2_cache_latents.py` makes it."""
    sys.path.insert(0, str(peers / "musubi-tuner" / "src"))
    from musubi_tuner.dataset import config_utils

    config = config_utils.load_user_config(str(out / "dataset.toml"))
    generator = config_utils.BlueprintGenerator(config_utils.ConfigSanitizer())
    blueprint = generator.generate(config, argparse.Namespace(), architecture="f2d")
    (dataset,) = config_utils.generate_dataset_group_by_blueprint(blueprint.dataset_group).datasets
    for _, batch in dataset.retrieve_latent_cache_batches(1):
        for item in batch:
            yield item.content, item.control_content[0], item.caption


def diffsynth(peers: Path, out: Path) -> Seen:
    """``UnifiedDataset``, as `examples/z_image/model_training/train.py` makes it."""
    sys.path.insert(0, str(peers / "DiffSynth-Studio" / "diffsynth" / "core"))
    from data.unified_dataset import UnifiedDataset

    dataset = UnifiedDataset(
        base_path=str(out),
        metadata_path=str(out / "metadata.json"),
        data_file_keys=("image", "controlnet_image"),
        main_data_operator=UnifiedDataset.default_image_operator(base_path=str(out), max_pixels=64 * 64),
    )
    for number in range(len(dataset)):
        row = dataset[number]
        yield np.asarray(row["image"]), np.asarray(row["controlnet_image"]), row["prompt"]


def original(peers: Path, out: Path) -> Seen:
    """``MyDataset`` of `tutorial_dataset.py`, which reads ./training/fill50k."""
    (out.parent / "training").mkdir()
    (out.parent / "training" / "fill50k").symlink_to(out)
    os.chdir(out.parent)
    sys.path.insert(0, str(peers / "ControlNet"))
    from tutorial_dataset import MyDataset

    dataset = MyDataset()
    for number in range(len(dataset)):
        row = dataset[number]
        yield bytes_of(row["jpg"], -1), bytes_of(row["hint"], 0), row["txt"]


def videox_fun(peers: Path, out: Path) -> Seen:
    """``ImageVideoControlDataset``, as `scripts/qwenimage_fun/train_control.py` makes it."""
    sys.path.insert(0, str(peers / "VideoX-Fun" / "videox_fun" / "data"))
    for name in ("decord", "func_timeout"):  # for videos
        sys.modules[name] = mock.MagicMock()
    sys.modules["peer"] = package = ModuleType("peer")
    package.__path__ = [sys.path[0]]
    from peer.dataset_image_video import ImageVideoControlDataset

    dataset = ImageVideoControlDataset(
        str(out / "metadata.json"), str(out), image_sample_size=64, enable_bucket=True, text_drop_ratio=0.0
    )
    for number in range(len(dataset)):
        row = dataset[number]
        yield row["pixel_values"][0], row["control_pixel_values"][0], row["text"]


READERS = {
    "kohya": kohya,
    "videox-fun": videox_fun,
    "musubi-tuner": musubi_tuner,
    "diffsynth": diffsynth,
    "original": original,
}

if __name__ == "__main__":
    name, peers, out, kept = sys.argv[1], *map(Path, sys.argv[2:])
    sys.path.insert(0, str(peers / "site"))
    images, maps, texts = zip(*READERS[name](peers, out), strict=True)
    np.savez(kept, images=np.stack(images), maps=np.stack(maps), texts=np.array(texts))
