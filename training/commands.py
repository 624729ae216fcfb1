"""The commands train, sample and export-weights. Heavy imports wait until a command runs."""

from __future__ import annotations

import dataclasses
import importlib.util
import inspect
import os
from pathlib import Path
from typing import Annotated, Any

import typer

from controlmill.schemas.terminal.console import output, talks

from .config import TrainConfig, make_config, number_faults, value_type

PANEL = "Train a ControlNet"
DatasetFolder = Annotated[str, typer.Argument(help="The dataset's folder, or an fsspec address.", show_default=False)]
RunFolder = Annotated[Path, typer.Argument(help="The run's folder.", show_default=False)]


def register(app: typer.Typer) -> None:
    """Add the commands."""
    app.command("train", rich_help_panel=PANEL)(talks(train))
    app.command("sample", rich_help_panel=PANEL)(talks(sample))
    app.command("export-weights", rich_help_panel=PANEL)(talks(export_weights))


def train(dataset: str, run: Path, recipe: str | None, resume: bool, estimate: bool, **given: Any) -> None:
    """Train a ControlNet on one condition of a dataset. Ctrl-C stops it with a checkpoint; --resume goes on exactly."""
    if estimate:
        config = _config(dataset, recipe, given)
        from .run.prepare import prepare

        prepared = prepare(dataset, config)
        from .data.selection import captions_said
        from .estimate import plan_text  # loads torch

        if os.environ.get("RANK", "0") == "0":  # of several processes the first speaks
            for line in (*plan_text(prepared, config).splitlines(), *captions_said(prepared.selection.train)):
                output.say(line)
        return
    from controlmill.schemas.errors import MillError

    absent = [name for name in ("accelerate", "tensorboard", "matplotlib") if importlib.util.find_spec(name) is None]
    if absent:
        raise MillError(f"training needs {', '.join(absent)}: pip install '.[train]' in ControlMill's checkout")
    if resume:
        if recipe:
            raise MillError("--resume goes on with the run's own settings; leave --recipe out")
        from . import start

        config, prepared = start.resume(run, given, dataset)
    else:
        config = _config(dataset, recipe, given)
        from . import start

        prepared = start.begin(dataset, run, config)
    from controlmill.annotators.runtime.torch_device import resolve_device

    from .data.selection import captions_said

    config.device = resolve_device(config.device)
    chosen = prepared.selection
    left = ", ".join(f"{count:,} {reason}" for reason, count in sorted(chosen.left_out.items()))
    output.say(f"{len(chosen.train):,} rows to train on, {len(chosen.held_out):,} held out; left out: {left or 'none'}")
    for line in captions_said(chosen.train):
        output.say(line)
    if prepared.caches.said():
        output.say(prepared.caches.said())
    from .trainer import Trainer

    trainer = Trainer(run, config, prepared, resume)
    done = trainer.train()
    if trainer.accelerator.is_main_process:
        output.say(f"{done} of {config.steps} steps done: {run}")


def _config(address: str, recipe: str | None, given: dict[str, Any]) -> TrainConfig:
    """The settings, checked; a condition that is not said is answered with those that there are."""
    there: list[str] = []
    if not given.get("condition"):
        from controlmill.schemas.dataset import Dataset

        there = [table for table in Dataset.open(address).condition_tables() if table != "captions"]
    return make_config(recipe, given, ", ".join(there))


def _train_signature() -> inspect.Signature:
    """Arguments of :func:`train`: a flag for each setting of TrainConfig, None where it is not given."""
    flag = inspect.Parameter.KEYWORD_ONLY
    recipe = typer.Option(help="Settings by name (paper, paper-small, paper-large, toy) or from a .toml file.")
    parameters = [
        inspect.Parameter("dataset", flag, annotation=DatasetFolder),
        inspect.Parameter("run", flag, annotation=RunFolder),
        inspect.Parameter("recipe", flag, default=None, annotation=Annotated[str | None, recipe]),
        inspect.Parameter(
            "resume", flag, default=False, annotation=Annotated[bool, typer.Option("--resume", help="Go on exactly.")]
        ),
        inspect.Parameter(
            "estimate",
            flag,
            default=False,
            annotation=Annotated[bool, typer.Option("--estimate", help="Estimate memory and time, then stop.")],
        ),
    ]
    for field in dataclasses.fields(TrainConfig):
        kind: Any = list[str] if value_type(field.name) is list else value_type(field.name)
        default = getattr(TrainConfig(), field.name)
        shown = "" if default in ([], None) else str(default)
        option = typer.Option(help=field.metadata["help"], show_default=shown)
        parameters.append(inspect.Parameter(field.name, flag, default=None, annotation=Annotated[kind | None, option]))
    return inspect.Signature(parameters)


train.__signature__ = _train_signature()  # type: ignore[attr-defined]
train.__annotations__ = {name: p.annotation for name, p in _train_signature().parameters.items()}


def sample(
    run: RunFolder,
    image: Annotated[Path | None, typer.Option(help="A photo; it is annotated as the run's maps were.")] = None,
    control: Annotated[Path | None, typer.Option(help="A finished map.")] = None,
    prompt: Annotated[str, typer.Option(help="What to draw.")] = "",
    out: Annotated[Path, typer.Option(help="Picture to write; more are numbered.")] = Path("sample.png"),
    count: Annotated[int, typer.Option(help="Pictures.")] = 1,
    seed: Annotated[int, typer.Option(help="Of the noise.")] = 0,
    steps: Annotated[int, typer.Option(help="DDIM steps; 0: the run's.")] = 0,
    guidance: Annotated[float, typer.Option(help="Guidance scale; 0: the base's.")] = 0.0,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:N or mps.")] = "auto",
    weights: Annotated[
        Path | None, typer.Option(help="Folder with annotators' weights, as for annotate; by default the run's.")
    ] = None,
) -> None:
    """Draw pictures that follow a photo's condition, with a run's ControlNet."""
    from controlmill.annotators.runtime.torch_device import check_device, resolve_device
    from controlmill.evaluation.plots import SUFFIXES, save_picture
    from controlmill.schemas.errors import MillError

    least = ("--count", count, "1 or more"), ("--seed", seed, "0 or more"), ("--steps", steps, "0 or more")
    faults = number_faults([*least, ("--guidance-scale", guidance, "0 or more")])
    if out.suffix.lower() not in SUFFIXES:
        faults.append(f"--out {out}: the name ends in one of {', '.join(SUFFIXES)}")
    if faults:
        raise MillError("\n  ".join(faults))
    from controlmill.evaluation.sample import check, draw

    check(run, image, control)
    check_device(device)
    folder = str(weights or "")
    pictures, drawn = draw(run, image, control, prompt, seed, count, steps, guidance, resolve_device(device), folder)
    save_picture(drawn, out.with_name(f"{out.stem}_control.png"))
    for i, picture in enumerate(pictures):
        save_picture(picture, out if count == 1 else out.with_name(f"{out.stem}_{i}.png"))
    output.say(f"written: {out} (the map beside it)")


def export_weights(
    run: Annotated[Path, typer.Argument(help="A run, or a ControlNet's folder.", show_default=False)],
    out: Annotated[Path, typer.Option(help="The .safetensors file to write.")] = Path("controlnet.safetensors"),
    layout: Annotated[str, typer.Option(help="original (web interfaces) or diffusers.")] = "original",
    dtype: Annotated[str, typer.Option(help="fp32, fp16 or bf16.")] = "fp16",
) -> None:
    """Write a ControlNet as one file, in the original's key layout."""
    from controlmill.schemas.errors import MillError

    from .export import check_form, unreadable
    from .export import export_weights as export
    from .run.prepare import controlnet_folder, read_controlnet_config

    check_form(out, layout, dtype)
    if not run.is_dir():
        raise MillError(f"{run}: no such folder")
    folder = controlnet_folder(str(run))
    tensors = export(Path(folder), out, layout, dtype)
    output.say(f"{tensors} tensors in {out}")
    if note := unreadable(read_controlnet_config(folder)):
        output.say(f"note: {note}")
