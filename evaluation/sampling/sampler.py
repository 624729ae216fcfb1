"""Pictures from a base with ControlNets, through the stock pipelines, in batches of one size."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file

from controlmill.bases.base import Base, Prompt
from controlmill.bases.pixels import signed, unsigned
from controlmill.bases.registry import load_base
from controlmill.bases.sampling import Control
from controlmill.schemas.errors import MillError

from ..rows import draws
from .batches import BATCH, even_size, filled, parts, stacked
from .masks import Kept, free_latents
from .settings import SamplingSettings
from .used import UsedControlNet

PROMPTS = 256  # that are kept encoded: the rows of a few batches


@dataclass(frozen=True)
class WeightedControlNet:
    """A ControlNet on the base's device, and what its connections are multiplied by beside the strength of all."""

    network: Any
    weight: float = 1.0


def start_noise(
    base: Base, rows: Sequence[tuple[int, int]], seed: int, height: int, width: int, sample: int = 0
) -> torch.Tensor:
    """Latents that sampling starts from, float32 (N, C, h, w): of the seed, the row and the picture's number alone.

    Args:
        sample: which of a row's pictures.
    """
    shape = base.latent_shape(height, width)
    return torch.from_numpy(
        np.stack([draws(seed, sample, row, "sampling").standard_normal(shape, np.float32) for row in rows])
    )


class Sampler:
    """Samples pictures with ControlNets whose effects are added; with none of them from the base alone.

    A batch is always full, so a picture has the same bits whatever is sampled beside it. Prompts are encoded once and
    kept; the embedding of a map is computed once; a batch is decoded at once.

    Args:
        base: of any precision.
        controlnets: in the order of the maps that they are given.
        settings: of the sampler.
        batch_size: pictures at once. Sizes differ by rounding: 1e-4 of the range of a pixel in fp32.

    Raises:
        MillError: a ControlNet pools what it says over the picture, and connections are to be weighted by height.
    """

    def __init__(
        self,
        base: Base,
        controlnets: Sequence[WeightedControlNet],
        settings: SamplingSettings,
        batch_size: int = BATCH,
    ):
        pools = any(getattr(one.network.config, "global_pool_conditions", False) for one in controlnets)
        if pools and settings.guidance_weighting != "none":
            raise MillError(
                "a ControlNet that pools over the whole picture has connections without a height: "
                "--guidance-weighting none"
            )
        self.base, self.controlnets, self.settings, self.batch_size = base, controlnets, settings, batch_size
        self._prompt = functools.lru_cache(PROMPTS)(lambda prompt: base.encode_prompts([prompt]))

    def sample(
        self,
        prompts: Sequence[str],
        controls: Sequence[np.ndarray],
        noise: torch.Tensor,
        pictures: Sequence[np.ndarray] | None = None,
        masks: Sequence[np.ndarray] | None = None,
    ) -> list[np.ndarray]:
        """Pictures as uint8 (H, W, 3); see :meth:`pixels`."""
        sampled = self.pixels(prompts, controls, noise, pictures, masks)
        return [np.rint(picture * 255).astype(np.uint8) for picture in sampled]

    @torch.no_grad()
    def pixels(
        self,
        prompts: Sequence[str],
        controls: Sequence[np.ndarray],
        noise: torch.Tensor,
        pictures: Sequence[np.ndarray] | None = None,
        masks: Sequence[np.ndarray] | None = None,
    ) -> list[np.ndarray]:
        """Pictures as float32 (H, W, 3) in 0 to 1.

        Args:
            prompts: N; the settings' added prompt comes behind them.
            controls: of each ControlNet float32 (N, 3, H, W) in 0 to 1.
            noise: see :func:`start_noise`.
            pictures: uint8 (H, W, 3), of which the ``masks`` alone are sampled anew.
            masks: bool (H, W), true where a picture may change. Elsewhere it is what the VAE makes of it.
        """
        found: list[np.ndarray] = []
        for rows in parts(len(prompts), self.batch_size):
            kept = None
            if pictures is not None and masks is not None:
                kept = self._kept(pictures[rows], masks[rows], noise[rows])
            maps = [torch.from_numpy(stacked(list(images[rows]), self.batch_size)) for images in controls]
            decoded = self._decoded(prompts[rows], maps, noise[rows], kept)
            if kept is not None:
                decoded = kept.put_back(decoded)
            found += list(decoded[: len(prompts[rows])])
        return found

    def _decoded(
        self, prompts: Sequence[str], maps: Sequence[torch.Tensor], noise: torch.Tensor, kept: Kept | None
    ) -> np.ndarray:
        """A full batch, float32 (N, H, W, 3) in 0 to 1."""
        settings = self.settings
        whole = [settings.whole(prompt) for prompt in prompts]
        controls = [
            Control(one.network, images, settings.strength * one.weight)
            for one, images in zip(self.controlnets, maps, strict=True)
        ]
        sampled = self.base.sample(
            self._encoded(whole),
            self._encoded([settings.negative_prompt]),
            controls,
            self._full(noise),
            settings,
            kept.after_step if kept else None,
        )
        return _zero_to_one(self.base.decode(sampled))

    def _encoded(self, prompts: Sequence[str]) -> Prompt:
        """Of each prompt, filled up to the batch; each is encoded once, alone."""
        return Prompt.joined([self._prompt(prompt) for prompt in filled(prompts, self.batch_size)])

    def _full(self, rows: torch.Tensor) -> torch.Tensor:
        return torch.cat([rows, rows[-1:].expand(self.batch_size - len(rows), *rows.shape[1:])])

    def _kept(self, pictures: Sequence[np.ndarray], masks: Sequence[np.ndarray], noise: torch.Tensor) -> Kept:
        """What must stay of pictures."""
        pixels = signed(torch.from_numpy(stacked(pictures, self.batch_size)).permute(0, 3, 1, 2).float())
        latents = self.base.encode_images(pixels, None)
        regions = stacked([mask.astype(bool) for mask in masks], self.batch_size)
        free = torch.from_numpy(free_latents(regions, latents.shape[2:])).to(latents.device)
        round_trip = _zero_to_one(self.base.decode(latents))
        return Kept(self.base.schedule, latents, self._full(noise).to(latents.device), free, regions, round_trip)


def load_sampler(
    base: str,
    controlnets: Sequence[UsedControlNet],
    settings: SamplingSettings,
    device: str,
    precision: str = "fp32",
    batch_size: int = BATCH,
) -> Sampler:
    """A base with ControlNets, loaded; a denoiser that was trained with one of them takes the place of the base's.

    Raises:
        MillError: something cannot be loaded.
    """
    loaded = load_base(base, torch.device(device), precision)
    networks = []
    for used in controlnets:
        if used.unet:
            loaded.denoiser.load_state_dict(load_file(f"{used.unet}/diffusion_pytorch_model.safetensors"))
        network = loaded.load_controlnet(used.address, used.connection).to(loaded.device)
        networks.append(WeightedControlNet(network, used.strength))
    return Sampler(loaded, networks, settings, batch_size)


def sample_pictures(
    base: Base,
    controlnet: Any | None,
    prompts: Sequence[str],
    control: np.ndarray | None,
    noise: torch.Tensor,
    steps: int,
    guidance: float,
    batch: int = BATCH,
) -> list[np.ndarray]:
    """Pictures of one ControlNet, or of the base alone, by plain DDIM, as uint8 (H, W, 3); at most ``batch`` at once.

    Args:
        control: float32 (N, 3, H, W) in 0 to 1; None without a ControlNet.
    """
    controlnets = [] if controlnet is None else [WeightedControlNet(controlnet)]
    settings = SamplingSettings(steps=steps, guidance_scale=guidance)
    sampler = Sampler(base, controlnets, settings, even_size(len(prompts), batch))
    return sampler.sample(prompts, [control] if controlnets and control is not None else [], noise)


def _zero_to_one(decoded: torch.Tensor) -> np.ndarray:
    """Decoded pictures as float32 (N, H, W, 3)."""
    pictures: np.ndarray = (decoded * 0.5 + 0.5).clamp(0, 1).cpu().permute(0, 2, 3, 1).numpy()
    return pictures


@torch.no_grad()
def round_trip(base: Base, images: Sequence[np.ndarray], batch: int = BATCH) -> list[np.ndarray]:
    """Pictures through the VAE and back: the best that sampling could give; uint8 (H, W, 3)."""
    pictures: list[np.ndarray] = []
    for rows in parts(len(images), batch):
        pixels = signed(torch.from_numpy(stacked(images[rows], batch)).permute(0, 3, 1, 2).float())
        decoded = base.decode(base.encode_images(pixels, None)).cpu().permute(0, 2, 3, 1).numpy()
        pictures += list(unsigned(decoded)[: len(images[rows])])
    return pictures
