"""The commands doctor and weights: what can run here, and bringing weights ahead of a job."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.table import Table

if TYPE_CHECKING:
    from .weights import WeightsFile

weights_app = typer.Typer(help="Where the weights of networks are, and bringing them here.", no_args_is_help=True)
Conditions = Annotated[str, typer.Option(help="Comma-separated, as for annotate; all: every default variant.")]
Weights = Annotated[Path | None, typer.Option(help="Folder with weight files, named as on the hub.")]


def register(app: typer.Typer) -> None:
    """Add the commands."""
    app.command(rich_help_panel="Look at this machine")(doctor)
    app.add_typer(weights_app, name="weights", rich_help_panel="Look at this machine")


def doctor(weights: Weights = None) -> None:
    """Device, dtypes, which conditions can run here, where their weights are, licences."""
    import os

    from ..schemas.fingerprint import package_versions
    from .catalogue import VARIANTS, Choice
    from .torch_device import describe_devices
    from .weights import find

    console = Console(highlight=False)
    versions = package_versions("torch", "opencv-python-headless", "apache-beam", "pyarrow", "pillow")
    console.print(", ".join(f"{name} {version}" for name, version in versions.items()), markup=False)
    console.print(f"{os.cpu_count()} cores; {describe_devices()}", markup=False)
    table = Table(box=None, header_style="bold", pad_edge=False)
    for column in ("condition", "runs here", "how", "weights and licence"):
        table.add_column(column, overflow="fold")
    folder = str(weights) if weights else None
    for variant in VARIANTS:
        name = f"{variant.condition}={variant.name}"
        if variant.target is None:
            table.add_row(name, "not built yet", variant.summary, "")
            continue
        network = None if variant.pattern else Choice(variant.condition, variant.name, variant.target).build().network
        found, missing = find(network.weights, folder, download=False) if network else ([], [])
        where = [f"{file.origin} ({file.licence}) {file.path}" for file in found]
        where += [
            f"{file.name}: {file.megabytes:.0f} MB from the hub's {file.repo} ({file.licence})" for file in missing
        ]
        table.add_row(
            name, "after a download" if missing else "yes", variant.summary, "\n".join(where) or "none needed"
        )
    console.print(table)


@weights_app.command("list")
def list_weights(conditions: Conditions = "all", weights: Weights = None) -> None:
    """Files that conditions need: where each is on this machine, or where it comes from."""
    from .weights import find

    folder = str(weights) if weights else None
    table = Table(box=None, header_style="bold", pad_edge=False)
    for column in ("conditions", "file", "MB", "licence", "here", "from"):
        table.add_column(column, overflow="fold")
    for file, users in _needed(conditions).items():
        found, _ = find([file], folder, download=False)
        here = found[0].path if found else "no"
        pin = f"{file.repo}@{file.revision[:12]}" + ("" if file.sha256 else ", sum not pinned")
        table.add_row(", ".join(users), file.name, f"{file.megabytes:.0f}", file.licence, here, pin)
    Console(highlight=False).print(table)


@weights_app.command("fetch")
def fetch_weights(
    conditions: Conditions = "all",
    to: Annotated[
        Path | None, typer.Option(help="Copy the files into this folder, for --weights on other machines.")
    ] = None,
) -> None:
    """Bring weights from the hub, at their pinned revisions, ahead of a job."""
    import shutil

    from .weights import fetch

    console = Console(highlight=False)
    for found in fetch(_needed(conditions)):
        if to:
            (to / found.name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(found.path, to / found.name)
        console.print(f"{found.name}: {found.origin}, sha256 {found.sha256}, {to / found.name if to else found.path}")


def _needed(conditions: str) -> dict[WeightsFile, list[str]]:
    """Files → the choices that need them."""
    from .catalogue import parse_conditions
    from .plan import files_of

    return files_of(parse_conditions(conditions))
