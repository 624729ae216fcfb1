"""The command export."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer

from ..terminal.console import output, with_messages
from ..terminal.options import Range, option, with_options
from .targets import TARGETS

Folder = Annotated[str, typer.Argument(help="The dataset's folder, or an fsspec address.", show_default=False)]
Out = Annotated[str, typer.Argument(help="Local folder for the export.", show_default=False)]


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command(rich_help_panel="Use a dataset elsewhere")(with_messages(with_options(export)))


@dataclass(frozen=True)
class ExportOptions:
    """What is exported, and for whom."""

    to: str = option(
        "diffusers",
        f"Trainer or layout to write for: {', '.join(TARGETS)}.",
        pattern="|".join(TARGETS),
        possible=f"one of {', '.join(TARGETS)}",
    )
    conditions: str = option("", "Tables of maps, separated by commas.", shown="all")
    threads: int = option(2, "Threads that encode 16-bit maps.", within=Range(1, 256))


def export(dataset: Folder, out: Out, options: ExportOptions) -> None:
    """Copy pictures, maps and captions into the layout of another trainer, with the settings that start it.

    Rows without one of the maps are left out and counted. An export that was cut off goes on when it is run again.
    """
    from ..dataset import Dataset
    from ..errors import MillError
    from ..snapshot import Snapshot
    from .job import export as write
    from .plan import make_plan
    from .targets import target_named

    if "://" in out:
        raise MillError(f"{out}: an export is written to a local folder")
    opened, target = Snapshot(Dataset.open(dataset)), target_named(options.to)
    asked = [name for name in options.conditions.split(",") if name]
    folder = Path(os.path.abspath(out))
    if opened.storage.local and folder.is_relative_to(opened.storage.root):
        raise MillError(f"{out}: lies in the dataset: choose another folder")
    plan = make_plan(opened, options.to, asked, folder)
    if len(plan.tables) > 1 and not target.holds_several:
        raise MillError(
            f"--to {options.to} has one condition a picture: name one of {', '.join(plan.tables)} by --conditions, "
            "and export the others to folders of their own"
        )
    state = write(opened, plan, options.threads, output.say)
    output.say(f"{out}: {state.rows:,} rows, {_dropped(state.dropped)}")
    output.say("begin with:")
    for line in target.command(plan).split("\n"):
        output.say(f"  {line}")


def _dropped(dropped: Mapping[str, int]) -> str:
    reasons = ", ".join(f"{count:,} {reason}" for reason, count in dropped.items())
    return f"{sum(dropped.values()):,} left out ({reasons})" if dropped else "none left out"
