"""The commands export and publish."""

from __future__ import annotations

import os
import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ..terminal.console import output, with_messages
from ..terminal.options import option, with_options
from ..terminal.ranges import Range
from .targets import TARGETS

if TYPE_CHECKING:
    from ..dataset import Dataset

Folder = Annotated[str, typer.Argument(help="The dataset's folder, or an fsspec address.", show_default=False)]
Repository = Annotated[str, typer.Argument(help="OWNER/NAME on the Hub.", show_default=False)]
Out = Annotated[str, typer.Argument(help="Local folder to write to.", show_default=False)]


def register(app: typer.Typer) -> None:
    """Add the commands."""
    for command in (export, publish):
        app.command(rich_help_panel="Use a dataset elsewhere")(with_messages(with_options(command)))


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
    from ..errors import MillError
    from .job import export as write
    from .plan import make_plan
    from .targets import target_named

    opened, folder = _opened(dataset, out)
    target, asked = target_named(options.to), _names(options.conditions)
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


@dataclass(frozen=True)
class PublishOptions:
    """How a dataset is published."""

    license: str = option(
        ...,
        "Licence of the pictures, as the Hub names it: cc-by-4.0, other, unknown and others.",
        pattern=r"[a-z0-9][a-z0-9.-]{0,40}",
        possible="a licence as the Hub names it, such as cc-by-4.0, other or unknown",
    )
    conditions: str = option("", "Tables of maps to make pairs of, separated by commas.", shown="all")
    threads: int = option(2, "Threads that encode 16-bit maps.", within=Range(1, 256))


def publish(dataset: Folder, out: Out, repository: Repository, options: PublishOptions) -> None:
    """Prepare and check a folder for the Hugging Face Hub, and print the command that uploads it. Nothing is sent.

    It has the finished tables, a config of pairs for each condition, which the Hub's viewer shows, and a card.
    """
    import re

    from ..errors import MillError
    from .folder import OWN
    from .publish import REPOSITORY, made_by, plan_publication, published_tables
    from .publish import publish as write

    if not re.fullmatch(REPOSITORY, repository):
        raise MillError(f"{repository}: must be OWNER/NAME, as on the Hub")
    opened, folder = _opened(dataset, out)
    publication = plan_publication(opened, repository, options.license, _names(options.conditions), folder)
    state = write(opened, publication, folder, options.threads, output.say)
    files = [path for path in folder.rglob("*") if path.is_file() and path.relative_to(folder).parts[0] != OWN]
    size = sum(path.stat().st_size for path in files)
    output.say(f"{out}: {len(files):,} files, {size / 1e9:,.2f} GB; {state.rows:,} pairs, {_dropped(state.dropped)}")
    for line in made_by(published_tables(opened)):
        output.say(line)
    output.say("pictures that were kept as they were have what their cameras wrote into them, places too")
    output.say("look at README.md, then upload with:")
    where = f"{repository} {shlex.quote(str(folder))} . --repo-type dataset"
    output.say(f"  hf upload {where} --exclude {shlex.quote(f'{OWN}/*')}")


def _opened(dataset: str, out: str) -> tuple[Dataset, Path]:
    """The dataset as it is now, and the folder to write to."""
    from ..dataset import Dataset
    from ..errors import MillError
    from ..snapshot import Snapshot

    if "://" in out:
        raise MillError(f"{out}: must be a local folder")
    opened, folder = Snapshot(Dataset.open(dataset)), Path(os.path.abspath(out))
    try:
        str(folder).encode()
    except UnicodeEncodeError:
        raise MillError(f"{folder}: its name is not UTF-8, so settings cannot hold it: choose another folder") from None
    if opened.storage.local and folder.is_relative_to(opened.storage.root):
        raise MillError(f"{out}: lies in the dataset: choose another folder")
    return opened, folder


def _names(text: str) -> list[str]:
    return [name for name in map(str.strip, text.split(",")) if name]


def _dropped(dropped: Mapping[str, int]) -> str:
    reasons = ", ".join(f"{count:,} {reason}" for reason, count in dropped.items())
    return f"{sum(dropped.values()):,} left out ({reasons})" if dropped else "none left out"
