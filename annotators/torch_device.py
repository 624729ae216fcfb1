"""Devices, dtypes and safe loading of weights. Torch is imported only when a network is."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

from ..schemas.errors import MillError
from .base import Placement

DTYPES = {"fp32": "float32", "bf16": "bfloat16", "fp16": "float16"}


def resolve_device(name: str) -> str:
    """``auto`` → the best device here; any other name is checked.

    Raises:
        MillError: this machine has no such device.
    """
    import torch

    if name == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    kind, _, index = name.partition(":")
    if kind not in ("cpu", "cuda", "mps"):
        raise MillError(f"--device {name}: choose auto, cpu, cuda, cuda:N or mps")
    if kind == "cuda" and (not torch.cuda.is_available() or int(index or 0) >= torch.cuda.device_count()):
        raise MillError(f"--device {name}: this machine has {torch.cuda.device_count()} CUDA devices")
    if kind == "mps" and not torch.backends.mps.is_available():
        raise MillError("--device mps: PyTorch finds no Apple GPU here")
    return name


def prepare_process(place: Placement) -> None:
    """Fix the threads of networks in this process, and forbid the faster but inexact float32 modes of GPUs."""
    import torch

    torch.set_num_threads(place.threads)
    torch.backends.cuda.matmul.allow_tf32 = False
    torch.backends.cudnn.allow_tf32 = False
    torch.backends.cudnn.benchmark = False


def autocast(place: Placement) -> AbstractContextManager[Any]:
    """Autocast to the placement's dtype; nothing at fp32."""
    import torch

    if place.dtype == "fp32":
        return nullcontext()
    return torch.autocast(place.device.split(":")[0], dtype=getattr(torch, DTYPES[place.dtype]))


def load_state_dict(path: Path) -> dict[str, Any]:
    """A state dict from a .safetensors or .pth file, onto the CPU, never unpickling code."""
    if path.suffix == ".safetensors":
        from safetensors.torch import load_file

        return load_file(path)
    import torch

    state: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
    return state


def describe_devices() -> str:
    """Devices of this machine and the dtypes that are fast on them, in one line."""
    import torch

    said = []
    for index in range(torch.cuda.device_count()):
        said.append(f"cuda:{index} {torch.cuda.get_device_name(index)} (fp32, fp16{', bf16' * _cuda_bf16()})")
    if torch.backends.mps.is_available():
        said.append("mps (fp32, fp16)")
    said.append(f"cpu (fp32{', bf16' * cpu_has_bf16()})")
    return "devices: " + ", ".join(said)


def _cuda_bf16() -> bool:
    import torch

    return bool(torch.cuda.is_bf16_supported())


def cpu_has_bf16() -> bool:
    """Whether the processor multiplies bfloat16 itself (AVX512-BF16 or AMX)."""
    import torch

    return bool(torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported())
