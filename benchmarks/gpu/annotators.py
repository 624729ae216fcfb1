"""Each annotator's network, batched, at fp32, bf16 and fp16: speed, memory, and how far from the CPU's outputs.

Random weights at the real architectures, pictures of smooth noise at 512x512. `pictures per second` is of
`Network.forward`: upload, the network, download. `bare share` is how much of that time the network itself takes.
"""

from __future__ import annotations

import functools
import statistics
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import cv2
import numpy as np
import torch

from benchmarks.gpu import weights
from benchmarks.gpu.cases import Case, Setting, free, median_seconds, peak_mebibytes, synchronize
from controlmill.annotators.base import Annotator, Network
from controlmill.annotators.catalogue import VARIANTS, Choice
from controlmill.annotators.loading import load_network
from controlmill.annotators.plan import find_weights
from controlmill.annotators.runtime.placement import Placement
from controlmill.annotators.runtime.torch_device import prepare_process

DTYPES = ("fp32", "bf16", "fp16")
BATCH, SIDE = 16, 512
TOY_BATCH, TOY_SIDE = 2, 32
TOY_NETWORKS = ("hed",)
COMPARED = 2  # pictures that the CPU does too


def cases(setting: Setting) -> list[Case]:
    """A case for each network and dtype."""
    found = []
    for name, (annotator, choice) in networks().items():
        if setting.toy and name not in TOY_NETWORKS:
            continue
        subject = Subject(choice, annotator, setting)
        for dtype in DTYPES[:2] if setting.toy else DTYPES:
            found.append(Case(f"{name} {dtype}", functools.partial(subject.measure, dtype)))
    return found


def networks() -> dict[str, tuple[Annotator, Choice]]:
    """Network → the first annotator that uses it; the defaults of the conditions first."""
    defaults = {variant.condition: variant for variant in reversed(VARIANTS)}.values()
    found: dict[str, tuple[Annotator, Choice]] = {}
    for variant in [*reversed(list(defaults)), *VARIANTS]:
        if variant.pattern:
            continue
        choice = Choice(variant.condition, variant.name, variant.target)
        annotator = choice.build()
        if annotator.network:
            found.setdefault(annotator.network.name, (annotator, choice))
    return found


class Subject:
    """A network with its weights, and what the CPU makes of some pictures."""

    def __init__(self, choice: Choice, annotator: Annotator, setting: Setting):
        assert annotator.network is not None
        self.choice, self.annotator, self.setting = choice, annotator, setting
        self.network: type[Network] = annotator.network
        self.batch, side = (TOY_BATCH, TOY_SIDE) if setting.toy else (BATCH, SIDE)
        self.pictures = [picture(number, side) for number in range(self.batch)]

    @functools.cached_property
    def weights(self) -> Mapping[str, Any]:
        """The files, written when they are first asked for."""
        folder = self.setting.scratch / "weights"
        folder.mkdir(exist_ok=True)
        weights.write(self.network, folder)
        return {file.name: file for file in find_weights([self.choice], str(folder))}

    @functools.cached_property
    def on_cpu(self) -> list[np.ndarray]:
        """The numbers of the CPU's outputs at fp32, one array a picture."""
        place = Placement(batch_size=COMPARED, threads=self.setting.threads)
        prepare_process(place)
        network = load_network(self.network, self.weights, place)
        raw = network.forward([network.preprocess(image) for image in self.pictures[:COMPARED]])
        return [numbers(output) for output in raw]

    def measure(self, dtype: str) -> dict[str, Any]:
        """The row of the table."""
        reference = self.on_cpu
        place = Placement(self.setting.device, dtype, self.batch, threads=self.setting.threads)
        prepare_process(place)
        network = load_network(self.network, self.weights, place)
        started = time.perf_counter()
        items = [network.preprocess(image) for image in self.pictures]
        before = (time.perf_counter() - started) / self.batch
        raw = network.forward(items)
        started = time.perf_counter()
        for output, image in zip(raw[:COMPARED], self.pictures, strict=False):
            self.annotator.annotate(
                image, network.postprocess(output, image), self.annotator.draw(np.random.default_rng(0))
            )
        after = (time.perf_counter() - started) / COMPARED
        measured = differences(reference, [numbers(output) for output in raw[:COMPARED]])
        del raw
        free()
        seconds = median_seconds(self.setting, lambda: network.forward(items))
        peak = peak_mebibytes(self.setting)
        return {
            "batch": self.batch,
            "pictures_per_second": self.batch / seconds,
            "bare_share": bare_share(network, items, self.setting),
            "peak_MiB": peak,
            **measured,
            "host_ms_a_picture": 1000 * (before + after),
        }


def picture(seed: int, side: int) -> np.ndarray:
    """Smooth noise, uint8 (side, side, 3)."""
    rng = np.random.default_rng(seed)
    coarse = rng.integers(0, 256, (side // 16, side // 16, 3), dtype=np.uint8)
    return cv2.resize(coarse, (side, side), interpolation=cv2.INTER_CUBIC)


def numbers(raw: Any) -> np.ndarray:
    """All numbers of a raw output, one after another: float64, or int64 where all are whole."""
    if isinstance(raw, torch.Tensor):
        raw = raw.detach().float().cpu().numpy()
    if isinstance(raw, np.ndarray):
        return raw.astype(np.float64).ravel()
    if isinstance(raw, int):
        return np.array([raw])
    if isinstance(raw, (list, tuple)):
        return np.concatenate([numbers(part) for part in raw] or [np.zeros(0)])
    return np.array([float(raw)])


def differences(reference: list[np.ndarray], found: list[np.ndarray]) -> dict[str, Any]:
    """Largest and mean difference and the span of the reference; of whole numbers the share of pictures that differ."""
    if reference[0].dtype.kind == "i":
        unequal = [not np.array_equal(a, b) for a, b in zip(reference, found, strict=True)]
        return {"pictures_that_differ": sum(unequal) / len(unequal)}
    if any(a.shape != b.shape for a, b in zip(reference, found, strict=True)):
        return {"pictures_that_differ": 1.0}
    whole, other = np.concatenate(reference), np.concatenate(found)
    apart = np.abs(whole - other)
    return {"largest_difference": apart.max(), "mean_difference": apart.mean(), "span": float(np.ptp(whole))}


def bare_share(network: Network, items: list[Any], setting: Setting, calls: int = 5) -> float:
    """How much of a batch's time the network's own modules take: the median of some calls."""
    roots, shares = outermost(lambda: network.forward(items)), []
    for _ in range(calls):
        with timed_modules(roots, setting) as spent:
            started = time.perf_counter()
            network.forward(items)
            synchronize(setting)
            whole = time.perf_counter() - started
        shares.append(sum(end() for end in spent) / whole)
    return statistics.median(shares)


def outermost(call: Any) -> list[torch.nn.Module]:
    """The modules that are called by no other module."""
    depth, found = 0, dict[int, torch.nn.Module]()

    def enter(module: torch.nn.Module, *_: Any) -> None:
        nonlocal depth
        if depth == 0:
            found[id(module)] = module
        depth += 1

    def leave(*_: Any) -> None:
        nonlocal depth
        depth -= 1

    hooks = torch.nn.modules.module
    handles = [hooks.register_module_forward_pre_hook(enter), hooks.register_module_forward_hook(leave)]
    try:
        call()
    finally:
        for handle in handles:
            handle.remove()
    return list(found.values())


@contextmanager
def timed_modules(modules: list[torch.nn.Module], setting: Setting) -> Iterator[list[Any]]:
    """A list that gets, for each call of a module, a function that returns its seconds once the device is done."""
    spent: list[Any] = []
    begun: list[Any] = []

    def mark() -> Any:
        if not setting.on_gpu:
            return time.perf_counter()
        event = torch.cuda.Event(enable_timing=True)
        event.record()
        return event

    def between(first: Any, last: Any) -> float:
        return first.elapsed_time(last) / 1000 if setting.on_gpu else last - first

    def leave(*_: Any) -> None:
        spent.append(functools.partial(between, begun.pop(), mark()))

    handles = [module.register_forward_pre_hook(lambda *_: begun.append(mark())) for module in modules]
    handles += [module.register_forward_hook(leave) for module in modules]
    try:
        yield spent
    finally:
        for handle in handles:
            handle.remove()
