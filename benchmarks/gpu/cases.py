"""A part is a list of cases: they are run in order until the time is up, and each result is written at once."""

from __future__ import annotations

import gc
import json
import os
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from controlmill.schemas.errors import error_text

TIMED_SECONDS = 2.0
LEAST_CALLS = 3


@dataclass(frozen=True)
class Setting:
    """Where a part runs. ``toy``: tiny networks and pictures, for a test of the code without a GPU."""

    device: str
    scratch: Path
    toy: bool = False

    @property
    def threads(self) -> int:
        """Of the host."""
        return 1 if self.toy else os.cpu_count() or 1

    @property
    def on_gpu(self) -> bool:
        """Whether memory and time are a GPU's."""
        return self.device.startswith("cuda")


@dataclass(frozen=True)
class Case:
    """One row of the table. ``run`` returns its values; what it raises is the reason why there are none."""

    name: str
    run: Callable[[], dict[str, Any]]


def run_cases(
    cases: Sequence[Case], file: Path, seconds: float, head: dict[str, Any], clock: Callable[[], float] = time.monotonic
) -> None:
    """Run the cases and keep ``file`` up to date, so that it says what did not run also after a kill.

    Args:
        cases: in the order of their worth.
        file: JSON: ``head``, ``rows`` (a case and its values) and ``not_run`` (a case and the reason).
        seconds: no case is begun after so many.
    """
    ends = clock() + seconds
    rows: list[dict[str, Any]] = []
    not_run = {case.name: "the time was up" for case in cases}

    def write() -> None:
        file.write_text(json.dumps({**head, "rows": rows, "not_run": not_run}, indent=1), encoding="utf-8")

    write()
    for case in cases:
        if clock() >= ends:
            return
        started = clock()
        try:
            values = case.run()
            rows.append({"case": case.name, **values, "took_seconds": round(clock() - started, 1)})
            del not_run[case.name]
        except Exception as error:
            not_run[case.name] = error_text(error)
        free()
        write()


def free() -> None:
    """Give the device's memory back."""
    import torch

    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()


def synchronize(setting: Setting) -> None:
    """Wait until the device has done what it was given."""
    import torch

    if setting.on_gpu:
        torch.cuda.synchronize(setting.device)


def median_seconds(setting: Setting, call: Callable[[], Any], seconds: float = TIMED_SECONDS) -> float:
    """Of one call, after two that are not timed."""
    for _ in range(2):
        call()
    synchronize(setting)
    times: list[float] = []
    while len(times) < LEAST_CALLS or (sum(times) < seconds and not setting.toy):
        started = time.perf_counter()
        call()
        synchronize(setting)
        times.append(time.perf_counter() - started)
    return statistics.median(times)


def peak_mebibytes(setting: Setting) -> float | None:
    """Most memory of tensors on the device since :func:`free`; None on a CPU."""
    import torch

    return torch.cuda.max_memory_allocated(setting.device) / 2**20 if setting.on_gpu else None
