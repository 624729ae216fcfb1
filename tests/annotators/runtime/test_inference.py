"""Networks in one dtype, compiled or not: cast once, one graph, and an error where that cannot be."""

from __future__ import annotations

import copy
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from controlmill.annotators.runtime import inference
from controlmill.annotators.runtime.inference import compiled, ready
from controlmill.annotators.runtime.network import TorchNetwork
from controlmill.annotators.runtime.placement import Placement
from controlmill.annotators.runtime.torch_device import autocast, load_state_dict
from controlmill.schemas.errors import MillError


class Standardised(torch.nn.Conv2d):
    """Standardises its weights in every pass, as the backbones of MiDaS and DPT do."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        weight = self.weight - self.weight.mean((1, 2, 3), keepdim=True)
        return torch.nn.functional.conv2d(x, weight, self.bias, padding=1)


@pytest.fixture(scope="module")
def network() -> torch.nn.Module:
    torch.manual_seed(0)
    return torch.nn.Sequential(
        torch.nn.Conv2d(3, 8, 3, padding=1),
        torch.nn.BatchNorm2d(8),
        Standardised(8, 8, 3),
        torch.nn.ReLU(),
        torch.nn.ConvTranspose2d(8, 4, 2, stride=2),
    ).eval()


@pytest.fixture(scope="module")
def pixels() -> torch.Tensor:
    return torch.rand(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))


def test_weights_cast_once_give_the_bits_of_autocast(network: torch.nn.Module, pixels: torch.Tensor) -> None:
    place = Placement(dtype="bf16")
    once = ready(copy.deepcopy(network), place)
    with torch.inference_mode(), autocast(place):
        assert torch.equal(once(pixels), network(pixels))
    assert [once[layer].weight.dtype for layer in (0, 4)] == [torch.bfloat16] * 2
    assert once[2].weight.dtype == torch.float32, "what it does with its weights is done in float32"


@pytest.mark.parametrize("dtype", ["fp32", "bf16"])
def test_compiled_by_inductor(network: torch.nn.Module, pixels: torch.Tensor, dtype: str) -> None:
    if not shutil.which("g++"):
        pytest.skip("no C++ compiler")
    place = Placement(dtype=dtype, compile=True)
    model = ready(copy.deepcopy(network), place)
    run = compiled(model, place, "small")
    with torch.inference_mode(), autocast(place):
        plain, fast = model(pixels).float(), run(pixels).float()
        assert torch.equal(run(pixels).float(), fast)
    assert (plain - fast).abs().max() <= (1e-6 if dtype == "fp32" else 0.02) * plain.abs().max()


def test_bf16_runs_on_a_processor_that_cannot_pack_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.ops.mkldnn, "_is_mkldnn_bf16_supported", lambda: False)
    monkeypatch.setattr(inference, "PackedLinear", None)  # which raises there
    layer = ready(torch.nn.Sequential(torch.nn.Linear(8, 8)), Placement(dtype="bf16"))
    with torch.inference_mode(), autocast(Placement(dtype="bf16")):
        assert layer(torch.ones(2, 8)).isfinite().all()


def test_only_what_is_asked_for_is_compiled(network: torch.nn.Module) -> None:
    assert compiled(network, Placement(), "small") is network


@pytest.fixture
def by_eager(monkeypatch: pytest.MonkeyPatch) -> None:
    """Traced as ever, without a C++ compiler."""
    compile = torch.compile
    monkeypatch.setattr("torch.compile", lambda run, **options: compile(run, backend="eager", **options))


def test_what_does_not_compile_is_an_error_not_slow(by_eager: None, pixels: torch.Tensor) -> None:
    def splits(x: torch.Tensor) -> torch.Tensor:
        torch._dynamo.graph_break()
        return x + 1

    run = compiled(splits, Placement(compile=True), "split")
    with pytest.raises(MillError, match=r"torch\.compile cannot compile split: leave --compile away"):
        run(pixels)


def test_a_compiler_that_fails_is_an_error(monkeypatch: pytest.MonkeyPatch, pixels: torch.Tensor) -> None:
    def broken(graph: Any, inputs: Any) -> None:
        raise RuntimeError("no compiler here")

    compile = torch.compile
    monkeypatch.setattr("torch.compile", lambda run, **options: compile(run, backend=broken, **options))
    run = compiled(lambda x: x + 1, Placement(compile=True), "small")
    with pytest.raises(MillError, match=r"cannot compile small.*no compiler here"):
        run(pixels)


def test_each_shape_is_compiled_and_too_many_are_an_error(by_eager: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(inference, "MOST_SHAPES", 10)
    run = compiled(lambda x: x * 2, Placement(compile=True), "small")
    for width in range(3, 13):
        assert np.array_equal(run(torch.ones(width)), np.full(width, 2.0))
    with pytest.raises(MillError, match="small met more than 10 shapes"):
        run(torch.ones(13))


@pytest.mark.parametrize("held", [{"a": torch.zeros(2)}, {"model": {"a": torch.zeros(2)}}])
def test_other_weights_than_a_network_has_are_told_with_their_file(held: dict[str, Any], tmp_path: Path) -> None:
    class Small(TorchNetwork):
        name = "small"

        def build(self, files: Mapping[str, Path]) -> Any:
            module = torch.nn.Linear(2, 2)
            module.load_state_dict(load_state_dict(files["w.pth"])["model"])
            return module

        def preprocess(self, image: np.ndarray) -> np.ndarray:
            return image

        def outputs(self, output: Any) -> list[Any]:
            return list(output)

    torch.save(held, tmp_path / "w.pth")
    with pytest.raises(MillError, match="pth does not fit the network small: "):
        Small({"w.pth": tmp_path / "w.pth"}, Placement())
