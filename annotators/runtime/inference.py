"""A loaded network made ready to run: weights cast once, linear layers packed for the processor, or all compiled."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from controlmill.schemas.errors import MillError, error_text

from .placement import Placement
from .torch_device import torch_dtype

MOST_SHAPES = 64  # of a network's input that are compiled in one process; there are fewer buckets


def ready(network: Any, place: Placement, exact: bool = False, channels_last: bool = False) -> Any:
    """The network in evaluation mode on its device, giving what it would give under ``autocast(place)``, sooner.

    Weights of convolutions and linear layers are cast to the placement's dtype once: autocast would cast them again in
    every call, to the same bits. On a CPU linear layers go through oneDNN with weights packed beforehand, up to an
    eighth faster than MKL on AMD and more than twice as fast where a few rows meet many weights, as in BLIP's words;
    a network to be compiled is left to the compiler.

    Args:
        network: a module.
        place: where it runs.
        exact: leave linear layers alone at fp32: packed ones differ by 7 ten-millionths, which turns a class or two.
        channels_last: of the weights; it changes last bits, with some networks at bf16 too.
    """
    import torch

    network = network.eval().to(place.device)
    if channels_last:
        network = network.to(memory_format=torch.channels_last)
    dtype = torch_dtype(place.dtype)
    kinds = (torch.nn.Linear, torch.nn.Conv1d, torch.nn.Conv2d, torch.nn.ConvTranspose2d)
    with torch.inference_mode():
        if place.dtype != "fp32":
            for layer in network.modules():
                # not a subclass with a pass of its own: some standardise their weights, which takes float32
                if any(type(layer).forward is kind.forward for kind in kinds):
                    for name, parameter in list(layer.named_parameters(recurse=False)):
                        # a new parameter: an embedding that shares the old one stays as it was
                        setattr(layer, name, torch.nn.Parameter(parameter.to(dtype), requires_grad=False))
        if not place.compile and place.device == "cpu" and packs(place.dtype, exact):
            pack_linear_layers(network)
    return network


def packs(dtype: str, exact: bool) -> bool:
    """Whether oneDNN takes packed weights of a dtype on this processor: bf16 not where AVX2 is the most it has."""
    import torch

    if not torch.backends.mkldnn.is_available():
        return False
    return not exact if dtype == "fp32" else dtype == "bf16" and torch.ops.mkldnn._is_mkldnn_bf16_supported()


def compiled(run: Callable[..., Any], place: Placement, name: str) -> Callable[..., Any]:
    """``run``, by torch.compile where the placement asks for that: as one graph, anew for each shape of its input.

    Raises (when it is called):
        MillError: it does not compile; ``name`` is named.
    """
    return Compiled(run, name) if place.compile else run


class Compiled:
    """A function by torch.compile, which never goes on uncompiled."""

    def __init__(self, run: Callable[..., Any], name: str):
        import torch

        self._name = name
        self._plain: Callable[..., Any] | None = run
        self._run = torch.compile(run, dynamic=False, fullgraph=True)

    def __call__(self, *args: Any, **options: Any) -> Any:
        """What the function returns.

        Raises:
            MillError: it does not compile, or its inputs have too many shapes.
        """
        from torch._dynamo import config, exc

        if self._plain:  # models of transformers hang hooks on themselves in their first pass, which cannot be traced
            self._plain(*args, **options)
            self._plain = None
        try:
            with config.patch(recompile_limit=MOST_SHAPES):
                return self._run(*args, **options)
        except exc.FailOnRecompileLimitHit as error:
            raise MillError(f"{self._name} met more than {MOST_SHAPES} shapes: leave --compile away") from error
        except exc.TorchDynamoException as error:
            raise MillError(
                f"torch.compile cannot compile {self._name}: leave --compile away ({error_text(error)})"
            ) from error


def pack_linear_layers(network: Any) -> None:
    """Replace the forward pass of plain linear layers, in place, by oneDNN's with packed weights."""
    import torch

    for layer in network.modules():
        if type(layer) is torch.nn.Linear and layer.in_features > 1 and layer.out_features > 1:
            layer.forward = PackedLinear(layer.weight, layer.bias)  # type: ignore[method-assign]


class PackedLinear:
    """``linear(x, weight, bias)`` on a CPU, in the dtype of ``weight``."""

    def __init__(self, weight: Any, bias: Any):
        import torch

        self._dtype = weight.dtype
        self._packed = torch.ops.mkldnn._reorder_linear_weight(weight.detach().contiguous())
        self._bias = None if bias is None else bias.detach()
        self._run = torch.ops.mkldnn._linear_pointwise

    def __call__(self, input: Any) -> Any:
        """(..., inputs) → (..., outputs)."""
        return self._run(input.to(self._dtype), self._packed, self._bias, "none", [], "")
