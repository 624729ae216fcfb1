"""``docs/reproduce.md``: verdicts, what was measured, and what was not run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from controlmill.evaluation import plots
from controlmill.training.run.converged import rise_text

from .claims import Claim, claims, quiet_loss, rise_of
from .corpus import USUAL
from .experiments import Training
from .pace import SIDE_BY_SIDE, pace, passes
from .results import Result
from .training import LOSSES_OVER, Scale
from .verdicts import FEWEST, Interval, interval_of, verdict_of

TITLES = {
    "prompts": "Settings of prompts",
    "weighting": "Weighting of connections, without a prompt",
    "half": "Control on a part of the iterations",
    "masked": "Masked edit",
    "added": "Two conditions added",
    "judged": "Other conditions",
    "benefit": "Benefit on rows that were trained on, and on held-out ones",
}


def write_page(page: Path, results: Sequence[Result], trainings: Sequence[Training], scale: Scale) -> None:
    """The page, and its figure and pictures in a folder beside it, which are those that are there."""
    pictures = page.parent / page.stem
    figure = draw_curves(results, pictures / "curves.png")
    shown = [f"{training.name}.png" for training in trainings if training.is_shown]
    grids = [name for name in shown if (pictures / name).is_file()]
    page.write_text(page_text(results, trainings, scale, pictures.name, figure, grids), encoding="utf-8")


def page_text(
    results: Sequence[Result],
    trainings: Sequence[Training],
    scale: Scale,
    pictures: str = "reproduce",
    figure: bool = False,
    grids: Sequence[str] = (),
) -> str:
    """The text; ``pictures`` is the folder of the figure and of the ``grids``."""
    parts = [_head(results, trainings, scale), _missing(results, trainings), _verdicts(results)]
    parts += [_rises(results)]
    if figure:
        parts.append(
            f"Condition gain, and the training loss over the same steps:\n\n![curves]({pictures}/curves.png)\n"
        )
    parts += [_measured(name, title, results) for name, title in TITLES.items()]
    for grid in grids:
        name = grid.removesuffix(".png")
        parts.append(f"{name}: maps, then pictures with each setting of prompts:\n\n![{name}]({pictures}/{grid})\n")
    return "\n".join(part for part in parts if part)


def _head(results: Sequence[Result], trainings: Sequence[Training], scale: Scale) -> str:
    made = sorted({(result.day, result.processor) for result in results})
    when = "; ".join(f"{day} on {processor}" for day, processor in made) or "never"
    needed = sum(passes(training, scale) for training in trainings) * pace(results, scale) / SIDE_BY_SIDE
    hours = sum(result.seconds for result in results) / 3600
    return HEAD.format(
        scale=scale,
        usual=100 * USUAL,
        done=len(results),
        all=len(trainings),
        when=when,
        hours=hours,
        fewest=FEWEST,
        needed=needed / 3600,
        basis="at the pace of those that are finished" if results else "by a guess of their pace",
    )


def _missing(results: Sequence[Result], trainings: Sequence[Training]) -> str:
    """What was not run, by the trainings that differ in their seeds alone."""
    done = {result.training for result in results}
    rows = []
    for name, members in _without_seeds(trainings).items():
        missing = [training.seed for training in members if training not in done]
        if missing:
            ran = f"{len(members) - len(missing)} of {len(members)}"
            rows.append(f"| {name} | {ran} | {members[0].steps:,} | {', '.join(map(str, missing))} |")
    if not rows:
        return "## Not run\n\nAll of it was run.\n"
    return "\n".join(
        ["## Not run", "", "| training | seeds run | steps | seeds not run |", "|---|---|---|---|", *rows, ""]
    )


def _without_seeds(trainings: Sequence[Training]) -> Mapping[str, list[Training]]:
    grouped: dict[str, list[Training]] = {}
    for training in trainings:
        grouped.setdefault(_series(training), []).append(training)
    return grouped


def _series(training: Training) -> str:
    return replace(training, seed=0).name.removesuffix("-seed0")


def _verdicts(results: Sequence[Result]) -> str:
    """A row for each claim that a training tells of; the others are named below."""
    of_seeds = [(claim, claim.seeds(results)) for claim in claims()]
    rows = [_verdict(claim, seeds) for claim, seeds in of_seeds if seeds]
    unknown = [claim.text for claim, seeds in of_seeds if not seeds]
    heading = (
        "| claim | where the paper says so | quantity, above 0 where it is so | seeds | mean, 95 % interval | verdict |"
    )
    table = [heading, "|---|---|---|---|---|---|", *rows, ""] if rows else []
    missing = [f"No result yet: {'; '.join(unknown)}.", ""] if unknown else []
    return "\n".join(["## Verdicts", "", *table, *missing])


def _verdict(claim: Claim, seeds: Mapping[int, float]) -> str:
    interval = interval_of(seeds)
    cells = [claim.text, claim.source or "–", claim.quantity, str(len(seeds)), _interval(interval)]
    return f"| {' | '.join(cells)} | **{verdict_of(interval)}** |"


def _interval(interval: Interval | None) -> str:
    if interval is None:
        return "–"
    if interval.low is None or interval.high is None:
        return f"{interval.mean:.3f}"
    return f"{interval.mean:.3f}, {interval.low:.3f} to {interval.high:.3f}"


def _rises(results: Sequence[Result]) -> str:
    rows = []
    for result in results:
        if result.training.group == "main":
            rise, loss = rise_of(result), quiet_loss(result)
            fall = "–" if loss is None else f"{1 - loss:.2f}"
            rows.append(f"| {result.training.name} | {rise_text(rise) if rise else 'no rise was seen'} | {fall} |")
    if not rows:
        return ""
    heading = "| training | rise of the gain | fall of the training loss, in its deviations |"
    return "\n".join(["## When control came", "", heading, "|---|---|---|", *rows, ""])


def _measured(measurement: str, title: str, results: Sequence[Result]) -> str:
    """Means over seeds, and their deviation: a column for each series of trainings, a row for each value."""
    series: dict[str, list[Result]] = {}
    for result in results:
        if measurement in result.measured:
            series.setdefault(_series(result.training), []).append(result)
    if not series:
        return ""
    names = list(next(iter(series.values()))[0].measured[measurement])
    heads = [f"{name} ({_count(len(members))})" for name, members in series.items()]
    lines = [f"| | {' | '.join(heads)} |", "|---" * (len(heads) + 1) + "|"]
    for name in names:
        cells = [_over_seeds(members, measurement, name) for members in series.values()]
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return "\n".join([f"## {title}", "", *lines, ""])


def _count(seeds: int) -> str:
    return "1 seed" if seeds == 1 else f"{seeds} seeds"


def _over_seeds(members: Sequence[Result], measurement: str, name: str) -> str:
    """A mean with the deviation over seeds; of one seed, the mean alone."""
    means = [mean for result in members if (mean := result.mean(measurement, name)) is not None]
    if not means:
        return "–"
    return f"{np.mean(means):.3f}" + (f" ± {np.std(means, ddof=1):.3f}" if len(means) > 1 else "")


def draw_curves(results: Sequence[Result], path: Path) -> bool:
    """Gain and training loss of the main trainings, a pair of panels for each rate; whether there is any."""
    rates: dict[float, list[Result]] = {}
    for result in results:
        if result.training.group == "main":
            rates.setdefault(result.training.rate, []).append(result)
    if not rates:
        return False
    titles = [f"{what}, rate {rate:g}" for rate in rates for what in ("condition gain", "training loss")]
    figure, axes = plots.axes(titles)
    for i, members in enumerate(rates.values()):
        for result in members:
            steps = [look.step for look in result.looks]
            axes[2 * i].plot(steps, [look.gain for look in result.looks], label=f"seed {result.training.seed}")
            axes[2 * i + 1].plot(LOSSES_OVER * np.arange(1, len(result.losses) + 1), result.losses, lw=0.8)
        axes[2 * i].legend(fontsize=7)
    plots.save_figure(figure, path)
    return True


HEAD = """# The paper's claims at toy scale

This page is made by `make reproduce` (`python -m recipes.reproduce FOLDER`) from one small JSON file for each finished
training, in `docs/reproduce/results/`. **{done} of {all} trainings are finished**; together they took {hours:.1f} hours
({when}). The default call does what fits into an hour on two cores; `--long` does all that is left. All
{all} together take about {needed:.0f} hours with two side by side, {basis}. Either call may be
stopped at any moment; the next one goes on.

The corpus is synthetic: {scale.scenes:,} pictures of 64×64 pixels, with one or two shapes. In {usual:.0f} % of them
each kind of shape has its usual colour, so shape predicts colour: a ControlNet that recognises what a map shows can
give it the right colour without a prompt. The base is `{scale.base}`, which never saw that rule. Steps are of
{scale.batch_size} pictures, prompt dropout is 0.5. Pictures are sampled for {scale.probes} scenes that follow the rule
and were not trained on, in {scale.sampling_steps} DDIM steps, with the base's guidance scale.

Prompts: *none* is empty; *insufficient* is "a ground", which names no shape; *conflicting* names other shapes than the
map shows; *full* is the caption.

*Agreement*: a picture's score against its own map minus its score against another scene's map; 0 is chance. The score
is F1 of edges within a pixel for canny, mean IoU for labels, 1 − RMSE / 255 for depth. Labels and depth of a sampled
picture are found by the judge, a small network that was trained on other pictures of this kind, in which colours do not
depend on shapes. *Followed*: the share of pictures that are at least half way from chance to the true pictures through
the VAE. *Usual colours*: the share of shapes in the colour that is usual for the shape that the map shows. *Kinds*: the
share of a shape's pixels in which the judge sees that kind. *Benefit*: how much better the loss is than without a
ControlNet.

A verdict is computed from the 95 % interval (Student's t) over seeds of a quantity that is above 0 where the claim
holds: *reproduced* if the whole interval is above 0, *not reproduced* if it is below, and otherwise *undecided*, as it
is with fewer than {fewest} seeds. A difference between two trainings is paired by seed. A seed in whose training no
rise of control was seen is left out of the claims about when it came. Each interval is for one claim alone: among
many claims, some intervals miss the true mean by chance. All verdicts hold for this corpus and this base, and say
nothing of others. In tables, ± is the standard deviation over seeds.
"""
