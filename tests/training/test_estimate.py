"""What a plan says: against real steps, for bases that are not here, for several processes."""

from __future__ import annotations

from dataclasses import replace
from itertools import accumulate
from pathlib import Path

import pytest
import torch
from diffusers import UNet2DConditionModel
from torch.profiler import ProfilerActivity
from torch.utils.flop_counter import FlopCounterMode

from controlmill.bases.base import Base, Prompt
from controlmill.bases.controlnet import ControlledDenoiser, choose_trainable, make_controlnet
from controlmill.bases.registry import load_base
from controlmill.bases.stable_diffusion import StableDiffusionFacts
from controlmill.schemas.errors import MillError
from controlmill.training import start
from controlmill.training.data.cache_use import Caches
from controlmill.training.estimate import about, make_plan, plan_text
from controlmill.training.step import Inputs, sample_losses
from tests.training_runs import MakeConfig

WITHOUT_ENCODERS = Caches({"latents": "float32", "embeddings": "float32"})
CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def base(small_base: Path) -> Base:
    return load_base(str(small_base), CPU)


def stable_diffusion() -> StableDiffusionFacts:
    """The architecture of 1.5."""
    with torch.device("meta"):
        unet = UNet2DConditionModel(sample_size=64, cross_attention_dim=768)
    vae = {
        "block_out_channels": (128, 256, 512, 512),
        "layers_per_block": 2,
        "latent_channels": 4,
        "down_block_types": ("DownEncoderBlock2D",) * 4,
        "up_block_types": ("UpDecoderBlock2D",) * 4,
    }
    text = {"hidden_size": 768, "num_hidden_layers": 12, "max_position_embeddings": 77, "num_attention_heads": 12}
    return StableDiffusionFacts("1.5", dict(unet.config), vae, text, {})


@pytest.mark.parametrize(("again", "attention"), [(False, 1.2), (True, 1.25)], ids=["kept", "computed again"])
def test_a_plan_agrees_with_a_step(again: bool, attention: float, short_config: MakeConfig, small_base: Path) -> None:
    config, base = short_config(batch_size=4, gradient_checkpointing=again), load_base(str(small_base), CPU)
    plan = make_plan(config, base.facts, 64, 64, caches=WITHOUT_ENCODERS)
    controlnet = make_controlnet(base.denoiser, "zero", 4, 3, 0)
    own, _ = choose_trainable(controlnet, base.denoiser, only_mid=False, unlock="none")
    assert plan.trained == plan.gradients == sum(p.numel() for p in own) * 4
    assert plan.optimizer == 2 * plan.trained
    inputs = Inputs(
        torch.randn(4, 4, 16, 16),
        torch.randn(4, 4, 16, 16),
        torch.tensor([1, 2, 3, 4]),
        Prompt({"embedding": torch.randn(4, 24, 32)}),
        torch.rand(4, 3, 64, 64),
    )
    denoiser = ControlledDenoiser(base.denoiser, controlnet).train()
    if again:
        base.denoiser.enable_gradient_checkpointing()
        controlnet.enable_gradient_checkpointing()

    def step() -> None:
        sample_losses(base, denoiser, inputs, config).sum().backward()

    with torch.profiler.profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiler:
        step()
    events = [event for event in profiler.profiler.kineto_results.events() if event.name() == "[memory]"]
    taken = accumulate(event.nbytes() for event in sorted(events, key=lambda event: event.start_ns()))
    assert plan.activations == pytest.approx(max(taken), rel=0.05)  # a few of the gradients are there at its highest
    with FlopCounterMode(display=False) as counter:
        step()
    assert 1 <= plan.flops / counter.get_total_flops() < attention  # the counter does not know attention on a CPU


def test_a_plan_for_stable_diffusion_says_what_is_known_of_it(short_config: MakeConfig) -> None:
    facts = stable_diffusion()
    plan, mid, whole = (
        make_plan(short_config(batch_size=1, **changes), facts, 512, 512, caches=WITHOUT_ENCODERS)
        for changes in ({}, {"only_mid_control": True}, {"unlock": "base"})
    )
    assert plan.trained == pytest.approx(361e6 * 4, rel=0.01)  # 361 M parameters
    assert whole.trained - plan.trained == pytest.approx(860e6 * 4, rel=0.01)
    assert 8 < plan.total / 2**30 < 24
    one_matrix_of_attention = 8 * 4096**2 * 4
    assert plan.activations < 4 * one_matrix_of_attention  # no kernel of training keeps one of its ten
    assert 1.03 < plan.flops / mid.flops < 1.05  # all that connections to skips are
    assert 1.3 < whole.flops / plan.flops < 1.5  # the base's weights have gradients too


def test_a_plan_counts_what_caches_save_and_what_is_computed_again(short_config: MakeConfig, base: Base) -> None:
    facts = base.facts
    plain = make_plan(short_config(), facts, 64, 64)
    cached = [
        make_plan(short_config(), facts, 64, 64, caches=Caches(dict.fromkeys(tables, "float32"))).flops
        for tables in (["latents"], ["latents", "embeddings"])
    ]
    assert plain.flops > cached[0] > cached[1]
    again = make_plan(short_config(gradient_checkpointing=True), facts, 64, 64)
    assert again.flops > plain.flops
    assert again.activations < plain.activations


def test_a_plan_is_for_one_of_several_processes(short_config: MakeConfig, base: Base) -> None:
    alone, one_of_two = (make_plan(short_config(batch_size=8), base.facts, 64, 64, processes) for processes in (1, 2))
    assert one_of_two.flops == pytest.approx(alone.flops / 2)
    assert one_of_two.activations == pytest.approx(alone.activations / 2, rel=0.1)
    assert one_of_two.gradients == 2 * alone.gradients  # and the buckets that they are exchanged in
    with pytest.raises(MillError, match="--batch-size 8 does not divide among 3 processes"):
        make_plan(short_config(batch_size=8), base.facts, 64, 64, 3)


@pytest.mark.parametrize(
    ("seconds", "said"),
    [
        (0.0341, "0.034 s"),
        (9.96, "10 s"),
        (119, "120 s"),
        (130, "2.2 minutes"),
        (7200, "2 hours"),
        (757e3, "210 hours"),
    ],
)
def test_times_are_said_in_the_unit_that_suits(seconds: float, said: str) -> None:
    assert about(seconds) == f"about {said}"


def test_what_a_plan_says_of_processes_and_evaluations_without_a_warning(
    short_config: MakeConfig, scenes_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    warnings = []
    monkeypatch.setattr("diffusers.models.modeling_utils.logger.warning", lambda *given, **how: warnings.append(given))
    monkeypatch.setenv("WORLD_SIZE", "2")
    config = short_config(held_out=0.2, evaluation_samples=2, steps=20, evaluation_budget=0.0, precision="bf16")
    prepared = start.prepare(str(scenes_folder), config)
    text = plan_text(prepared, config)
    assert "20 steps of 4, 2 in each of 2 processes are" in text
    assert "evaluations: 2 of" in text
    config = replace(config, evaluate_every=5)
    text = plan_text(prepared, config)
    assert "evaluations: 5 of" in text
    assert "and 16 of losses alone" in text
    config = replace(config, evaluation_budget=0.05)
    assert "fewer than the 5 asked for: --evaluation-budget 0.05" in plan_text(prepared, config)
    assert warnings == []
    monkeypatch.setenv("WORLD_SIZE", "many")
    with pytest.raises(MillError, match="WORLD_SIZE is 'many'"):
        plan_text(prepared, config)
