"""The commands doctor and weights: what can run here, and bringing weights ahead of a job."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from controlmill.annotators.options import WEIGHTS, license_option, weights_option
from controlmill.schemas.terminal.console import AsJson, print_json, standard_output
from controlmill.schemas.terminal.options import option, with_options
from controlmill.schemas.terminal.printing import printable

if TYPE_CHECKING:
    from rich.console import Console

    from controlmill.annotators.catalogue import Choice
    from controlmill.annotators.runtime.weights import WeightsFile

READY = {True: "yes", False: "after a download"}
LINE: dict[str, Any] = {"markup": False, "soft_wrap": True}
weights_app = typer.Typer(help="List and download weights of annotators, judges and measures.", no_args_is_help=True)
Weights = Annotated[Path | None, typer.Option(help=WEIGHTS)]


@dataclass(frozen=True)
class Chosen:
    """Whose weight files are meant."""

    conditions: str = option(
        "",
        "Conditions, as for annotate. all: the default variant of each.",
        shown="all, where nothing else is named",
    )
    measures: str = option("", "Measures of pictures, e.g. fid,clip_score; or all.", shown="none")
    protocol: str = option("", "The judge and the measures of a protocol of evaluate.", shown="none")

    @property
    def of_conditions(self) -> str:
        """The conditions; "" for none."""
        return self.conditions or ("" if self.measures or self.protocol else "all")


@dataclass(frozen=True)
class ListOptions(Chosen):
    """Which weight files are listed."""

    weights: Path | None = weights_option()


@dataclass(frozen=True)
class FetchOptions(Chosen):
    """Which weight files are downloaded, and to where."""

    accept_license: tuple[str, ...] = license_option()
    to: Path | None = option(None, "Copy the files into this folder, for --weights on other machines.")


def register(app: typer.Typer) -> None:
    """Add the commands."""
    app.command(rich_help_panel="Inspect this machine")(doctor)
    app.add_typer(weights_app, name="weights", rich_help_panel="Inspect this machine")


def doctor(weights: Weights = None, json: AsJson = False) -> None:
    """Show this machine's devices, the conditions, measures and protocols that can run on it, and their weights."""
    from .examination import examine_all

    report = examine_all(str(weights) if weights else None)
    if json:
        print_json(report)
        return
    console = standard_output()
    console.print(", ".join(f"{name} {version}" for name, version in report["packages"].items()), markup=False)
    devices = ", ".join(f"{device['name']} (dtype auto: {device['dtype']})" for device in report["devices"])
    console.print(f"{report['cores']} cores; devices: {devices}", markup=False)
    for line in report["conditions"]:
        terms = f"; needs --accept-license {line['licence_gate']}" if line["licence_gate"] else ""
        name = f"{line['condition']}={line['variant']}"
        console.print(f"{name:26} {READY[line['ready']]:17} {line['summary']}{terms}", **LINE)
        _print_files(console, line["weights"])
    console.print("measures of pictures:", **LINE)
    for line in report["measures"]:
        console.print(f"{line['measure']:26} {READY[line['ready']]}", **LINE)
        _print_files(console, line["weights"])
    console.print("protocols:", **LINE)
    for line in report["protocols"]:
        judge = f"; judge {line['judge']}" if line["judge"] else ""
        console.print(f"{line['protocol']:26} {READY[line['ready']]:17} {line['title']}{judge}", **LINE)


def _print_files(console: Console, files: Sequence[dict[str, Any]]) -> None:
    for file in files:
        where = f"{file['origin']} ({file['licence']}), {printable(file['path'])}" if file["path"] else file["from"]
        console.print(f"{'':26} {file['name']}: {where}", **LINE)


@weights_app.command("list")
@with_options
def list_weights(options: ListOptions) -> None:
    """List weight files: where each is on this machine, or where it comes from."""
    from controlmill.annotators.catalogue import parse_conditions
    from controlmill.annotators.examination import source_of
    from controlmill.annotators.runtime.weights import find

    console, folder = standard_output(), str(options.weights) if options.weights else None
    choices = parse_conditions(options.of_conditions) if options.of_conditions else []
    for file, users in _files(options, choices).items():
        found, _ = find([file], folder, download=False)
        pinned = "" if file.sha256 else ", sha256 not pinned"
        console.print(f"{', '.join(users)}: {file.name}, {source_of(file)}{pinned}", **LINE)
        console.print(f"    {f'here: {printable(found[0].path)}, {found[0].origin}' if found else 'not here'}", **LINE)


@weights_app.command("fetch")
@with_options
def fetch_weights(options: FetchOptions) -> None:
    """Download weight files from the Hub, at pinned revisions, before a job needs them."""
    import shutil

    from controlmill.annotators.runtime.weights import fetch

    console, to = standard_output(), options.to
    for found in fetch(_files(options, _accepted(options, options.accept_license, console))):
        if to:
            (to / found.name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(found.path, to / found.name)
        place = printable(to / found.name if to else found.path)
        console.print(f"{found.name}: {found.origin}, sha256 {found.sha256}, {place}", **LINE)


def _files(options: Chosen, choices: Sequence[Choice]) -> dict[WeightsFile, list[str]]:
    """Files of weights → what needs them: conditions that were chosen, measures, a protocol."""
    from controlmill.annotators.plan import files_of

    from .examination import files_of_measures, files_of_protocol
    from .protocols.protocol import read_protocol

    users = files_of(choices)
    named = [word.strip() for word in options.measures.split(",") if word.strip()]
    more = [files_of_measures(named), files_of_protocol(read_protocol(options.protocol)) if options.protocol else {}]
    for file, names in (entry for files in more for entry in files.items()):
        users[file] = list(dict.fromkeys([*users.get(file, ()), *names]))
    return users


def _accepted(options: Chosen, licences: Sequence[str], console: Console) -> list[Choice]:
    """The choices whose licences are accepted. Of ``all`` the others are left out, and printed.

    Raises:
        MillError: one was asked for by name, or is a protocol's judge.
    """
    from controlmill.annotators.catalogue import (
        OWN_LICENCE,
        asked_for,
        check_licences,
        licence_gates,
        parse_conditions,
    )

    from .examination import judge_of
    from .protocols.protocol import read_protocol

    judge = judge_of(read_protocol(options.protocol)) if options.protocol else None
    check_licences([judge] if judge else [], licences)
    if not options.of_conditions:
        return []
    choices = parse_conditions(options.of_conditions)
    if options.of_conditions.strip(", ") != "all":
        check_licences(choices, licences)
    refused = {gate: names for gate, names in licence_gates(choices).items() if gate not in licences}
    if refused:
        console.print(f"left out, {OWN_LICENCE} {'; '.join(asked_for(refused))}", **LINE)
    out = {name for names in refused.values() for name in names}
    return [choice for choice in choices if f"{choice.condition}={choice.variant}" not in out]
