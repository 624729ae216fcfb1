"""The trainer against a plain loop in the style of diffusers' `train_controlnet.py`, on the tiny base's architecture.

The same rows (64x64 pictures, canny, captions), the same random base, batches of 16, float32, one thread. The plain
loop is that script's with its default arguments: `datasets` with transforms, a DataLoader, VAE and text encoder in each
step, noise drawn on the fly, accelerate, AdamW, clipping. The trainer's step is whole: reading, drawing, losses, log;
once without caches and once with those of `controlmill encode --text`. The three take turns, a step each. Seconds of
the processor, of all threads, are said beside those of the clock: they hold also where other work runs.
"""

from __future__ import annotations

import argparse
import os
import random
import statistics
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch

from controlmill.bases.base import Base
from controlmill.bases.controlnet import make_controlnet
from controlmill.bases.registry import load_base
from controlmill.schemas.dataset import Dataset
from controlmill.schemas.fingerprint import processor_name
from controlmill.schemas.names import shard_file
from controlmill.training import start as run
from controlmill.training.config import TrainConfig
from controlmill.training.data import processes
from controlmill.training.data.ahead import ahead
from controlmill.training.run.log import RunLog
from controlmill.training.trainer import Trainer
from recipes.tiny_base.architecture import make_parts, save_pipeline
from recipes.tiny_base.scenes import write_corpus

BATCH = 16
RATE = 1e-4
EMPTY = 0.5  # share of empty prompts


def command(*words: str | Path) -> None:
    """A `controlmill` command.

    Raises:
        subprocess.CalledProcessError: it failed.
    """
    subprocess.run([sys.executable, "-m", "controlmill", *map(str, words)], check=True, stderr=subprocess.DEVNULL)


def our_step(dataset: Path, folder: Path, base: Path, caches: str) -> Callable[[], None]:
    """One step of the trainer, read from the tables and written to its log."""
    config = TrainConfig(
        condition="canny",
        base=str(base),
        batch_size=BATCH,
        learning_rate=RATE,
        prompt_dropout=EMPTY,
        held_out=0.0,
        device="cpu",
        caches=caches,  # type: ignore[arg-type]
    )
    prepared = run.begin(str(dataset), folder, config)
    if bool(prepared.caches.tables) != (caches == "auto"):
        raise RuntimeError(f"caches {caches}: the trainer uses {prepared.caches.tables}")
    trainer = Trainer(folder, config, prepared, resume=False)
    source, log = ahead(processes.batches(prepared.loader(config)), trainer.prepare), RunLog(folder, 0)

    def step() -> None:
        started = time.monotonic()
        result = trainer.train_step(next(source))
        trainer.step += 1
        log.step(trainer.step, result.loss, result.norm, RATE, time.monotonic() - started)

    return step


def rows_of(dataset: Path, cache: Path, base: Base) -> Any:
    """The rows as the script's dataset: pictures, control images and token ids, made when they are asked for."""
    from datasets import Image, concatenate_datasets, load_dataset
    from torchvision import transforms

    opened = Dataset.open(dataset)
    tables = []
    for table, columns in (("images", ["image", "caption"]), ("canny", ["map"])):
        files = [str(dataset / shard_file(table, shard)) for shard in range(opened.shards)]
        rows = load_dataset("parquet", data_files=files, split="train", cache_dir=str(cache)).select_columns(columns)
        tables.append(rows.cast_column(columns[0], Image()))
    cut = [transforms.Resize(64, interpolation=transforms.InterpolationMode.BILINEAR), transforms.CenterCrop(64)]
    to_pixels = transforms.Compose([*cut, transforms.ToTensor(), transforms.Normalize([0.5], [0.5])])
    to_control = transforms.Compose([*cut, transforms.ToTensor()])

    tokenizer = base.tokenizers["tokenizer"]  # type: ignore[attr-defined]

    def transformed(rows: dict[str, list[Any]]) -> dict[str, Any]:
        captions = ["" if random.random() < EMPTY else caption for caption in rows["caption"]]
        tokens = tokenizer(captions, max_length=tokenizer.model_max_length, padding="max_length")
        return {
            "pixel_values": [to_pixels(picture.convert("RGB")) for picture in rows["image"]],
            "conditioning": [to_control(picture.convert("RGB")) for picture in rows["map"]],
            "input_ids": torch.tensor(tokens.input_ids),
        }

    return concatenate_datasets(tables, axis=1).with_transform(transformed)


def stacked(rows: list[dict[str, Any]]) -> dict[str, torch.Tensor]:
    """The script's collate_fn."""
    return {name: torch.stack([row[name] for row in rows]).contiguous() for name in rows[0]}


def plain_step(dataset: Path, cache: Path, folder: Path) -> Callable[[], None]:
    """One step of the plain loop."""
    from accelerate import Accelerator
    from diffusers.optimization import get_scheduler

    accelerator = Accelerator(cpu=True)
    base = load_base(str(folder), accelerator.device)
    vae, unet, text_encoder, noising = base.vae, base.denoiser, base.text_encoder, base.schedule.scheduler
    controlnet = make_controlnet(unet, "zero", base.facts.vae_factor, 3, 0).train()
    optimizer = torch.optim.AdamW(controlnet.parameters(), lr=RATE)
    loader = torch.utils.data.DataLoader(
        rows_of(dataset, cache, base), shuffle=True, collate_fn=stacked, batch_size=BATCH, drop_last=True
    )
    rates = get_scheduler("constant", optimizer)
    controlnet, optimizer, loader, rates = accelerator.prepare(controlnet, optimizer, loader, rates)

    def endless() -> Any:
        while True:
            yield from loader

    source = endless()

    def step() -> None:
        batch = next(source)
        with accelerator.accumulate(controlnet):
            latents = vae.encode(batch["pixel_values"]).latent_dist.sample() * vae.config.scaling_factor
            noise = torch.randn_like(latents)
            t = torch.randint(0, noising.config.num_train_timesteps, (len(latents),)).long()
            noisy = noising.add_noise(latents.float(), noise.float(), t)
            text = text_encoder(batch["input_ids"], return_dict=False)[0]
            down, mid = controlnet(
                noisy, t, encoder_hidden_states=text, controlnet_cond=batch["conditioning"], return_dict=False
            )
            predicted = unet(
                noisy,
                t,
                encoder_hidden_states=text,
                down_block_additional_residuals=list(down),
                mid_block_additional_residual=mid,
                return_dict=False,
            )[0]
            target = noise if base.schedule.prediction == "epsilon" else noising.get_velocity(latents, noise, t)
            loss = torch.nn.functional.mse_loss(predicted.float(), target.float(), reduction="mean")
            accelerator.backward(loss)
            if accelerator.sync_gradients:
                accelerator.clip_grad_norm_(controlnet.parameters(), 1.0)
            optimizer.step()
            rates.step()
            optimizer.zero_grad()
        loss.detach().item()

    return step


def main() -> None:
    """Print samples/s, and the ratios."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=512, help="pictures")
    parser.add_argument("--rounds", type=int, default=30, help="steps of each; medians are compared")
    arguments = parser.parse_args()
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    with tempfile.TemporaryDirectory(prefix="controlmill-bench-") as temporary:
        folder = Path(temporary)
        save_pipeline(make_parts(0), folder / "base", torch.float32)
        photos, _ = write_corpus(folder / "corpus", arguments.count, seed=1)
        dataset = folder / "dataset"
        command("build", photos, dataset, "--resolution", "64", "--conditions", "canny")
        steps = {
            "plain loop": plain_step(dataset, folder / "hf", folder / "base"),
            "train": our_step(dataset, folder / "plain", folder / "base", "off"),
        }
        command("encode", dataset, "--base", folder / "base", "--text", "--device", "cpu")
        steps["train, with caches"] = our_step(dataset, folder / "cached", folder / "base", "auto")
        clock: dict[str, list[float]] = {name: [] for name in steps}
        processor: dict[str, list[float]] = {name: [] for name in steps}
        for round_ in range(arguments.rounds + 2):
            for name, step in steps.items():
                began, began_processor = time.perf_counter(), time.process_time()
                step()
                if round_ >= 2:
                    clock[name].append(time.perf_counter() - began)
                    processor[name].append(time.process_time() - began_processor)
    print(f"{processor_name()}, {os.cpu_count()} cores, one thread; batches of {BATCH} pictures of 64x64, float32")
    print(f"{arguments.rounds} rounds; medians, of the rounds' ratios too")
    print(f"{'':20} {'samples/s':>10} {'/ plain':>8} {'CPU s/step':>11} {'plain /':>8}")
    for name in steps:
        rate = BATCH / statistics.median(clock[name])
        ratios = [statistics.median(np.divide(times["plain loop"], times[name])) for times in (clock, processor)]
        print(f"{name:20} {rate:10.1f} {ratios[0]:8.2f} {statistics.median(processor[name]):11.3f} {ratios[1]:8.2f}")
    print("goals: without caches at least 1.00, with caches at least 1.30")


if __name__ == "__main__":
    main()
