"""The commands train, sample and export-weights. Heavy imports wait until a command runs."""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from controlmill.schemas.errors import Interrupted, MillError
from controlmill.schemas.imports import uncollected
from controlmill.schemas.terminal.console import output, with_messages
from controlmill.schemas.terminal.options import Given, with_options
from controlmill.schemas.views.commands import Folder

from .config import TrainConfig, make_config
from .options import ExportOptions, SampleOptions

if TYPE_CHECKING:
    from .run.prepare import Prepared

PANEL = "Train and evaluate a ControlNet"
PACKAGES = ("accelerate", "tensorboard", "matplotlib")  # of the extra ``train``
RunFolder = Annotated[Path, typer.Argument(help="The run's folder.", show_default=False)]
Recipe = Annotated[
    str | None,
    typer.Option(
        help="Settings by name (paper, paper-small, paper-large, toy) or from a .toml file. Flags override them; "
        "--no-FLAG turns one off."
    ),
]
Resume = Annotated[bool, typer.Option("--resume", help="Continue from the run's last checkpoint, with its settings.")]
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

    Ctrl-C writes a checkpoint and stops; --resume continues exactly there. Below, (paper) marks what the ControlNet
    paper does, (repo) what its authors' tutorial does.
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
    with uncollected(stays=True):
        from . import start
    with start.claimed_by_first(run):
        with uncollected():
            if config is None:
                config, prepared = start.resume(run, settings, dataset)
            else:
                prepared = start.begin(dataset, run, config)
            from controlmill.annotators.runtime.torch_device import limit_threads, resolve_device

            limit_threads()
            config = replace(config, device=resolve_device(config.device))
            _print_rows(prepared, config)
            from .trainer import Trainer

            trainer = Trainer(run, config, prepared, resume)
        done = trainer.train()
    if done < config.steps:
        raise Interrupted(f"{run}: stopped after {done} of {config.steps} steps; --resume goes on")
    if trainer.accelerator.is_main_process:
        output.say(f"{done} of {config.steps} steps done: {run}")


def sample(
    controlnet: Annotated[
        str,
        typer.Argument(
            help="A run, a ControlNet's folder, a .safetensors file, or a name on the Hugging Face Hub.",
            show_default=False,
        ),
    ],
    options: SampleOptions,
) -> None:
    """Generate pictures that follow a photo's condition, or a finished map, with one or several ControlNets."""
    with uncollected(stays=True):
        from controlmill.annotators.runtime.torch_device import limit_threads, resolve_device
        from controlmill.evaluation.plots import save_picture

        from .sample import draw, draw_maps, make_request

    request, device, out = make_request(controlnet, options), resolve_device(options.device), options.out
    limit_threads()
    maps = draw_maps(request, device)
    for i, (_, picture) in enumerate(maps):
        save_picture(picture, out.with_name(f"{out.stem}_control{f'_{i}' if i else ''}.png"))
    for sampled in draw(request, [image for image, _ in maps], device):
        words = [out.stem, *([sampled.kind] if len(options.kinds) > 1 else [])]
        words += [str(sampled.number)] if options.count > 1 else []
        path = out.with_name(f"{'_'.join(words)}{out.suffix}")
        save_picture(sampled.picture, path)
        output.say(f"{path}: {sampled.kind} prompt{f' {sampled.prompt!r}' if sampled.prompt else ''}")
    output.say(f"the map is beside it: {out.with_name(f'{out.stem}_control.png')}")


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
    with uncollected(stays=True):
        from .estimate import plan_text  # loads torch

    if os.environ.get("RANK", "0") == "0":  # of several processes the first speaks
        output.say(prepared.base_said(config))
        chosen = captions_said(prepared.selection.train)
        for line in (*plan_text(prepared, config).splitlines(), *chosen, prepared.size_said(config)):
            if line:
                output.say(line)


def _config(address: str, recipe: str | None, given: Mapping[str, Any]) -> TrainConfig:
    """The settings, checked; a missing condition is answered with those of the dataset."""
    conditions: list[str] = []
    if not given.get("condition"):
        from controlmill.schemas.dataset import Dataset

        conditions = [table for table in Dataset.open(address).condition_tables() if table != "captions"]
    return make_config(recipe, given, ", ".join(conditions))


def _print_rows(prepared: Prepared, config: TrainConfig) -> None:
    from .data.selection import captions_said

    output.say(prepared.base_said(config))
    chosen = prepared.selection
    left = ", ".join(f"{count:,} {reason}" for reason, count in sorted(chosen.left_out.items()))
    output.say(f"{len(chosen.train):,} rows to train on, {len(chosen.held_out):,} held out; left out: {left or 'none'}")
    for line in (*captions_said(chosen.train), prepared.size_said(config), prepared.caches.said()):
        if line:
            output.say(line)
