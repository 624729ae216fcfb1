"""Steps at Stable Diffusion 1.5's architecture, 512 pixels, random weights: ours against a plain diffusers loop.

The rows are in memory, so that what is compared is the step: drawing, upload, encoders, loss, gradient, optimiser.
`plan / peak` is what `train --plan` says of memory beside what was used. With caches both take moments and embeddings
instead of pictures and prompts.
"""

from __future__ import annotations

import functools
import itertools
import os
from collections.abc import Callable, Iterator
from typing import Any

os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # before PyTorch starts cuBLAS: for --deterministic

import numpy as np
import torch
from accelerate.state import AcceleratorState

from benchmarks.gpu.base import TOKENS, write_base
from benchmarks.gpu.cases import Case, Setting, median_seconds, peak_mebibytes, synchronize
from benchmarks.gpu.plain_loop import plain_step
from controlmill.bases.registry import read_facts
from controlmill.evaluation.rows import Sample
from controlmill.schemas.conditions import CONDITIONS
from controlmill.training.arithmetic import arithmetic
from controlmill.training.config import TrainConfig
from controlmill.training.data.ahead import ahead
from controlmill.training.data.cache_use import Caches
from controlmill.training.estimate import make_plan
from controlmill.training.run import checkpoint
from controlmill.training.run.prepare import Prepared
from controlmill.training.trainer import Trainer

BATCH, SIDE = 4, 512
TOY_BATCH, TOY_SIDE = 2, 64
POOL = 32  # rows in memory
TIMED_SECONDS = 4.0
CACHED = Caches({"latents": "fp32", "embeddings": "fp32"}, {"latents": ("moments",), "embeddings": ("embedding",)})
TOY_VARIANTS = ("bf16", "fp32 in TF32")
VARIANTS: dict[str, dict[str, Any]] = {
    "bf16": {"precision": "bf16"},
    "fp32 in TF32": {"tf32": True},
    "fp32": {},
    "bf16, gradient checkpointing": {"precision": "bf16", "gradient_checkpointing": True},
    "bf16, compiled": {"precision": "bf16", "compile": True},  # last: compiling takes minutes
}


def cases(setting: Setting) -> list[Case]:
    """The cases in the order of their worth."""
    bench = Bench(setting)
    found = [Case("exact resume, --deterministic", bench.resumed)]
    for name, changes in VARIANTS.items():
        if setting.toy and name not in TOY_VARIANTS:
            continue
        for loop, measure in (("ours", bench.ours), ("plain", bench.plain)):
            for caches in (False, True) if name == "bf16" else (False,):
                title = f"{loop}, {name}{', caches' if caches else ''}"
                found.append(Case(title, functools.partial(measure, changes, caches)))
        if name == "bf16" and setting.on_gpu:
            found += [
                Case(f"idle device, {loop}, bf16", functools.partial(bench.idle, loop)) for loop in ("ours", "plain")
            ]
            found.append(Case("fp16 overflow", bench.overflow))
    return found


class Bench:
    """The base, the rows, and the loops over them."""

    def __init__(self, setting: Setting):
        self.setting = setting
        self.batch, self.side = (TOY_BATCH, TOY_SIDE) if setting.toy else (BATCH, SIDE)

    @functools.cached_property
    def base(self) -> str:
        """The folder of the base, made when it is first asked for."""
        return str(write_base(self.setting.scratch / "base", self.setting.toy, self.setting.device))

    def ours(self, changes: dict[str, Any], caches: bool) -> dict[str, Any]:
        """Our trainer's step."""
        trainer = self.trainer("ours", changes, caches)
        source = ahead(self.batches(caches), trainer.prepare)
        with arithmetic(trainer.config.tf32, trainer.config.deterministic):
            row = self.timed(lambda: our_step(trainer, next(source)))
        source.close()
        if not caches and "compile" not in changes:
            plan = make_plan(trainer.config, read_facts(self.base), self.side, self.side).total / 2**20
            row |= {"plan_MiB": plan, "plan_/_peak": plan / row["peak_MiB"] if row["peak_MiB"] else None}
        return row

    def plain(self, changes: dict[str, Any], caches: bool) -> dict[str, Any]:
        """The plain loop's step."""
        return self.timed(plain_step(self.base, self.setting.device, changes, self.batches(caches), caches))

    def timed(self, step: Callable[[], Any]) -> dict[str, Any]:
        """The row of a step."""
        seconds = median_seconds(self.setting, step, TIMED_SECONDS)
        return {
            "batch": self.batch,
            "samples_per_second": self.batch / seconds,
            "seconds_a_step": seconds,
            "peak_MiB": peak_mebibytes(self.setting),
        }

    def idle(self, loop: str, steps: int = 4) -> dict[str, Any]:
        """The share of the time, from the first kernel to the last, in which the GPU computes and copies nothing."""
        if loop == "ours":
            trainer = self.trainer("idle", VARIANTS["bf16"], caches=False)
            source = ahead(self.batches(False), trainer.prepare)

            def step() -> None:
                our_step(trainer, next(source))
        else:
            step = plain_step(self.base, self.setting.device, VARIANTS["bf16"], self.batches(False), caches=False)
        median_seconds(self.setting, step, 1.0)
        with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CUDA]) as profile:
            for _ in range(steps):
                step()
            synchronize(self.setting)
        ranges = [event.time_range for event in profile.events() if event.device_type.name == "CUDA"]
        return {"idle_share": idle_share([(found.start, found.end) for found in ranges])}

    def resumed(self) -> dict[str, Any]:
        """Whether four steps are, bit for bit, two steps, a checkpoint and two more."""
        changes = {"precision": "bf16", "deterministic": True}
        pool = [next(source) for source in [self.batches(False)] for _ in range(4)]
        with arithmetic(tf32=False, deterministic=True):
            whole = self.trainer("whole", changes, caches=False)
            for samples in pool:
                our_step(whole, whole.prepare(samples))
            expected = copied(whole)
            del whole
            cut = self.trainer("cut", changes, caches=False)
            for samples in pool[:2]:
                our_step(cut, cut.prepare(samples))
            checkpoint.save(cut.run, cut.step, cut.trained, cut.fingerprint, 1)
            del cut
            again = self.trainer("cut", changes, caches=False, resume=True)
            for samples in pool[2:]:
                our_step(again, again.prepare(samples))
            found = copied(again)
        unequal = sum(not torch.equal(expected[name], found[name]) for name in expected)
        return {"tensors": len(expected), "tensors_that_differ": unequal}

    def overflow(self) -> dict[str, Any]:
        """fp16: a scale that overflows skips the step and is halved; the next good step counts again."""
        trainer = self.trainer("overflow", {"precision": "fp16"}, caches=False)
        source = ahead(self.batches(False), trainer.prepare)
        our_step(trainer, next(source))
        scaler = trainer.accelerator.scaler
        good, before = scaler.get_scale(), copied(trainer)
        scaler.update(2.0**100)
        our_step(trainer, next(source))
        skipped, halved = trainer.divergence.overflows, scaler.get_scale() / 2.0**100
        unchanged = all(torch.equal(before[name], value) for name, value in copied(trainer).items())
        scaler.update(good)
        our_step(trainer, next(source))
        source.close()
        return {
            "steps_skipped": skipped,
            "weights_unchanged": unchanged,
            "scale_became": halved,
            "skipped_after": trainer.divergence.overflows,
        }

    def trainer(self, run: str, changes: dict[str, Any], caches: bool, resume: bool = False) -> Trainer:
        """Our trainer over rows in memory."""
        AcceleratorState._reset_state(reset_partial_state=True)  # one process, runs of several precisions
        device = "cpu" if self.setting.device == "cpu" else "cuda"
        config = TrainConfig(
            condition="canny", base=self.base, batch_size=self.batch, held_out=0.0, device=device, **changes
        )
        facts, nothing = read_facts(self.base), Caches()
        rows: Any = None  # neither tables nor a selection of rows are asked for
        prepared = Prepared(rows, CONDITIONS["canny"], rows, facts, "", {}, CACHED if caches else nothing, "0..0")
        folder = self.setting.scratch / "runs" / run
        folder.mkdir(parents=True, exist_ok=True)
        return Trainer(folder, config, prepared, resume)

    def batches(self, caches: bool) -> Iterator[list[Sample]]:
        """Batches of rows in memory, without end."""
        rng = np.random.default_rng(0)
        pool = [
            row(rng, number, self.side, self.width, caches) for number in range(max(POOL // self.batch, 1) * self.batch)
        ]
        for first in itertools.cycle(range(0, len(pool), self.batch)):
            yield pool[first : first + self.batch]

    @property
    def width(self) -> int:
        """Of the text encoder's embeddings."""
        return read_facts(self.base).cache_sizes("embeddings")["width"]


def row(rng: np.random.Generator, number: int, side: int, width: int, caches: bool) -> Sample:
    """A decoded row of noise."""
    image = rng.integers(0, 256, (side, side, 3), dtype=np.uint8)
    lines = (rng.random((side, side)) < 0.1).astype(np.uint8) * 255
    latents = {"moments": rng.random((2, 4, side // 8, side // 8), np.float32)} if caches else None
    prompt = {"embedding": rng.standard_normal((TOKENS, width), np.float32)} if caches else None
    return Sample(0, (0, number), image, {"canny": lines}, "a photograph of something", {}, latents, prompt)


def our_step(trainer: Trainer, batch: list[Any]) -> None:
    """One step of the trainer's loop."""
    trainer.train_step(batch)
    trainer.step += 1


def copied(trainer: Trainer) -> dict[str, torch.Tensor]:
    """The ControlNet's weights, on the CPU."""
    return {name: value.detach().cpu().clone() for name, value in trainer.trained.controlnet.state_dict().items()}


def idle_share(ranges: list[tuple[float, float]]) -> float:
    """The share of the time between the first start and the last end in which none of the ranges is."""
    busy, reached = 0.0, min(start for start, _ in ranges)
    first = reached
    for start, end in sorted(ranges):
        busy += max(0.0, end - max(start, reached))
        reached = max(reached, end)
    return 1 - busy / (reached - first)
