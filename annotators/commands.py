"""The commands doctor and weights: what can run here, and bringing weights ahead of a job."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console

from ..schemas.printing import printable

if TYPE_CHECKING:
    from .catalogue import Choice
    from .weights import WeightsFile

LINE: dict[str, Any] = {"markup": False, "soft_wrap": True}
weights_app = typer.Typer(help="Where the weights of networks are, and bringing them here.", no_args_is_help=True)
Conditions = Annotated[str, typer.Option(help="Comma-separated, as for annotate; all: every default variant.")]
Weights = Annotated[Path | None, typer.Option(help="Folder with weight files, named as on the hub.")]
AcceptLicense = Annotated[
    list[str] | None, typer.Option(help="Accept the licence of some weights, e.g. openpose; repeat for more.")
]


def register(app: typer.Typer) -> None:
    """Add the commands."""
    app.command(rich_help_panel="Look at this machine")(doctor)
    app.add_typer(weights_app, name="weights", rich_help_panel="Look at this machine")


def doctor(weights: Weights = None) -> None:
    """Device, dtypes, which conditions can run here, where their weights are, licences."""
    import os

    from ..schemas.conditions import CONDITIONS
    from ..schemas.fingerprint import package_versions
    from .catalogue import VARIANTS, Choice
    from .torch_device import describe_devices
    from .weights import find

    console = Console(highlight=False)
    versions = package_versions("torch", "opencv", "apache-beam", "pyarrow", "pillow")
    console.print(", ".join(f"{name} {version}" for name, version in versions.items()), markup=False)
    console.print(f"{os.cpu_count()} cores; {describe_devices()}", markup=False)
    folder = str(weights) if weights else None
    for variant in VARIANTS:
        network = None if variant.pattern else Choice(variant.condition, variant.name, variant.target).build().network
        found, missing = find(network.weights, folder, download=False) if network else ([], [])
        gate = CONDITIONS[variant.condition].licence_gate or variant.licence_gate
        terms = f"; needs --accept-license {gate}" if gate else ""
        ready = "after a download" if missing else "yes"
        console.print(f"{variant.condition + '=' + variant.name:26} {ready:17} {variant.summary}{terms}", **LINE)
        for file in found:
            console.print(f"{'':26} {file.name}: {file.origin} ({file.licence}), {printable(file.path)}", **LINE)
        for lacking in missing:
            console.print(f"{'':26} {lacking.name}: {_source(lacking)}", **LINE)


def _source(file: WeightsFile) -> str:
    return f"{file.megabytes:.0f} MB from {file.repo}@{file.revision[:12]} ({file.licence})"


@weights_app.command("list")
def list_weights(conditions: Conditions = "all", weights: Weights = None) -> None:
    """Files that conditions need: where each is on this machine, or where it comes from."""
    from .catalogue import parse_conditions
    from .plan import files_of
    from .weights import find

    console, folder = Console(highlight=False), str(weights) if weights else None
    for file, users in files_of(parse_conditions(conditions)).items():
        found, _ = find([file], folder, download=False)
        pinned = "" if file.sha256 else ", sha256 not pinned"
        console.print(f"{', '.join(users)}: {file.name}, {_source(file)}{pinned}", **LINE)
        console.print(f"    {f'here: {printable(found[0].path)}, {found[0].origin}' if found else 'not here'}", **LINE)


@weights_app.command("fetch")
def fetch_weights(
    conditions: Conditions = "all",
    accept_license: AcceptLicense = None,
    to: Annotated[
        Path | None, typer.Option(help="Copy the files into this folder, for --weights on other machines.")
    ] = None,
) -> None:
    """Bring weights from the hub, at their pinned revisions, ahead of a job."""
    import shutil

    from .plan import files_of
    from .weights import fetch

    console = Console(highlight=False)
    for found in fetch(files_of(_accepted(conditions, accept_license or (), console))):
        if to:
            (to / found.name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(found.path, to / found.name)
        place = printable(to / found.name if to else found.path)
        console.print(f"{found.name}: {found.origin}, sha256 {found.sha256}, {place}", **LINE)


def _accepted(conditions: str, licences: Sequence[str], console: Console) -> list[Choice]:
    """The choices whose licences are accepted. Of ``all`` the others are left out, and that is said.

    Raises:
        MillError: one was asked for by name.
    """
    from .catalogue import OWN_LICENCE, asked_for, check_licences, licence_gates, parse_conditions

    choices = parse_conditions(conditions)
    if conditions.strip(", ") != "all":
        check_licences(choices, licences)
    refused = {gate: names for gate, names in licence_gates(choices).items() if gate not in licences}
    if refused:
        console.print(f"left out, {OWN_LICENCE} {'; '.join(asked_for(refused))}", **LINE)
    out = {name for names in refused.values() for name in names}
    return [choice for choice in choices if f"{choice.condition}={choice.variant}" not in out]
