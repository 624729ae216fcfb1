"""The commands doctor and weights: what can run here, and bringing weights ahead of a job."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from controlmill.schemas.terminal.console import AsJson, print_json, standard_output
from controlmill.schemas.terminal.options import with_options
from controlmill.schemas.terminal.printing import printable

from .options import FetchOptions, ListOptions

if TYPE_CHECKING:
    from rich.console import Console

    from .catalogue import Choice

LINE: dict[str, Any] = {"markup": False, "soft_wrap": True}
weights_app = typer.Typer(help="List and download the annotators' weights.", no_args_is_help=True)
Weights = Annotated[Path | None, typer.Option(help="Folder with annotators' weight files, named as on the hub.")]


def register(app: typer.Typer) -> None:
    """Add the commands."""
    app.command(rich_help_panel="Inspect this machine")(doctor)
    app.add_typer(weights_app, name="weights", rich_help_panel="Inspect this machine")


def doctor(weights: Weights = None, json: AsJson = False) -> None:
    """Show this machine's devices, the conditions that can run on it, and where their weights are."""
    from .examination import examine

    report = examine(str(weights) if weights else None)
    if json:
        print_json(report)
        return
    console = standard_output()
    console.print(", ".join(f"{name} {version}" for name, version in report["packages"].items()), markup=False)
    devices = ", ".join(f"{device['name']} (dtype auto: {device['dtype']})" for device in report["devices"])
    console.print(f"{report['cores']} cores; devices: {devices}", markup=False)
    for line in report["conditions"]:
        terms = f"; needs --accept-license {line['licence_gate']}" if line["licence_gate"] else ""
        ready = "yes" if line["ready"] else "after a download"
        console.print(f"{line['condition'] + '=' + line['variant']:26} {ready:17} {line['summary']}{terms}", **LINE)
        for file in line["weights"]:
            where = f"{file['origin']} ({file['licence']}), {printable(file['path'])}" if file["path"] else file["from"]
            console.print(f"{'':26} {file['name']}: {where}", **LINE)


@weights_app.command("list")
@with_options
def list_weights(options: ListOptions) -> None:
    """List the weight files of conditions: where each is on this machine, or where it comes from."""
    from .catalogue import parse_conditions
    from .examination import source_of
    from .plan import files_of
    from .runtime.weights import find

    console, folder = standard_output(), str(options.weights) if options.weights else None
    for file, users in files_of(parse_conditions(options.conditions)).items():
        found, _ = find([file], folder, download=False)
        pinned = "" if file.sha256 else ", sha256 not pinned"
        console.print(f"{', '.join(users)}: {file.name}, {source_of(file)}{pinned}", **LINE)
        console.print(f"    {f'here: {printable(found[0].path)}, {found[0].origin}' if found else 'not here'}", **LINE)


@weights_app.command("fetch")
@with_options
def fetch_weights(options: FetchOptions) -> None:
    """Download weight files from the hub, at pinned revisions, before a job needs them."""
    import shutil

    from .plan import files_of
    from .runtime.weights import fetch

    console, to = standard_output(), options.to
    for found in fetch(files_of(_accepted(options.conditions, options.accept_license, console))):
        if to:
            (to / found.name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(found.path, to / found.name)
        place = printable(to / found.name if to else found.path)
        console.print(f"{found.name}: {found.origin}, sha256 {found.sha256}, {place}", **LINE)


def _accepted(conditions: str, licences: Sequence[str], console: Console) -> list[Choice]:
    """The choices whose licences are accepted. Of ``all`` the others are left out, and printed.

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
