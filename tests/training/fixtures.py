"""A dataset with all nine conditions, built by the real jobs, and a base small enough for many short runs."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from accelerate.state import AcceleratorState
from diffusers import AutoencoderKL, DDIMScheduler, StableDiffusionPipeline, UNet2DConditionModel
from transformers import CLIPTextConfig, CLIPTextModel

from controlmill.schemas.dataset import Dataset
from controlmill.schemas.maps.transforms import POSE_COLOURS
from controlmill.training import start
from controlmill.training.config import TrainConfig
from controlmill.training.trainer import Trainer
from recipes.tiny_base.scenes import caption_words, draw_scene, write_corpus
from recipes.tiny_base.tokens import make_tokenizer, write_vocabulary

SCENES = 96
WITHOUT_SCRIBBLE = (3, 50)  # scenes whose scribble is missing: nulls with a reason
ALL_MAPS = ("canny", "hough", "cartoon", "hed", "scribble", "pose", "segmentation", "depth", "normals")

torch.set_num_threads(1)


@pytest.fixture(scope="session")
def dataset_folder(tmp_path_factory) -> Path:
    root = tmp_path_factory.mktemp("data")
    photos, maps = write_corpus(root / "corpus", SCENES, seed=5)
    for name in ("hed", "scribble", "pose", "normals"):
        (maps / name).mkdir()
    for index in range(SCENES):
        scene = draw_scene(5, index)
        edges = cv2.Canny(scene.image, 100, 200)
        stem = f"{index:06d}.png"
        cv2.imwrite(str(maps / "hed" / stem), cv2.GaussianBlur(edges, (0, 0), 1.0))
        if index not in WITHOUT_SCRIBBLE:
            cv2.imwrite(str(maps / "scribble" / stem), cv2.dilate(edges, np.ones((3, 3))))
        cv2.imwrite(str(maps / "pose" / stem), skeleton(index)[..., ::-1])
        cv2.imwrite(str(maps / "normals" / stem), normals(scene.depth)[..., ::-1])
    folder = root / "dataset"
    command = ["build", photos, folder, "--resolution", "64", "--shard-size", "40", "--conditions-from", maps]
    command += ["--conditions", "canny,hough=lsd,cartoon=standard"]
    subprocess.run([sys.executable, "-m", "controlmill", *map(str, command)], check=True, capture_output=True)
    return folder


def skeleton(index: int) -> np.ndarray:
    rng = np.random.default_rng(index)
    canvas = np.zeros((64, 64, 3), np.uint8)
    for colour in POSE_COLOURS:
        cv2.circle(canvas, tuple(int(v) for v in rng.integers(5, 59, 2)), 2, colour, -1)
    return canvas


def normals(depth: np.ndarray) -> np.ndarray:
    height = cv2.GaussianBlur(depth.astype(np.float32) / 65535, (0, 0), 2)
    vectors = np.dstack([cv2.Sobel(height, -1, 1, 0), cv2.Sobel(height, -1, 0, 1), np.full((64, 64), 0.5, np.float32)])
    vectors /= np.linalg.norm(vectors, axis=2, keepdims=True)
    return (vectors * 127.5 + 127.5).clip(0, 255).astype(np.uint8)


@pytest.fixture(scope="session")
def scenes(dataset_folder) -> Dataset:
    return Dataset.open(dataset_folder)


def small_unet() -> UNet2DConditionModel:
    return UNet2DConditionModel(
        sample_size=16,
        in_channels=4,
        out_channels=4,
        layers_per_block=1,
        block_out_channels=(16, 32),
        down_block_types=("CrossAttnDownBlock2D", "DownBlock2D"),
        up_block_types=("UpBlock2D", "CrossAttnUpBlock2D"),
        cross_attention_dim=32,
        attention_head_dim=2,
        norm_num_groups=8,
    )


def save_small_base(folder: Path, prediction: str = "epsilon") -> Path:
    torch.manual_seed(0)
    tokenizer = make_tokenizer(caption_words(), 24)
    text = CLIPTextConfig(
        vocab_size=len(tokenizer),
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=1,
        num_attention_heads=2,
        max_position_embeddings=24,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    vae = AutoencoderKL(
        block_out_channels=(8, 8, 16),
        down_block_types=("DownEncoderBlock2D",) * 3,
        up_block_types=("UpDecoderBlock2D",) * 3,
        layers_per_block=1,
        norm_num_groups=4,
        latent_channels=4,
        sample_size=64,
        mid_block_add_attention=False,
    )
    StableDiffusionPipeline(
        vae=vae,
        text_encoder=CLIPTextModel(text),
        tokenizer=tokenizer,
        unet=small_unet(),
        scheduler=DDIMScheduler(steps_offset=1, clip_sample=False, prediction_type=prediction),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    ).save_pretrained(folder)
    write_vocabulary(caption_words(), folder / "tokenizer")
    return folder


@pytest.fixture(scope="session")
def small_base(tmp_path_factory) -> Path:
    return save_small_base(tmp_path_factory.mktemp("base") / "small")


@pytest.fixture
def settings(small_base):
    """Makes a TrainConfig for a short run; nothing is looked at unless asked for."""

    def make(**changes) -> TrainConfig:
        defaults = {
            "condition": "canny",
            "base": str(small_base),
            "steps": 4,
            "batch_size": 4,
            "learning_rate": 1e-3,
            "held_out": 0.0,
            "evaluation_samples": 0,
            "device": "cpu",
        }
        return TrainConfig(**{**defaults, **changes})

    return make


@pytest.fixture
def train(dataset_folder):
    """Trains a new run to its end; returns the trainer."""

    def go(folder: Path, config: TrainConfig) -> Trainer:
        AcceleratorState._reset_state(reset_partial_state=True)  # one process, runs of several precisions
        trainer = Trainer(folder, config, start.begin(str(dataset_folder), folder, config), resume=False)
        trainer.train()
        return trainer

    return go


@pytest.fixture(scope="session")
def cached_folder(dataset_folder, small_base, tmp_path_factory) -> Path:
    """The dataset with caches of the small base, made by the command; its captions are those of the corpus."""
    folder = tmp_path_factory.mktemp("cached") / "dataset"
    shutil.copytree(dataset_folder, folder)
    command = ["encode", folder, "--base", small_base, "--text", "--flip"]
    subprocess.run([sys.executable, "-m", "controlmill", *map(str, command)], check=True, capture_output=True)
    return folder
