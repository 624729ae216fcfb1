"""An export: parts are written one after another, then the files that name their rows, then all is placed."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

from ..dataset import Dataset
from ..errors import MillError
from .folder import ExportFolder, Part, Record, State
from .plan import Plan
from .samples import read_samples
from .targets import target_named
from .targets.target import Target


def export(dataset: Dataset, plan: Plan, threads: int, say: Callable[[str], None]) -> State:
    """Write an export, or what a cut one lacks.

    Args:
        dataset: where the rows are.
        plan: what is exported.
        threads: that encode maps of 16 bits.
        say: takes a line for people, when a part is written.

    Returns:
        How many rows it has, and how many were dropped, by reason.

    Raises:
        MillError: the folder holds something else; a table is damaged; no row is left.
    """
    target, folder = target_named(plan.target), ExportFolder(plan.folder)
    parts = plan.parts(target.part_bytes)
    with folder.claimed(plan.target, plan.sha256, len(parts)) as begun:
        if begun.stage == "complete":
            folder.tidy()
            return begun
        if begun.stage == "writing":
            with ThreadPoolExecutor(threads) as pool:
                for number, shards in enumerate(parts):
                    if folder.part(number) is None:
                        _write_part(dataset, plan, target, folder, number, shards, pool)
                        say(f"part {number + 1} of {len(parts)} is written")
            written = _finished(plan, target, folder, begun)
        else:
            written = begun
        folder.place(target.last)
        complete = replace(written, stage="complete")
        folder.save(complete)
        folder.tidy()
        return complete


def _write_part(
    dataset: Dataset,
    plan: Plan,
    target: Target,
    folder: ExportFolder,
    number: int,
    shards: range,
    pool: ThreadPoolExecutor,
) -> None:
    dropped: Counter[str] = Counter()
    folder.files.mkdir(exist_ok=True)
    written = target.write(folder.files, number, read_samples(dataset, plan, shards, dropped, pool), plan)
    folder.save_part(number, Part(written.rows, dict(sorted(dropped.items())), written.bytes, written.records))


def _finished(plan: Plan, target: Target, folder: ExportFolder, state: State) -> State:
    """Write what names the rows, once all of them are there."""
    rows, size, dropped = 0, 0, Counter[str]()

    def parts() -> Iterator[Part]:
        for number in range(state.parts):
            part = folder.part(number)
            assert part is not None
            yield part

    def records() -> Iterator[Record]:
        for part in parts():
            yield from part.records

    for part in parts():
        rows, size = rows + part.rows, size + part.bytes
        dropped.update(part.dropped)
    if not rows:
        reasons = ", ".join(f"{count} {reason}" for reason, count in dropped.items())
        raise MillError(f"no row is left to export ({reasons or 'the dataset has none'})")
    placing = replace(state, stage="placing", rows=rows, dropped=dict(sorted(dropped.items())))
    target.finish(folder.files, records(), plan, placing, size)
    folder.save(placing)
    return placing
