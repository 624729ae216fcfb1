"""The paper's claims at toy scale: a synthetic dataset, the tiny base, a few dozen minutes on two cores.

    python -m recipes.reproduce FOLDER --page docs/reproduce.md

Everything goes through the commands that a user has. What was done already is not done again; the page shows what came
out, whatever it is.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from controlmill.annotators.catalogue import parse_conditions
from controlmill.annotators.plan import find_weights
from controlmill.evaluation import plots
from controlmill.schemas.errors import MillError
from controlmill.schemas.fingerprint import processor_name
from controlmill.training.run.card import SAMPLES
from controlmill.training.run.converged import read_convergence, rise_text
from controlmill.training.run.metrics import EvaluationRecord, evaluations, scalars
from controlmill.training.run.saved import steps_saved
from recipes.tiny_base.scenes import write_corpus

SEEDS = (0, 1, 2)
SIDE_BY_SIDE = 2


@dataclass(frozen=True)
class Scale:
    """How large the reproduction is."""

    scenes: int = 10_600
    sizes: tuple[int, ...] = (100, 1_000, 10_000)
    steps: int = 1_000
    batch_size: int = 16
    evaluations: int = 20  # control may come within fifty steps
    evaluation_rows: int = 16
    evaluation_samples: int = 12
    base: str = "tiny"


@dataclass(frozen=True)
class Experiment:
    """One run: its name, and the flags in which it differs."""

    name: str
    condition: str
    seed: int = 0
    limit: int = 0
    connection: str = "zero"


def experiments(scale: Scale, conditions: Sequence[str]) -> list[Experiment]:
    """All runs; the first is also the largest dataset and the zero connection of the ablations."""
    largest = scale.sizes[-1]
    runs = [Experiment(f"canny-seed{seed}", "canny", seed, largest) for seed in SEEDS]
    runs += [Experiment(f"canny-{kind}", "canny", 0, largest, kind) for kind in ("gaussian", "lite")]
    runs += [Experiment(f"canny-{size}", "canny", 0, size) for size in scale.sizes[:-1]]
    return [*runs, *(Experiment(name, name, 0, largest) for name in conditions if name != "canny")]


def build(folder: Path, scale: Scale) -> list[str]:
    """Draw the corpus, build the dataset, encode it; returns its conditions. HED is annotated where its weights are."""
    corpus, dataset = folder / "corpus", folder / "dataset"
    conditions = ["canny"]
    try:
        find_weights(parse_conditions("hed"), None)
        conditions.append("hed")
    except MillError:
        print("the HED network's weights are not here: that condition is left out", flush=True)
    if not (corpus / "done").exists():
        write_corpus(corpus, scale.scenes, seed=1)  # the tiny base was trained on corpus 0
        (corpus / "done").touch()
    arguments = ["build", corpus / "photos", dataset, "--resolution", 64, "--conditions", ",".join(conditions)]
    command([*arguments, "--conditions-from", corpus / "maps", "--batch-size", 16], folder / "build.log")
    command(["encode", dataset, "--base", scale.base, "--text", "--device", "cpu"], folder / "encode.log")
    return [*conditions, "segmentation", "depth"]


def command(arguments: Sequence[Any], log: Path) -> None:
    """Run ``controlmill …`` with one thread for the networks.

    Raises:
        MillError: it failed; its output is in ``log``.
    """
    threads = {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
    with log.open("a", encoding="utf-8") as file:
        words = [sys.executable, "-m", "controlmill", *map(str, arguments)]
        done = subprocess.run(words, stdout=file, stderr=file, env={**os.environ, **threads}, check=False)
    if done.returncode:
        raise MillError(f"controlmill {arguments[0]} failed; see {log}")


def run(folder: Path, experiment: Experiment, scale: Scale) -> bool:
    """Train one experiment, or go on with it, or leave it if it is done; returns whether it was trained whole."""
    out = folder / "runs" / experiment.name
    out.parent.mkdir(parents=True, exist_ok=True)
    log = out.parent / f"{experiment.name}.log"
    saved = steps_saved(out)
    if saved and saved[-1] >= scale.steps:
        return False
    if saved:
        command(["train", folder / "dataset", out, "--resume"], log)
        return False
    shutil.rmtree(out, ignore_errors=True)
    flags = {
        "recipe": "toy",
        "base": scale.base,
        "condition": experiment.condition,
        "seed": experiment.seed,
        "max-train-samples": experiment.limit,
        "connection": experiment.connection,
        "steps": scale.steps,
        "batch-size": scale.batch_size,
        "evaluate-every": max(1, scale.steps // scale.evaluations),
        "evaluation-rows": scale.evaluation_rows,
        "evaluation-samples": scale.evaluation_samples,
        "evaluation-budget": 0,
        "keep-checkpoints": 1,
        "device": "cpu",
    }
    command(["train", folder / "dataset", out, *(f"--{name}={value}" for name, value in flags.items())], log)
    return True


def reproduce(folder: Path, page: Path, scale: Scale) -> None:
    """Build, train everything, draw the figures, write the page."""
    started = time.monotonic()
    folder.mkdir(parents=True, exist_ok=True)
    conditions = build(folder, scale)
    chosen = experiments(scale, conditions)
    with ThreadPoolExecutor(SIDE_BY_SIDE) as pool:
        whole = sum(pool.map(lambda experiment: run(folder, experiment, scale), chosen))
    evaluated = {e.name: evaluations(folder / "runs" / e.name) for e in chosen}
    pictures = page.parent / page.stem
    pictures.mkdir(parents=True, exist_ok=True)
    draw_figures(evaluated, chosen, scale, pictures)
    for name in ("canny-seed0", *(c for c in conditions if c != "canny")):
        last = sorted((folder / "runs" / name / SAMPLES).glob("*.png"))[-1]
        shutil.copyfile(last, pictures / f"samples_{name}.png")
    minutes = (time.monotonic() - started) / 60
    call = (
        f"the last call took {minutes:.0f} minutes and trained {whole} of the {len(chosen)} runs from their first step"
    )
    page.write_text(page_text(folder, evaluated, chosen, scale, call, pictures.name), encoding="utf-8")


def draw_figures(
    evaluated: dict[str, list[EvaluationRecord]], chosen: Sequence[Experiment], scale: Scale, pictures: Path
) -> None:
    """Three figures: seeds, ablations beside dataset sizes, other conditions."""
    seeds = {e.name: f"seed {e.seed}" for e in chosen if e.name.startswith("canny-seed")}
    ablations = {"canny-seed0": "zero convolutions", "canny-gaussian": "Gaussian", "canny-lite": "lite"}
    sizes = {
        **{f"canny-{size}": f"{size:,} rows" for size in scale.sizes[:-1]},
        "canny-seed0": f"{scale.sizes[-1]:,} rows",
    }
    others = {e.name: e.name for e in chosen if e.condition != "canny"}
    _figure(evaluated, seeds, ("gain", "benefit", "fidelity"), pictures / "seeds.png")
    _figure(evaluated, ablations, ("benefit", "fidelity"), pictures / "ablations.png", right=sizes)
    _figure(evaluated, others, ("gain", "benefit"), pictures / "conditions.png")


def _figure(
    evaluated: dict[str, list[EvaluationRecord]],
    names: dict[str, str],
    metrics: Sequence[str],
    path: Path,
    right: dict[str, str] | None = None,
) -> None:
    panels = [(value, names) for value in metrics] + [(value, right) for value in metrics if right]
    figure, axes = plots.axes([value for value, _ in panels])
    for axis, (value, members) in zip(axes, panels, strict=True):
        for name, label in (members or {}).items():
            points = [(record.step, scalars(record)) for record in evaluated[name]]
            points = [(step, numbers) for step, numbers in points if value in numbers]
            steps, values = [step for step, _ in points], [numbers[value] for _, numbers in points]
            axis.plot(steps, values, "o-", ms=3, label=label)
        if value == "fidelity":
            floor = np.mean([scalars(evaluated[name][-1])["floor"] for name in members or {}])
            axis.axhline(floor, color="grey", ls="--")
            axis.set_ylabel("canny F1 within tolerance; dashed: floor")
        axis.legend(fontsize=7)
    plots.save_figure(figure, path)


def page_text(
    folder: Path,
    evaluated: dict[str, list[EvaluationRecord]],
    chosen: Sequence[Experiment],
    scale: Scale,
    call: str,
    pictures: str,
) -> str:
    """docs/reproduce.md."""
    rows = []
    for experiment in chosen:
        last = scalars(evaluated[experiment.name][-1])
        found = read_convergence(folder / "runs" / experiment.name)
        when = f"step {found.step}" if found.step is not None else "–"
        rise = f"{rise_text(found.rise)}" if found.rise else "–"
        cells = [
            f"{last['gain']:.3f} ± {last['gain_error']:.3f}",
            f"{last['benefit']:.3f} ± {last['benefit_error']:.3f}",
        ]
        names = ("fidelity", "floor", "ceiling", "fraction")
        cells += [f"{last[name]:.3f}" for name in names] if "fidelity" in last else ["–"] * len(names)
        rows.append(f"| {experiment.name} | {' | '.join(cells)} | {when} | {rise} |")
    return PAGE.format(
        scale=scale,
        table="\n".join(rows),
        pictures=pictures,
        call=call,
        processor=processor_name(),
        day=time.strftime("%Y-%m-%d"),
        largest=scale.sizes[-1],
        cores=os.cpu_count(),
    )


PAGE = """# The paper's claims at toy scale

Written by `make reproduce` on {day} ({processor}, {cores} cores, no GPU; {call}).
The dataset is the synthetic corpus: {scale.scenes:,} pictures of coloured shapes, 64×64, built by `controlmill build`.
Every run on the base `{scale.base}`: {scale.steps:,} steps of {scale.batch_size}, learning rate 1e-3, prompt dropout
0.5. Held out: {scale.evaluation_rows} rows for losses, {scale.evaluation_samples} for sampled pictures; so few that
small differences mean nothing.

*Gain*: how much worse the loss gets with another row's map. *Benefit*: how much better it is than without a
ControlNet; both in units of the base's loss. *Fidelity*: the sampled pictures annotated again with the rows' own
parameters, against their maps; *floor*: against other rows' maps. *f*: 0 at the floor, 1 for the true pictures through
the VAE. *Converged*: the first two evaluations in a row at which gain, and fidelity less its floor, are above three
standard errors. *Rise*: a logistic curve fitted to the gain; sudden where it took less than half of the steps before
it.

| run | gain | benefit | fidelity | floor | ceiling | f | converged | rise |
|---|---|---|---|---|---|---|---|---|
{table}

| the paper says | compare |
|---|---|
| control appears suddenly, before step 10,000 at 1e-5 (3.3, figure 4) | `canny-seed…`, *converged*, *rise* |
| Gaussian instead of zero convolutions: about as weak as lite (4.2) | `canny-gaussian`, `canny-lite` |
| lite follows conditions less well (table 1: 4.09 against 4.28 of 5) | `canny-lite`, `canny-seed0` |
| no collapse on 1,000 images, more are better (figure 10) | `canny-SIZE`, `canny-seed0` ({largest:,} rows) |
| one method for many conditions | the last rows |

## Three seeds

![gain, benefit and fidelity]({pictures}/seeds.png)

Pictures, maps, samples without and with control, seed 0 at the end:

![samples]({pictures}/samples_canny-seed0.png)

## Connections, and sizes of the dataset

![ablations]({pictures}/ablations.png)

## Other conditions

![gain and benefit]({pictures}/conditions.png)
"""


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(
        prog="python -m recipes.reproduce",
        description="Train the paper's experiments at toy scale, and write a page of what came out. Takes about an "
        "hour on two cores; runs that are done are not trained again.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    parser.add_argument("folder", type=Path, help="where the corpus, the dataset and the runs go")
    parser.add_argument("--page", type=Path, default=Path("docs/reproduce.md"), help="page to write, figures beside it")
    parser.add_argument("--base", default=Scale.base, help="base model: tiny, a diffusers folder or a name on the hub")
    parser.add_argument("--steps", type=int, default=Scale.steps, help="optimiser steps of each run")
    options = parser.parse_args()
    try:
        reproduce(options.folder, options.page, Scale(base=options.base, steps=options.steps))
    except MillError as error:
        sys.exit(f"reproduce: {error}")


if __name__ == "__main__":
    main()
