"""What evaluation leaves as it found it: all of this process that a training step depends on beside weights."""

from __future__ import annotations

import contextlib
import random
from collections.abc import Callable, Iterator
from typing import Any

import cv2
import numpy as np
import torch
from torch import nn
from torch.backends import cuda, cudnn, mkldnn

RANDOM: tuple[tuple[Callable[[], Any], Callable[[Any], Any]], ...] = (
    (random.getstate, random.setstate),
    (np.random.get_state, np.random.set_state),
    (torch.get_rng_state, torch.set_rng_state),
    (torch.cuda.get_rng_state_all, torch.cuda.set_rng_state_all),
)
SETTINGS: tuple[tuple[Callable[[], Any], Callable[[Any], Any]], ...] = (
    (torch.is_grad_enabled, torch.set_grad_enabled),
    (torch.get_default_dtype, torch.set_default_dtype),
    (torch.get_default_device, torch.set_default_device),
    (torch.get_num_threads, torch.set_num_threads),  # convolutions choose their algorithm by it
    (torch.get_float32_matmul_precision, torch.set_float32_matmul_precision),
    (torch.get_deterministic_debug_mode, torch.set_deterministic_debug_mode),
    (cuda.flash_sdp_enabled, cuda.enable_flash_sdp),
    (cuda.mem_efficient_sdp_enabled, cuda.enable_mem_efficient_sdp),
    (cuda.math_sdp_enabled, cuda.enable_math_sdp),
    (cuda.cudnn_sdp_enabled, cuda.enable_cudnn_sdp),
    (cv2.getNumThreads, cv2.setNumThreads),
)
FLAGS: tuple[tuple[Any, str], ...] = (
    (cudnn, "enabled"),
    (cudnn, "benchmark"),
    (cudnn, "deterministic"),
    (cudnn, "allow_tf32"),
    (cuda.matmul, "allow_tf32"),
    (cuda.matmul, "allow_fp16_reduced_precision_reduction"),
    (cuda.matmul, "allow_bf16_reduced_precision_reduction"),
    (mkldnn, "enabled"),
)


@contextlib.contextmanager
def undisturbed(*modules: nn.Module) -> Iterator[None]:
    """Whatever is done in here, the next step finds the process as it was, also after an error.

    Restored are the modes of ``modules`` and what of them takes gradients, random states, and the global settings of
    PyTorch and OpenCV that choose arithmetic: a step after an evaluation then has the
    bits of one without.
    """
    modes = [(part, part.training) for module in modules for part in module.modules()]
    gradients = [(parameter, parameter.requires_grad) for module in modules for parameter in module.parameters()]
    states = [get() for get, _ in RANDOM]
    settings = [get() for get, _ in SETTINGS]
    flags = [getattr(owner, name) for owner, name in FLAGS]
    try:
        yield
    finally:
        for part, mode in modes:
            part.training = mode
        for parameter, asked in gradients:
            parameter.requires_grad = asked
        for (_, put), state in zip(RANDOM, states, strict=True):
            put(state)
        for (get, put), value in zip(SETTINGS, settings, strict=True):
            if get() != value:
                put(value)
        for (owner, name), value in zip(FLAGS, flags, strict=True):
            if getattr(owner, name) != value:
                setattr(owner, name, value)
