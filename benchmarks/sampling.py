"""Pictures of several rows: batched sampling against a loop over diffusers' pipeline, as its documentation shows it.

    python -m benchmarks.sampling [--rows 8] [--pictures-per-row 2] [--steps 20]

The loop makes one picture per call from a prompt and a map. Both have the same noise, so the same pictures come out, to
a level of grey or two, which is checked. Networks are those of the tiny base with an untrained ControlNet whose
connections are drawn at random: time does not depend on what weights are.
"""

from __future__ import annotations

import argparse
import time

import numpy as np
import torch
from diffusers import ControlNetModel, DDIMScheduler, StableDiffusionControlNetPipeline

from controlmill.bases.base import Base
from controlmill.bases.controlnet import make_controlnet, zero_convolutions
from controlmill.bases.registry import load_base
from controlmill.evaluation.sampling.sampler import Sampler, WeightedControlNet, start_noise
from controlmill.evaluation.sampling.settings import SamplingSettings

SIDE, GUIDANCE = 64, 9.0
WORDS = ("red", "green", "blue", "yellow")


def plain_loop(
    base: Base, controlnet: ControlNetModel, prompts: list[str], maps: np.ndarray, noise: torch.Tensor, steps: int
) -> list[np.ndarray]:
    """A call of the pipeline for each picture."""
    pipe = StableDiffusionControlNetPipeline(
        vae=base.networks["vae"],
        text_encoder=base.networks["text_encoder"],
        **base.tokenizers,  # type: ignore[attr-defined]
        unet=base.denoiser,
        controlnet=controlnet,
        scheduler=DDIMScheduler.from_config(base.schedule.scheduler.config, clip_sample=False, steps_offset=1),  # type: ignore[attr-defined]
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )
    pipe.set_progress_bar_config(disable=True)
    pictures = []
    for i, prompt in enumerate(prompts):
        found = pipe(
            prompt,
            image=torch.from_numpy(maps[i : i + 1]),
            latents=noise[i : i + 1],
            num_inference_steps=steps,
            guidance_scale=GUIDANCE,
            height=SIDE,
            width=SIDE,
            output_type="np",
        )
        pictures.append(np.rint(found.images[0] * 255).astype(np.uint8))
    return pictures


def main() -> None:
    """Print pictures a second of both, and their ratio: processor seconds, best of three of each in turn."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--rows", type=int, default=8)
    parser.add_argument("--pictures-per-row", type=int, default=2)
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--repeats", type=int, default=3)
    asked = parser.parse_args()
    base = load_base("tiny", torch.device("cpu"))
    controlnet = make_controlnet(base.denoiser, "zero", base.facts.vae_factor, 3, 0)
    for convolution in zero_convolutions(controlnet):
        torch.nn.init.normal_(convolution.weight, std=0.01, generator=torch.Generator().manual_seed(0))
    places = [(row, picture) for row in range(asked.rows) for picture in range(asked.pictures_per_row)]
    prompts = [f"a {WORDS[row % len(WORDS)]} circle" for row, _ in places]
    drawn = np.random.default_rng(0).random((asked.rows, 3, SIDE, SIDE), np.float32)
    maps = drawn[[row for row, _ in places]]
    noise = torch.cat([start_noise(base, [(0, row)], 0, SIDE, SIDE, picture) for row, picture in places])
    settings = SamplingSettings(steps=asked.steps, guidance_scale=GUIDANCE)
    seconds: dict[str, list[float]] = {"loop": [], "batched": []}
    pictures: dict[str, list[np.ndarray]] = {}
    with torch.no_grad():
        for _ in range(asked.repeats):
            began = time.process_time()
            pictures["loop"] = plain_loop(base, controlnet, prompts, maps, noise, asked.steps)
            seconds["loop"].append(time.process_time() - began)
            began = time.process_time()
            sampler = Sampler(base, [WeightedControlNet(controlnet)], settings)
            pictures["batched"] = sampler.sample(prompts, [maps], noise)
            seconds["batched"].append(time.process_time() - began)
    off = np.abs(np.stack(pictures["loop"]).astype(int) - np.stack(pictures["batched"])).max()
    speed = {name: len(places) / min(values) for name, values in seconds.items()}
    print(f"{len(places)} pictures of {asked.rows} rows, {asked.steps} steps, {torch.get_num_threads()} threads")
    print(f"loop over diffusers' pipeline: {speed['loop']:.2f} pictures per processor second")
    print(f"batched: {speed['batched']:.2f}, {speed['batched'] / speed['loop']:.2f} times; levels of grey off: {off}")


if __name__ == "__main__":
    main()
