"""Settings of PyTorch that choose how numbers are computed, for as long as a run trains."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator

import torch
from torch.backends import cuda, cudnn

from controlmill.annotators.runtime.torch_device import allow_tf32

CUBLAS = "CUBLAS_WORKSPACE_CONFIG"


@contextlib.contextmanager
def arithmetic(tf32: bool, deterministic: bool) -> Iterator[None]:
    """Compute float32 products in TF32 or not, with deterministic kernels only or any; afterwards as before.

    ``deterministic`` raises where an operation has no deterministic kernel. cuBLAS reads its variable once, when a
    process first uses it.
    """
    variable, mode = os.environ.get(CUBLAS), torch.get_deterministic_debug_mode()
    before = cuda.matmul.allow_tf32, cudnn.allow_tf32, cudnn.benchmark
    try:
        allow_tf32(tf32)
        if deterministic:
            os.environ.setdefault(CUBLAS, ":4096:8")  # without it cuBLAS refuses
            torch.use_deterministic_algorithms(True)
            cudnn.benchmark = False
        yield
    finally:
        cuda.matmul.allow_tf32, cudnn.allow_tf32, cudnn.benchmark = before
        torch.set_deterministic_debug_mode(mode)
        if variable is None:
            os.environ.pop(CUBLAS, None)
