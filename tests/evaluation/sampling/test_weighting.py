"""Sampling is what a loop written by hand from the paper does, for each weighting of the connections."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from diffusers import ControlNetModel

from controlmill.bases.base import Base
from controlmill.bases.control import by_resolution
from controlmill.bases.registry import load_base
from controlmill.evaluation.sampling.sampler import Sampler, WeightedControlNet, start_noise
from controlmill.evaluation.sampling.settings import SamplingSettings
from controlmill.schemas.errors import MillError

from .test_sampler import connected

PROMPTS = ["a red circle", ""]
SETTINGS = SamplingSettings(steps=4, guidance_scale=3.0, negative_prompt="a blue square")


@pytest.fixture(scope="module")
def base(small_base: Path) -> Base:
    return load_base(str(small_base), torch.device("cpu"))


@pytest.fixture(scope="module")
def controlnets(base: Base) -> list[ControlNetModel]:
    made = [connected(base), connected(base)]
    with torch.no_grad():
        made[1].controlnet_mid_block.weight *= -2
    return made


@pytest.fixture(scope="module")
def maps() -> list[np.ndarray]:
    rng = np.random.default_rng(0)
    return [rng.random((2, 3, 64, 64), np.float32) for _ in range(2)]


def weights_of(weighting: str, heights: Sequence[int], latents: int) -> list[float]:
    """Of the connections, the middle block last."""
    if weighting == "resolution":
        return [latents / height for height in heights]
    if weighting == "guess":
        last = len(heights) - 1
        return [10 ** (i / last - 1) for i in range(len(heights))]
    return [1.0] * len(heights)


@torch.no_grad()
def by_hand(
    base: Base, controlnets: Sequence[tuple[ControlNetModel, float]], maps: Sequence[np.ndarray], how: SamplingSettings
) -> np.ndarray:
    """DDIM with classifier-free guidance, float32 (N, H, W, 3) in 0 to 1."""
    unet = base.denoiser
    x = start_noise(base, [(0, 0), (0, 1)], 0, 64, 64)
    texts = [base.encode_prompts(prompts)["embedding"] for prompts in ([how.negative_prompt] * 2, PROMPTS)]
    step = base.schedule.times // how.steps
    times = [i * step + 1 for i in reversed(range(how.steps))]
    alphas = base.schedule.scheduler.alphas_cumprod  # type: ignore[attr-defined]
    for n, t in enumerate(times):
        alone = how.guidance_weighting != "none"
        on = n / len(times) >= how.control_start and (n + 1) / len(times) <= how.control_end
        noise = []
        for text, conditional in zip(texts, (False, True), strict=True):
            down, mid = None, None
            if on and (conditional or not alone):
                for (network, weight), images in zip(controlnets, maps, strict=True):
                    found, middle = network(
                        x, t, encoder_hidden_states=text, controlnet_cond=torch.from_numpy(images), return_dict=False
                    )
                    every = [*found, middle]
                    factors = weights_of(how.guidance_weighting, [one.shape[2] for one in every], x.shape[2])
                    every = [one * w * weight * how.strength for one, w in zip(every, factors, strict=True)]
                    down = every[:-1] if down is None else [a + b for a, b in zip(down, every[:-1], strict=True)]
                    mid = every[-1] if mid is None else mid + every[-1]
            said = {"down_block_additional_residuals": down, "mid_block_additional_residual": mid} if down else {}
            noise.append(unet(x, t, encoder_hidden_states=text, **said).sample)
        guided = noise[0] + how.guidance_scale * (noise[1] - noise[0])
        now = alphas[t]
        then = alphas[t - step] if t - step >= 0 else torch.tensor(1.0)
        clean = (x - (1 - now).sqrt() * guided) / now.sqrt()
        x = then.sqrt() * clean + (1 - then).sqrt() * guided
    pictures: np.ndarray = (base.decode(x) / 2 + 0.5).clamp(0, 1).permute(0, 2, 3, 1).numpy()
    return pictures


def sampled(
    base: Base, used: Sequence[tuple[ControlNetModel, float]], maps: Sequence[np.ndarray], how: SamplingSettings
) -> np.ndarray:
    sampler = Sampler(base, [WeightedControlNet(*one) for one in used], how, 2)
    return np.stack(sampler.pixels(PROMPTS, maps, start_noise(base, [(0, 0), (0, 1)], 0, 64, 64)))


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"guidance_weighting": "resolution"},
        {"guidance_weighting": "guess"},
        {"guidance_weighting": "resolution", "strength": 0.5},
        {"control_end": 0.5},
        {"control_start": 0.5, "guidance_weighting": "resolution"},
    ],
)
def test_sampling_is_what_the_paper_says(
    changes: dict[str, str | float], base: Base, controlnets: list[ControlNetModel], maps: list[np.ndarray]
) -> None:
    how = replace(SETTINGS, **changes)  # type: ignore[arg-type]
    one = [(controlnets[0], 1.0)]
    found = sampled(base, one, maps[:1], how)
    np.testing.assert_allclose(found, by_hand(base, one, maps[:1], how), atol=1e-4)
    if changes:
        assert np.abs(found - sampled(base, one, maps[:1], SETTINGS)).max() > 1e-3


@pytest.mark.parametrize(("weighting", "weights"), [("none", (1.0, 1.0)), ("resolution", (0.25, 1.5))])
def test_controlnets_are_added(
    weighting: str, weights: tuple[float, float], base: Base, controlnets: list[ControlNetModel], maps: list[np.ndarray]
) -> None:
    how = replace(SETTINGS, guidance_weighting=weighting)  # type: ignore[arg-type]
    used = list(zip(controlnets, weights, strict=True))
    found = sampled(base, used, maps, how)
    np.testing.assert_allclose(found, by_hand(base, used, maps, how), atol=1e-4)
    assert np.abs(found - sampled(base, used[:1], maps[:1], how)).max() > 0.01


def test_resolution_weights_at_512_pixels_are_the_papers() -> None:
    heights = [64, 64, 64, 32, 32, 32, 16, 16, 16, 8, 8, 8]
    down, mid = by_resolution([torch.ones(1, 1, h, h) for h in heights], torch.ones(1, 1, 8, 8), 64)
    assert [one.max() for one in (*down, mid)] == [1, 1, 1, 2, 2, 2, 4, 4, 4, 8, 8, 8, 8]


def test_a_controlnet_is_not_computed_in_steps_without_control(
    base: Base, controlnets: list[ControlNetModel], maps: list[np.ndarray]
) -> None:
    calls: list[str] = []
    first, embedding = controlnets[0].conv_in, controlnets[0].controlnet_cond_embedding.conv_in
    hooks = [
        first.register_forward_hook(lambda *_: calls.append("net")),
        embedding.register_forward_hook(lambda *_: calls.append("map")),
    ]
    sampled(base, [(controlnets[0], 1.0)], maps[:1], replace(SETTINGS, control_end=0.5))
    for hook in hooks:
        hook.remove()
    assert calls.count("net") == 2  # of four steps
    assert calls.count("map") == 1  # a map is embedded once


def test_a_pooling_controlnet_has_no_heights_to_weight_by(base: Base) -> None:
    pooling = connected(base)
    pooling.register_to_config(global_pool_conditions=True)
    for weighting in ("resolution", "guess"):
        with pytest.raises(MillError, match="pools over the whole picture"):
            Sampler(base, [WeightedControlNet(pooling)], replace(SETTINGS, guidance_weighting=weighting))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "changes",
    [
        {"control_start": 0.5, "control_end": 0.5},
        {"control_end": 1.5},
        {"control_end": 0.24},
        {"steps": 0},
        {"strength": -1.0},
    ],
)
def test_settings_that_cannot_be_sampled_with(changes: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=next(iter(changes))):
        replace(SETTINGS, **changes).check()  # type: ignore[arg-type]
