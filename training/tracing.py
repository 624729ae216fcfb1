"""What networks compute and keep, found without computing: on tensors that have shapes and a device, and no numbers.

The tensors are said to be on the CPU, whose attention is fused as a GPU's is; PyTorch's meta device would write out the
matrix of every pair of tokens, which at 512 pixels is most of what a step seems to keep.
"""

from __future__ import annotations

import contextlib
import weakref
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import flop_registry, sdpa_backward_flop_count, sdpa_flop_count, shape_wrapper


@dataclass
class Traced:
    """Floating-point operations, and the most bytes that were alive at once, of what ran."""

    operations: float = 0.0
    bytes: int = 0


@contextlib.contextmanager
def unreal(*networks: nn.Module) -> Iterator[None]:
    """Networks of the meta device become such of unreal tensors, as all that is made in here."""
    with FakeTensorMode(allow_non_fake_inputs=True):
        for network in networks:
            network.to_empty(device="cpu")
        yield


@contextlib.contextmanager
def traced(network: nn.Module, *inputs: torch.Tensor) -> Iterator[Traced]:
    """Count what runs in here; parameters, their gradients and inputs are not among its bytes."""
    found, counter = Traced(), _Counter([*network.parameters(), *inputs])
    trained = [parameter for parameter in network.parameters() if parameter.requires_grad]
    handles = [p.register_post_accumulate_grad_hook(lambda p: counter.leave_out(p.grad)) for p in trained]
    try:
        with counter:
            yield found
    finally:
        for handle in handles:
            handle.remove()
    found.operations, found.bytes = float(counter.operations), counter.most


class _Counter(TorchDispatchMode):
    """Operations of what runs in it, as PyTorch's ``FlopCounterMode`` counts them, and bytes that are alive at once.

    That counter follows modules too, and what it holds of them is memory that gradient checkpointing had given back.
    """

    def __init__(self, known: list[torch.Tensor]):
        super().__init__()
        self.operations = self.now = self.most = 0
        self._bytes = {tensor.untyped_storage()._cdata: 0 for tensor in known}
        self._known = known  # so that their identities are not given to others

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        made = func(*args, **kwargs)
        if count := OPERATIONS.get(func.overloadpacket):
            self.operations += count(*args, **kwargs, out_val=made)
        for tensor in tree_leaves(made):
            if isinstance(tensor, torch.Tensor):
                self._note(tensor.untyped_storage())
        return made

    def _note(self, storage: torch.UntypedStorage) -> None:
        if storage._cdata in self._bytes:
            return
        self._bytes[storage._cdata] = storage.nbytes()
        self.now += storage.nbytes()
        self.most = max(self.most, self.now)
        weakref.finalize(storage, self._gone, storage._cdata)

    def _gone(self, identity: int) -> None:
        self.now -= self._bytes.pop(identity)

    def leave_out(self, tensor: torch.Tensor | None) -> None:
        """What is counted elsewhere."""
        if tensor is not None and (identity := tensor.untyped_storage()._cdata) in self._bytes:
            self.now -= self._bytes[identity]
            self._bytes[identity] = 0


def _forward(query: Any, key: Any, value: Any, *_: Any, **__: Any) -> int:
    operations: int = sdpa_flop_count(query, key, value)
    return operations


def _backward(gradient: Any, query: Any, key: Any, value: Any, *_: Any, **__: Any) -> int:
    operations: int = sdpa_backward_flop_count(gradient, query, key, value)
    return operations


OPERATIONS = {  # of attention, PyTorch's registry knows the kernels of GPUs alone
    **flop_registry,
    torch.ops.aten._scaled_dot_product_flash_attention_for_cpu: shape_wrapper(_forward),
    torch.ops.aten._scaled_dot_product_flash_attention_for_cpu_backward: shape_wrapper(_backward),
}
