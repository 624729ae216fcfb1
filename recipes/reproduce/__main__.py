"""The command line: ``python -m recipes.reproduce FOLDER``."""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from controlmill.schemas.errors import MillError

from .commands import python
from .corpus import build
from .experiments import Training, named, trainings
from .pace import SIDE_BY_SIDE, Clock, passes
from .page import write_page
from .results import read_result, read_results
from .training import JUDGE, Scale, train_and_measure

MINUTES = 60.0


def reproduce(
    folder: Path, page: Path, chosen: Sequence[Training], scale: Scale, minutes: float | None = MINUTES
) -> int:
    """Build, do what is missing and ends in time, write the page; returns how many trainings were finished.

    Raises:
        MillError: something failed; what was finished is kept.
    """
    clock = Clock(None if minutes is None else 60 * minutes)
    results = page.parent / page.stem / "results"
    missing = [training for training in chosen if read_result(results, training, scale.conditions) is None]
    try:
        if missing and clock.allows(0):
            from .judge import the_judge  # loads torch

            build(folder, scale.scenes, scale.base)
            the_judge(folder / JUDGE, scale.judge_steps, scale.judge_scenes)
        with ThreadPoolExecutor(SIDE_BY_SIDE) as pool:
            done = sum(pool.map(lambda training: _one(folder, page, training, scale, clock), missing))
    finally:
        write_page(page, read_results(results, chosen, scale.conditions), chosen, scale)
    return done


def _one(folder: Path, page: Path, training: Training, scale: Scale, clock: Clock) -> bool:
    """One training in a process of its own, so that two run side by side; whether it was finished."""
    needed, started = passes(training, scale), time.monotonic()
    if not clock.allows(needed):
        return False
    print(f"{training.name}: {training.steps:,} steps", flush=True)
    words = [folder, "--page", page, "--base", scale.base, "--only", training.name]
    try:
        python("recipes.reproduce", words, folder / "runs" / f"{training.name}.log")
    except BaseException:
        clock.stop()
        raise
    clock.note(needed, time.monotonic() - started)
    return True


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(
        prog="python -m recipes.reproduce",
        description="Train the paper's experiments at toy scale, and write a page of what came out, with verdicts. "
        "What is finished is kept beside the page and not done again; what was cut off goes on.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    parser.add_argument("folder", type=Path, help="where the corpus, the dataset and the runs go")
    parser.add_argument("--page", type=Path, default=Path("docs/reproduce.md"), help="page to write, results beside it")
    parser.add_argument("--base", default=Scale.base, help="base model: tiny, a diffusers folder or a name on the Hub")
    parser.add_argument("--minutes", type=float, default=MINUTES, help="begin no training that would not end in time")
    parser.add_argument(
        "--long", action="store_true", help="do all trainings, however long it takes; the page says about how long"
    )
    parser.add_argument("--only", metavar="NAME", help="do this training alone, on a dataset that is there")
    parser.add_argument("--page-only", action="store_true", help="write the page from the results that are there")
    options = parser.parse_args()
    scale, chosen = Scale(base=options.base), trainings()
    try:
        if options.only:
            training = named(options.only, chosen)
            train_and_measure(options.folder, options.page.parent / options.page.stem / "results", training, scale)
        else:
            minutes = 0 if options.page_only else None if options.long else options.minutes
            reproduce(options.folder, options.page, chosen, scale, minutes)
    except MillError as error:
        sys.exit(f"reproduce: {error}")


if __name__ == "__main__":
    main()
