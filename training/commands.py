"""The commands train, sample and export-weights. Heavy imports wait until a command runs."""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from controlmill.schemas.errors import MillError
from controlmill.schemas.imports import uncollected
from controlmill.schemas.terminal.console import output, with_messages
from controlmill.schemas.terminal.options import Given, with_options
from controlmill.schemas.views.commands import Folder

from .config import TrainConfig, make_config
from .options import ExportOptions, SampleOptions

if TYPE_CHECKING:
    from .run.prepare import Prepared

PANEL = "Train a ControlNet"
PACKAGES = ("accelerate", "tensorboard", "matplotlib")  # of the extra ``train``
RunFolder = Annotated[Path, typer.Argument(help="The run's folder.", show_default=False)]
Recipe = Annotated[
    str | None,
    typer.Option(
        help="Settings by name (paper, paper-small, paper-large, toy) or from a .toml file. Flags override them; "
        "--no-FLAG turns one off."
    ),
]
Resume = Annotated[bool, typer.Option("--resume", help="Go on from the run's last checkpoint, with its settings.")]
Estimate = Annotated[bool, typer.Option("--estimate", help="Estimate memory and time, and train nothing.")]


def register(app: typer.Typer) -> None:
    """Add the commands."""
    for command in (train, sample, export_weights):
        app.command(rich_help_panel=PANEL)(with_messages(with_options(command)))


def train(
    dataset: Folder,
    run: RunFolder,
    settings: Annotated[dict[str, Any], Given(TrainConfig)],
    recipe: Recipe = None,
    resume: Resume = False,
    estimate: Estimate = False,
) -> None:
    """Train a ControlNet on one condition of a dataset.

    Ctrl-C stops it with a checkpoint; --resume goes on exactly. Below, (paper) marks what the ControlNet paper does,
    (repo) what its authors' tutorial does.
    """
    if estimate:
        _estimate(dataset, _config(dataset, recipe, settings))
        return
    absent = [name for name in PACKAGES if importlib.util.find_spec(name) is None]
    if absent:
        raise MillError(f"training needs {', '.join(absent)}: pip install '.[train]' in ControlMill's checkout")
    if resume and recipe:
        raise MillError("--resume goes on with the run's own settings; leave --recipe out")
    config = None if resume else _config(dataset, recipe, settings)
    with uncollected():
        from . import start

        if config is None:
            config, prepared = start.resume(run, settings, dataset)
        else:
            prepared = start.begin(dataset, run, config)
        from controlmill.annotators.runtime.torch_device import resolve_device

        config = replace(config, device=resolve_device(config.device))
        _print_rows(prepared)
        from .trainer import Trainer

        trainer = Trainer(run, config, prepared, resume)
    done = trainer.train()
    if trainer.accelerator.is_main_process:
        output.say(f"{done} of {config.steps} steps done: {run}")


def sample(run: RunFolder, options: SampleOptions) -> None:
    """Generate pictures that follow a photo's condition, with a run's ControlNet."""
    from controlmill.annotators.runtime.torch_device import resolve_device
    from controlmill.evaluation.plots import save_picture

    from .sample import check, draw

    check(run, options.image, options.control)
    pictures, control = draw(
        run,
        options.image,
        options.control,
        options.prompt,
        options.seed,
        options.count,
        options.steps,
        options.guidance_scale,
        resolve_device(options.device),
        str(options.weights or ""),
    )
    out = options.out
    save_picture(control, out.with_name(f"{out.stem}_control.png"))
    for i, picture in enumerate(pictures):
        save_picture(picture, out if options.count == 1 else out.with_name(f"{out.stem}_{i}.png"))
    output.say(f"written: {out} (the map beside it)")


def export_weights(
    run: Annotated[Path, typer.Argument(help="A run, or a ControlNet's folder.", show_default=False)],
    options: ExportOptions,
) -> None:
    """Write a ControlNet as one file, for web interfaces or diffusers."""
    from controlmill.bases.configuration import read_controlnet_config

    from . import export
    from .run.saved import controlnet_folder

    export.check_form(options.out, options.layout, options.dtype)
    if not run.is_dir():
        raise MillError(f"{run}: no such folder")
    folder = controlnet_folder(str(run))
    tensors = export.export_weights(Path(folder), options.out, options.layout, options.dtype)
    output.say(f"{tensors} tensors in {options.out}")
    if note := export.unreadable(read_controlnet_config(folder)):
        output.say(f"note: {note}")


def _estimate(dataset: str, config: TrainConfig) -> None:
    from .data.selection import captions_said
    from .run.prepare import prepare

    prepared = prepare(dataset, config)
    from .estimate import plan_text  # loads torch

    if os.environ.get("RANK", "0") == "0":  # of several processes the first speaks
        for line in (*plan_text(prepared, config).splitlines(), *captions_said(prepared.selection.train)):
            output.say(line)


def _config(address: str, recipe: str | None, given: Mapping[str, Any]) -> TrainConfig:
    """The settings, checked; a missing condition is answered with those of the dataset."""
    conditions: list[str] = []
    if not given.get("condition"):
        from controlmill.schemas.dataset import Dataset

        conditions = [table for table in Dataset.open(address).condition_tables() if table != "captions"]
    return make_config(recipe, given, ", ".join(conditions))


def _print_rows(prepared: Prepared) -> None:
    from .data.selection import captions_said

    chosen = prepared.selection
    left = ", ".join(f"{count:,} {reason}" for reason, count in sorted(chosen.left_out.items()))
    output.say(f"{len(chosen.train):,} rows to train on, {len(chosen.held_out):,} held out; left out: {left or 'none'}")
    for line in captions_said(chosen.train):
        output.say(line)
    if prepared.caches.said():
        output.say(prepared.caches.said())
