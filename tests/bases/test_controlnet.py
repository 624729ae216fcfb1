"""How a ControlNet joins its base, and what of both has gradients."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from controlmill.bases.base import Base
from controlmill.bases.controlnet import EMBEDDING, ControlledDenoiser, choose_trainable, make_controlnet
from controlmill.bases.registry import load_base
from controlmill.schemas.errors import MillError
from tests.small_base import small_unet


@pytest.fixture(scope="module")
def base(small_base: Path) -> Base:
    return load_base(str(small_base), torch.device("cpu"))


def test_before_the_first_step_the_controlnet_changes_nothing(base: Base) -> None:
    controlnet = make_controlnet(base.denoiser, "zero", 4, 3, seed=0)
    noisy, text = torch.randn(2, 4, 16, 16), {EMBEDDING: torch.randn(2, 24, 32)}
    t, control = torch.tensor([10, 900]), torch.rand(2, 3, 64, 64)
    denoiser = ControlledDenoiser(base.denoiser, controlnet)
    with torch.no_grad():
        assert torch.equal(denoiser(noisy, t, text, control), denoiser(noisy, t, text, None))
        gaussian = ControlledDenoiser(base.denoiser, make_controlnet(base.denoiser, "gaussian", 4, 3, seed=0))
        assert not torch.equal(gaussian(noisy, t, text, control), denoiser(noisy, t, text, None))


def test_a_random_copy_is_no_copy_and_changes_nothing_at_first(base: Base) -> None:
    controlnet, again = (make_controlnet(base.denoiser, "random", 4, 3, seed=1) for _ in range(2))
    copied = base.denoiser.down_blocks.state_dict()
    for name, value in controlnet.down_blocks.state_dict().items():
        assert torch.equal(value, again.down_blocks.state_dict()[name])
        assert not (value.ndim > 1 and torch.equal(value, copied[name])), name
    noisy, text, t = torch.randn(1, 4, 16, 16), {EMBEDDING: torch.randn(1, 24, 32)}, torch.tensor([10])
    denoiser = ControlledDenoiser(base.denoiser, controlnet)
    with torch.no_grad():
        assert torch.equal(denoiser(noisy, t, text, torch.rand(1, 3, 64, 64)), denoiser(noisy, t, text, None))


def test_the_map_on_the_input_channels_is_a_fine_tuned_unet(base: Base, tmp_path: Path) -> None:
    """Held against a UNet whose encoder has the trained weights and whose first convolution sees the map too."""
    controlnet = make_controlnet(base.denoiser, "input", 4, 3, seed=0)
    noisy, text = torch.randn(2, 4, 16, 16), {EMBEDDING: torch.randn(2, 24, 32)}
    t, control = torch.tensor([10, 900]), torch.rand(2, 3, 64, 64)
    with torch.no_grad():
        denoiser = ControlledDenoiser(base.denoiser, controlnet)
        torch.testing.assert_close(denoiser(noisy, t, text, control), denoiser(noisy, t, text, None))
        torch.manual_seed(0)
        for part in (controlnet.conv_in, controlnet.down_blocks, controlnet.mid_block):
            for parameter in part.parameters():
                parameter.add_(0.1 * torch.randn_like(parameter))
        torch.nn.init.normal_(controlnet.controlnet_cond_embedding.conv_out.weight)
        tuned = copy.deepcopy(base.denoiser)
        for name in ("conv_in", "down_blocks", "mid_block"):
            getattr(tuned, name).load_state_dict(getattr(controlnet, name).state_dict())
        embedded = controlnet.controlnet_cond_embedding(control)
        tuned.conv_in.register_forward_hook(lambda module, given, out: out + embedded)
        expected = tuned(noisy, t, text[EMBEDDING]).sample
        controlnet.save_pretrained(tmp_path)
        for network in (controlnet, base.load_controlnet(str(tmp_path), "input")):
            found = ControlledDenoiser(base.denoiser, network)(noisy, t, text, control)
            torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)


def only_mid_step(leave_out: bool) -> tuple[torch.nn.Module, float, int]:
    """(denoiser with gradients, loss, operations) of a step; without ``leave_out`` all connections are computed."""
    torch.manual_seed(0)
    unet = small_unet()
    controlnet = make_controlnet(unet, "zero", 4, 3, seed=0)
    torch.nn.init.normal_(controlnet.controlnet_mid_block.weight, std=0.1)
    choose_trainable(controlnet, unet, only_mid=leave_out, unlock="none")
    controlnet.controlnet_down_blocks.requires_grad_(False)
    denoiser = ControlledDenoiser(unet, controlnet).train()
    drawn = torch.Generator().manual_seed(1)
    noisy, text, control = (torch.randn(2, *s, generator=drawn) for s in ((4, 16, 16), (24, 32), (3, 64, 64)))
    with FlopCounterMode(display=False) as counter:
        loss = denoiser(noisy, torch.tensor([5, 900]), {EMBEDDING: text}, control).square().mean()
        loss.backward()
    return denoiser, loss.item(), counter.get_total_flops()


def test_only_mid_leaves_work_out_and_changes_nothing() -> None:
    (plain, plain_loss, plain_work), (denoiser, loss, work) = (only_mid_step(leave_out) for leave_out in (False, True))
    assert loss == plain_loss
    for (name, one), (_, other) in zip(denoiser.named_parameters(), plain.named_parameters(), strict=True):
        assert (one.grad is None) == (other.grad is None), name
        if one.grad is not None:
            torch.testing.assert_close(one.grad, other.grad, rtol=1e-5, atol=1e-8, msg=name)
    sizes = (16, 16), (16, 16), (8, 16), (8, 32)  # side and channels of each connection
    connections = sum(2 * 2 * side**2 * channels**2 for side, channels in sizes)  # of two pictures
    # side, channels of the skip, those that share no group of a normalisation with others, and channels that come out
    skips = (8, 32, 32, 32), (8, 16, 12, 32), (16, 16, 12, 16), (16, 16, 16, 16)
    towards = sum(2 * 2 * side**2 * (3 * 3 * apart + channels) * out for side, channels, apart, out in skips)
    assert plain_work - work == 2 * connections + towards  # forward, and towards what comes in


def test_only_mid_has_no_gradient_towards_skip_connections() -> None:
    denoiser, seen = only_mid_step(leave_out=True)[0], []

    def note(block: torch.nn.Module, args: Any, given: Any) -> None:
        seen.append((given["hidden_states"].requires_grad, [s.requires_grad for s in given["res_hidden_states_tuple"]]))

    for block in denoiser.unet.up_blocks:
        block.register_forward_pre_hook(note, with_kwargs=True)
    denoiser(
        torch.randn(1, 4, 16, 16), torch.tensor([5]), {EMBEDDING: torch.randn(1, 24, 32)}, torch.rand(1, 3, 64, 64)
    )
    assert seen == [(True, [False, False])] * 2


def test_trainable_parameters_get_gradients_and_others_none() -> None:
    unet = small_unet()
    controlnet = make_controlnet(unet, "gaussian", 4, 3, seed=0)
    own, of_base = choose_trainable(controlnet, unet, only_mid=False, unlock="decoder")
    denoiser = ControlledDenoiser(unet, controlnet)
    inputs = torch.randn(1, 4, 16, 16), torch.tensor([5]), {EMBEDDING: torch.randn(1, 24, 32)}, torch.rand(1, 3, 64, 64)
    denoiser(*inputs).square().mean().backward()
    assert all(parameter.grad is not None and parameter.grad.any() for parameter in own + of_base)
    rest = {id(p) for p in denoiser.parameters()} - {id(p) for p in own + of_base}
    assert rest
    assert all(p.grad is None for p in denoiser.parameters() if id(p) in rest)


def test_a_controlnet_is_loaded_from_safetensors_files_alone(base: Base, tmp_path: Path) -> None:
    made = base.make_controlnet("gaussian", 0)
    made.save_pretrained(tmp_path / "one")
    made.save_pretrained(tmp_path / "several", max_shard_size="100KB")
    assert len(list((tmp_path / "several").glob("*.safetensors"))) > 1
    for folder in (tmp_path / "one", tmp_path / "several"):
        loaded = base.load_controlnet(str(folder))
        assert all(torch.equal(value, made.state_dict()[name]) for name, value in loaded.state_dict().items())
    made.save_pretrained(tmp_path / "pickled", safe_serialization=False)
    with pytest.raises(
        MillError, match=r"no ControlNet that can be loaded .*there is no diffusion_pytorch_model\.safetensors"
    ):
        base.load_controlnet(str(tmp_path / "pickled"))
