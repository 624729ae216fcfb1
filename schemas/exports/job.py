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
    home = "" if target.is_movable else str(plan.folder)

    def write(number: int) -> Part:
        dropped: Counter[str] = Counter()
        samples = read_samples(dataset, plan, parts[number], dropped, pool)
        written = target.write(folder.files, number, samples, plan)
        return Part(written.rows, dict(sorted(dropped.items())), written.bytes, written.records)

    def finish(state: State, size: int) -> None:
        target.finish(folder.files, _records(folder, state), plan, state, size)

    with ThreadPoolExecutor(threads) as pool:
        wanted = State(plan.target, home, plan.sha256, "writing", len(parts))
        return make_whole(folder, wanted, write, finish, target.last, say)


def make_whole(
    folder: ExportFolder,
    wanted: State,
    write: Callable[[int], Part],
    finish: Callable[[State, int], None],
    last: str,
    say: Callable[[str], None],
) -> State:
    """Make what is ``wanted`` of a folder, from wherever it was cut off.

    Args:
        folder: where.
        wanted: what it will be, not begun.
        write: writes a part below ``folder.files``; what a cut attempt left there is replaced.
        finish: writes what names the rows there, given their counts and the bytes of all parts.
        last: what is placed last.
        say: takes a line for people, when a part is written.

    Returns:
        What it is now, complete.
    """
    with folder.claimed(wanted) as begun:
        if begun.stage == "complete":
            folder.tidy()
            return begun
        written = begun
        if begun.stage == "writing":
            folder.files.mkdir(exist_ok=True)
            for number in range(begun.parts):
                if folder.part(number) is None:
                    folder.save_part(number, write(number))
                    say(f"part {number + 1} of {begun.parts} is written")
            written, size = _counted(folder, begun)
            finish(written, size)
            folder.save(written)
        folder.place(last)
        complete = replace(written, stage="complete")
        folder.save(complete)
        folder.tidy()
        return complete


def _parts(folder: ExportFolder, state: State) -> Iterator[Part]:
    for number in range(state.parts):
        part = folder.part(number)
        assert part is not None
        yield part


def _records(folder: ExportFolder, state: State) -> Iterator[Record]:
    for part in _parts(folder, state):
        yield from part.records


def _counted(folder: ExportFolder, state: State) -> tuple[State, int]:
    """The state once all parts are written, and their bytes."""
    rows, size, dropped = 0, 0, Counter[str]()
    for part in _parts(folder, state):
        rows, size = rows + part.rows, size + part.bytes
        dropped.update(part.dropped)
    if not rows:
        reasons = ", ".join(f"{count} {reason}" for reason, count in dropped.items())
        raise MillError(f"no row is left to export ({reasons or 'the dataset has none'})")
    return replace(state, stage="placing", rows=rows, dropped=dict(sorted(dropped.items()))), size
