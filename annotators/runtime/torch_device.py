"""Devices, dtypes and safe loading of weights. Torch is imported only when a network is."""

from __future__ import annotations

import contextlib
import ctypes
import pickle
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from controlmill.schemas.errors import MillError, error_text
from controlmill.schemas.machine import processors

from ..options import DEVICE, DEVICES
from .placement import Placement

if TYPE_CHECKING:
    import torch

M_TRIM_THRESHOLD, M_MMAP_THRESHOLD, M_MMAP_MAX = -1, -3, -4  # of mallopt(3)
LARGE = 32 * 1024 * 1024  # bytes: the most that glibc takes for M_MMAP_THRESHOLD; Pillow's blocks are half of it
DTYPES = {"fp32": "float32", "bf16": "bfloat16", "fp16": "float16"}


def torch_dtype(name: str) -> torch.dtype:
    """Of a name in ``DTYPES``."""
    import torch

    dtype: torch.dtype = getattr(torch, DTYPES[name])
    return dtype


def check_device(name: str) -> None:
    """Raise MillError where a device is called what none is; torch is not asked whether this machine has it."""
    if not re.fullmatch(DEVICE, name):
        raise MillError(f"--device {name}: must be {DEVICES}")


def check_dtype(name: str) -> None:
    """Raise MillError where there is no such dtype."""
    if name not in ("auto", *DTYPES):
        raise MillError(f"--dtype {name}: must be one of auto, {', '.join(DTYPES)}")


def resolve_device(name: str) -> str:
    """``auto`` → the best device here; any other name is checked.

    Raises:
        MillError: this machine has no such device.
    """
    check_device(name)
    import torch

    if name == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    kind, _, index = name.partition(":")
    if kind == "cuda" and (not torch.cuda.is_available() or int(index or 0) >= torch.cuda.device_count()):
        raise MillError(f"--device {name}: this machine has {torch.cuda.device_count()} CUDA devices")
    if kind == "mps" and not torch.backends.mps.is_available():
        raise MillError("--device mps: PyTorch finds no Apple GPU here")
    return name


def resolve_dtype(name: str, device: str) -> str:
    """``auto`` → bf16 where the processor multiplies it natively (AMX, AVX512-BF16, CUDA), else fp32.

    Raises:
        MillError: no such dtype.
    """
    check_dtype(name)
    if name in DTYPES:
        return name
    import torch

    kind = device.split(":", maxsplit=1)[0]
    if kind == "cuda":
        return "bf16" if torch.cuda.is_bf16_supported(including_emulation=False) else "fp32"
    native = ("_is_amx_tile_supported", "_is_avx512_bf16_supported")
    here = kind == "cpu" and any(getattr(torch.cpu, check, lambda: False)() for check in native)
    return "bf16" if here else "fp32"


def device_of_worker(device: str, worker: int) -> str:
    """``cuda`` → ``cuda:N``, dealing the devices of a machine out to its workers; any other name stays."""
    import torch

    return f"cuda:{worker % torch.cuda.device_count()}" if device == "cuda" else device


def device_kind(device: str) -> str:
    """What a device of this machine is, as far as the last bits of a network's outputs may depend on it.

    Of a GPU it is the model. Processors are one kind, though bits of theirs may differ too.
    """
    import torch

    return torch.cuda.get_device_name(device) if device.startswith("cuda") else device


def limit_threads() -> None:
    """No more threads than processors that may be used: PyTorch does not count what a control group allows."""
    import torch

    torch.set_num_threads(min(torch.get_num_threads(), processors()))


def prepare_process(place: Placement) -> None:
    """Fix the threads of networks in this process, and forbid the faster but inexact float32 modes of GPUs."""
    import torch

    torch.set_num_threads(place.threads)
    keep_freed_memory()
    allow_tf32(False)
    torch.backends.cudnn.benchmark = False
    torch.backends.cudnn.deterministic = True


def allow_tf32(allowed: bool) -> None:
    """Whether NVIDIA GPUs may round float32 inputs of products and convolutions to 10-bit mantissas, for speed.

    PyTorch's own default is neither: convolutions do, products do not.
    """
    import torch

    torch.backends.cuda.matmul.allow_tf32 = allowed
    torch.backends.cudnn.allow_tf32 = allowed


def keep_freed_memory(of_large: bool = True) -> None:
    """Let this process keep the memory of freed arrays for its next ones.

    glibc asks the system for each large array anew, whose fresh pages cost up to a tenth of a network's time on a CPU,
    and a quarter of the time of scaling photographs.

    Args:
        of_large: of arrays above 32 MiB too, which a network needs again; else theirs goes back to the system.
    """
    with contextlib.suppress(AttributeError, OSError, TypeError):  # another C library
        mallopt = ctypes.CDLL(None).mallopt
        if of_large:
            mallopt(M_MMAP_MAX, 0)
        else:
            mallopt(M_MMAP_THRESHOLD, LARGE)
        mallopt(M_TRIM_THRESHOLD, 2**31 - 1 if of_large else 8 * LARGE)


def autocast(place: Placement) -> contextlib.AbstractContextManager[Any]:
    """Autocast to the placement's dtype; nothing at fp32."""
    import torch

    if place.dtype == "fp32":
        return contextlib.nullcontext()
    return torch.autocast(place.device.split(":")[0], dtype=torch_dtype(place.dtype))


def upload(batch: Sequence[np.ndarray], place: Placement, channels_last: bool | None = None) -> Any:
    """A batch as one tensor on the device, (B, C, H, W).

    Args:
        batch: float32 arrays (C, H, W) of one shape.
        place: where it goes; through pinned memory to a GPU, so that the copy overlaps what runs there.
        channels_last: keep a pixel's channels side by side in memory, which is faster but makes convolutions choose
            other algorithms, and so other last bits. By default not at fp32, where maps equal the reference's exactly.
    """
    import torch

    if channels_last is None:
        channels_last = place.dtype != "fp32"
    layout = torch.channels_last if channels_last else torch.contiguous_format
    tensor = torch.from_numpy(np.stack(batch)).contiguous(memory_format=layout)
    if place.device.startswith("cuda"):
        return tensor.pin_memory().to(place.device, non_blocking=True)
    return tensor.to(place.device)


@contextlib.contextmanager
def no_init_weights() -> Iterator[None]:
    """Networks that are made in it draw no random weights: for those that a whole state dict is loaded into next.

    Drawing takes up to five times as long as all else that makes a network (MiDaS, 123 M parameters).
    """
    import torch
    from torch.nn import init
    from torch.overrides import TorchFunctionMode

    draws = {
        *(torch.Tensor.uniform_, torch.Tensor.normal_, torch.Tensor.erfinv_, init.uniform_, init.normal_),
        *(init.kaiming_uniform_, init.kaiming_normal_, init.xavier_uniform_, init.xavier_normal_, init.trunc_normal_),
    }

    class NoDraws(TorchFunctionMode):
        def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            if func in draws:
                return args[0] if args else kwargs["tensor"]
            return func(*args, **(kwargs or {}))

    with NoDraws():
        yield


def load_state_dict(path: Path) -> dict[str, Any]:
    """A state dict from a .safetensors or .pth file, onto the CPU, never unpickling code.

    Raises:
        MillError: it is damaged, or holds more than tensors.
    """
    try:
        state = _loaded(path)
    except pickle.UnpicklingError as error:
        raise MillError(
            f"{path} is damaged, or holds more than tensors and could run code: it is not loaded. Get the file that "
            "the models' page names, or save its tensors as .safetensors"
        ) from error
    except Exception as error:  # a file that ends early is a RuntimeError, an EOFError, an OSError or safetensors' own
        if isinstance(error, MemoryError | FileNotFoundError | PermissionError) or "allocate memory" in str(error):
            raise
        size = f"{path.stat().st_size:,} bytes"
        raise MillError(f"{path} ({size}) is damaged ({error_text(error)}): fetch it again") from error
    if not isinstance(state, dict):
        raise MillError(f"{path} holds a {type(state).__name__} and no tensors by name: these are other weights")
    return state


def _loaded(path: Path) -> Any:
    if path.suffix == ".safetensors":
        from safetensors.torch import load_file

        return load_file(path)
    import torch

    return torch.load(path, map_location="cpu", weights_only=True)


def finite(values: np.ndarray) -> np.ndarray:
    """The same values.

    Raises:
        ValueError: some are infinite or not numbers, which a map would hide.
    """
    if not np.isfinite(values).all():
        raise ValueError("the network returned values that are not finite; --dtype fp32 may help")
    return values


def devices() -> dict[str, str]:
    """Devices of this machine → the dtype that ``auto`` picks on each."""
    import torch

    there = {f"cuda:{index} {torch.cuda.get_device_name(index)}": "cuda" for index in range(torch.cuda.device_count())}
    if torch.backends.mps.is_available():
        there["mps"] = "mps"
    there["cpu"] = "cpu"
    return {name: resolve_dtype("auto", kind) for name, kind in there.items()}
