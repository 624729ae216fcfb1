"""The command evaluate, which brings runs (of training) and jobs (of pipelines) together. Heavy imports wait."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from controlmill.annotators.options import device_option, license_option, weights_option
from controlmill.bases.sampling import SamplerName, Weighting
from controlmill.evaluation.sampling.prompts import PROMPTS
from controlmill.evaluation.sampling.settings import SamplingSettings
from controlmill.pipelines.options import JobOptions
from controlmill.schemas.errors import MillError
from controlmill.schemas.terminal.console import output, with_messages
from controlmill.schemas.terminal.options import option, unset, with_options
from controlmill.schemas.terminal.ranges import Range
from controlmill.training.options import SampleOptions

PLACES = "[RUN|CONTROLNET] DATASET RESULTS"
Places = Annotated[
    list[str],
    typer.Argument(
        metavar=PLACES,
        help="A run's folder, or a ControlNet: a folder, a name on the Hub or a file; none with --pictures. Then the "
        "dataset whose maps are followed, and the folder of the results.",
        show_default=False,
    ),
]


@dataclass(frozen=True)
class EvaluateOptions:
    """What is evaluated, and how."""

    protocol: str = option("controlmill", "How pictures are sampled, judged and measured: a name or a .toml file.")
    pictures: Path | None = option(
        None, "Evaluate another method's pictures from this folder: picture j of a row is NAME_j or group_j/NAME."
    )
    prompts: str = option("", PROMPTS, shown="those of the protocol")
    pictures_per_row: int = option(0, "Pictures of each kind of prompt.", shown="as the protocol says")
    self_test: bool = option(
        False, "Evaluate the protocol's published ControlNet, and say whether its published value comes out."
    )

    rows: int = option(0, "Evaluate this many rows, those of the smallest hash.", shown="all", panel="Rows")
    all_rows: bool = option(False, "Evaluate rows too that the run was trained on.")
    condition: str = option("", "Table of the maps that are followed.", shown="that of the run")
    truth: str = option("", "Table of the maps that the judge's are compared with.", shown="the maps that are followed")

    judge: str = option(
        "",
        "CONDITION=VARIANT that annotates the pictures.",
        shown="the protocol's, else what made the true maps",
        panel="Networks",
    )
    base: str = option("", "Base model, as for train.", shown="that of the run")
    weights: Path | None = weights_option()
    device: str = device_option()
    precision: Literal["fp32", "bf16", "fp16"] = option("fp32", "Number format that base and ControlNet compute in.")
    batch_size: int = option(0, "Pictures sampled at a time.", shown="8, or as the results were begun")
    accept_license: tuple[str, ...] = license_option()

    def conflicts(self) -> Iterator[str]:
        """What does not go with another method's pictures, and with a self-test."""
        if self.pictures and not self.pictures.is_dir():
            yield f"--pictures {self.pictures}: no such folder"
        if self.pictures and (self.self_test or self.base):
            yield "--pictures: another method made them, so there is no --base and no --self-test"
        if self.self_test and (self.prompts or self.pictures_per_row or self.judge or self.truth):
            yield "--self-test: the protocol says how: no --prompts, --pictures-per-row, --judge or --truth"


def protocols(name: str, **changes: Any) -> Any:
    """A setting as for sample, which is the protocol's where it is not given."""
    return unset(SampleOptions, name, shown="the protocol's", **changes)


NAMES = {"negative": "negative_prompt"}  # of flags whose setting is called otherwise


@dataclass(frozen=True)
class SamplingOptions:
    """What is sampled otherwise than the protocol says; published values are not comparable then."""

    sampler: SamplerName | None = protocols("sampler", panel="Sampling otherwise than the protocol says")
    steps: int | None = protocols("steps", within=Range(1))
    guidance_scale: float | None = protocols("guidance_scale")
    guidance_weighting: Weighting | None = protocols("guidance_weighting")
    strength: float | None = protocols("strength")
    control_start: float | None = protocols("control_start")
    control_end: float | None = protocols("control_end")
    negative: str | None = protocols("negative")
    added_prompt: str | None = protocols("added_prompt")
    seed: int | None = protocols("seed")

    @property
    def given(self) -> dict[str, Any]:
        """What was asked for."""
        return {name: value for name, value in vars(self).items() if value is not None}

    def over(self, settings: SamplingSettings) -> SamplingSettings:
        """A protocol's settings with what was asked for."""
        return replace(settings, **{NAMES.get(name, name): value for name, value in self.given.items()})


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command(rich_help_panel="Train and evaluate a ControlNet")(with_messages(with_options(evaluate)))


def evaluate(places: Places, options: EvaluateOptions, sampling: SamplingOptions, job: JobOptions) -> None:
    """Measure a ControlNet on a dataset by a protocol: sample pictures, annotate them again, compare.

    The results are a dataset, with results.json beside its tables. Run it again to resume after a stop.
    """
    started = time.monotonic()
    controlnet, dataset, results = named_places(places, options)
    with job.resources() as resources:
        from controlmill.pipelines.engine.machines import machines_of
        from controlmill.pipelines.evaluation import evaluate as evaluate_all
        from controlmill.schemas.views.results_table import results_lines, results_table, self_test_line

        from .evaluate_request import make_request

        machines = machines_of(resources.process.engine)
        request = make_request(controlnet, dataset, results, options, sampling, machines)
        for line in request.messages():
            output.say(line)
        record = evaluate_all(request.asked, request.maker, results, resources)
    output.show(results_table(record))
    for line in results_lines(record):
        output.say(line)
    if request.self_test:
        output.say(self_test_line(record, *request.self_test))
    output.say(f"done in {time.monotonic() - started:,.1f} s: {results}")


def named_places(places: Sequence[str], options: EvaluateOptions) -> tuple[str, str, str]:
    """(ControlNet, dataset, results); no ControlNet with ``--pictures``, or where ``--self-test`` names it.

    Raises:
        MillError: too many or too few.
    """
    without = options.pictures is not None or options.self_test
    wanted = 2 if without else 3
    if len(places) == wanted:
        controlnet, dataset, results = (*([""] if without else []), *places)
        return controlnet, dataset, results
    named = "DATASET RESULTS" if without else PLACES.replace("[RUN|CONTROLNET]", "RUN|CONTROLNET")
    why = " with --pictures" if options.pictures else " with --self-test" if options.self_test else ""
    raise MillError(f"give {named}{why}: {wanted} arguments, not {len(places)}")
