"""The command doctor: what can run here."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

Weights = Annotated[Path | None, typer.Option(help="Folder with weight files, named as on the hub.")]


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command(rich_help_panel="Look at this machine")(doctor)


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
