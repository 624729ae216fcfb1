"""One phase of training from nothing: optimiser, averaged weights, checkpoints and the loss curve.

Several processes may train together; each takes its share of a batch.
"""

from __future__ import annotations

import copy
import csv
import math
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch import distributed, nn

from controlmill.schemas.files.whole import replacing

CHECKPOINT_SECONDS = 120.0
LOG_EVERY = 25


class Phase:
    """One phase of training: modules, optimiser, averaged weights, checkpoints and the loss curve."""

    def __init__(self, name: str, modules: dict[str, nn.Module], folder: Path, rounds: Sequence[tuple[int, float]]):
        self.name, self.modules, self.folder = name, nn.ModuleDict(modules), folder
        self.rounds = [(steps, rate) for steps, rate in rounds if steps]
        self.steps = sum(steps for steps, _ in rounds)
        self.optimizer = torch.optim.AdamW(self.modules.parameters(), weight_decay=1e-2, fused=True)
        self.average = copy.deepcopy(self.modules).requires_grad_(False)
        self.step = 0
        self._saved = time.monotonic()
        self._losses: list[float] = []
        state = self._path(".pt")
        if state.exists():
            saved = torch.load(state, weights_only=True)
            self.modules.load_state_dict(saved["modules"])
            self.average.load_state_dict(saved["average"])
            self.optimizer.load_state_dict(saved["optimizer"])
            self.step = saved["step"]
            if not rank_and_world()[0]:
                lines = self._path(".csv").read_text().splitlines(keepends=True)
                self._path(".csv").write_text("".join(x for x in lines if int(x.split(",")[0]) <= self.step))

    def _path(self, ending: str) -> Path:
        return self.folder / f"{self.name}{ending}"

    def round(self) -> tuple[int, int]:
        """The number of the round that the next step belongs to, and the step's number in it."""
        step = self.step
        for number, (steps, _) in enumerate(self.rounds):
            if step < steps:
                return number, step
            step -= steps
        raise AssertionError("the phase is done")

    def update(self, loss: torch.Tensor, warmup: int = 200) -> None:
        """One optimiser step: in each round a warm-up, then a cosine to zero; gradient norm at most 1; mean weights."""
        number, step = self.round()
        steps, rate = self.rounds[number]
        for group in self.optimizer.param_groups:
            group["lr"] = rate * min(1.0, (step + 1) / warmup) * (0.5 + 0.5 * math.cos(math.pi * step / steps))
        self.optimizer.zero_grad()
        loss.backward()
        average_gradients(self.modules)
        nn.utils.clip_grad_norm_(self.modules.parameters(), 1.0)
        self.optimizer.step()
        self.step += 1
        decay = min(0.999, (1 + self.step) / (10 + self.step))
        with torch.no_grad():
            for averaged, value in zip(self.average.parameters(), self.modules.parameters(), strict=True):
                averaged.lerp_(value, 1 - decay)
        if rank_and_world()[0]:
            return
        self._losses.append(loss.item())
        if self.step % LOG_EVERY == 0 or self.step == self.steps:
            self._log(float(np.mean(self._losses)))
            self._losses.clear()
        if self.step == self.steps or time.monotonic() - self._saved > CHECKPOINT_SECONDS:
            self.save()

    def _log(self, loss: float) -> None:
        with self._path(".csv").open("a", newline="") as file:
            csv.writer(file).writerow((self.step, f"{loss:.6f}"))
        if self.step % (LOG_EVERY * 8) == 0:
            print(f"{self.name} {self.step}/{self.steps} loss {loss:.5f}", flush=True)

    def save(self) -> None:
        """Checkpoint, whole or not at all."""
        state = {
            "modules": self.modules.state_dict(),
            "average": self.average.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "step": self.step,
        }
        with replacing(self._path(".pt")) as scratch:
            torch.save(state, scratch)
        self._saved = time.monotonic()


def rank_and_world() -> tuple[int, int]:
    """This process's number, and how many train together (``torchrun``); (0, 1) for one alone."""
    return (distributed.get_rank(), distributed.get_world_size()) if distributed.is_initialized() else (0, 1)


def share_of(batch: int) -> slice:
    """The samples of a batch that are this process's."""
    rank, world = rank_and_world()
    return slice(rank * batch // world, (rank + 1) * batch // world)


def average_gradients(modules: nn.Module) -> None:
    """Mean over the processes that train together, in one message."""
    if not distributed.is_initialized():
        return
    gradients = [parameter.grad for parameter in modules.parameters() if parameter.grad is not None]
    flat = torch.cat([gradient.flatten() for gradient in gradients])
    distributed.all_reduce(flat)
    flat /= distributed.get_world_size()
    for gradient, mean in zip(gradients, flat.split([g.numel() for g in gradients]), strict=True):
        gradient.copy_(mean.view_as(gradient))
