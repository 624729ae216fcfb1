"""The commands inspect and verify."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from ..terminal.console import AsJson, print_json

Folder = Annotated[str, typer.Argument(help="The dataset's folder, or an fsspec address.", show_default=False)]


def register(app: typer.Typer) -> None:
    """Add the commands."""
    for command in (inspect, verify):
        app.command(rich_help_panel="Look at a dataset")(command)


def inspect(
    dataset: Folder,
    contact_sheet: Annotated[
        Path | None, typer.Option(help="Write pictures and maps, side by side, to this PNG.")
    ] = None,
    rows: Annotated[int, typer.Option(min=1, max=200, help="Pictures on the contact sheet.")] = 8,
    first: Annotated[int, typer.Option(min=0, help="Its first row.")] = 0,
    rejects: Annotated[int, typer.Option(min=0, help="Refused files, and unread captions, to name.")] = 10,
    json: AsJson = False,
) -> None:
    """Tables, rows, rejects by reason, sizes, how each table was made; with a contact sheet, how it looks."""
    from ..dataset import Dataset
    from ..errors import MillError
    from ..terminal.printing import printable
    from .accounting import accounting, unread_captions
    from .report import first_rejects, provenance_text, table_report

    console = Console(highlight=False)
    opened = Dataset.open(dataset).snapshot()
    if contact_sheet and (contact_sheet.suffix.lower() not in (".png", ".jpg") or not contact_sheet.parent.is_dir()):
        raise MillError(f"--contact-sheet {contact_sheet}: a .png or .jpg in a folder that is there")
    if json:
        from .summary import dataset_summary

        if contact_sheet:
            raise MillError("--json prints, --contact-sheet draws: ask for one after the other")
        print_json(dataset_summary(opened))
        return
    listed = sum(segment["rows"] for segment in opened.config["segments"])
    size = opened.config["shard_size"]
    console.print(
        f"{printable(opened.storage.address)}: {listed:,} pictures listed, {opened.shards} shards of {size}",
        markup=False,
        soft_wrap=True,
    )
    console.print(table_report(opened, [table for table in opened.tables() if table != "sources"]))
    for line in (*first_rejects(opened, rejects), *unread_captions(opened, rejects)):
        console.print(printable(line), markup=False, soft_wrap=True)
    for line in accounting(opened):
        console.print(line, markup=False, soft_wrap=True)
    console.print()
    for table in opened.tables():
        text = provenance_text(opened.state(table))
        if text:
            console.print(printable(f"{table}: {text}"), markup=False, soft_wrap=True)
    if contact_sheet:
        from .sheet import contact_sheet as draw

        draw(opened, rows, first).save(contact_sheet)
        console.print(f"contact sheet: {printable(contact_sheet)}", markup=False, soft_wrap=True)


def verify(
    dataset: Folder,
    quick: Annotated[bool, typer.Option("--quick", help="Do not decode pictures and maps.")] = False,
    json: AsJson = False,
) -> None:
    """Check every promise that can be checked from the files; exit status 1 and a list where one is broken."""
    from ..dataset import Dataset
    from .verify import verify as faults_of

    console = Console(highlight=False)
    opened = Dataset.open(dataset).snapshot()
    if json:
        from .summary import verify_summary

        said = verify_summary(opened, faults_of(opened, pixels=not quick))
        print_json(said)
        raise typer.Exit(1 if said["faults"] else 0)
    faults = 0
    for fault in faults_of(opened, pixels=not quick):
        faults += 1
        console.print(str(fault), markup=False, soft_wrap=True)
    tables = len(opened.tables())
    if faults:
        console.print(f"{faults} faults in {tables} tables", markup=False)
        raise typer.Exit(1)
    console.print(f"no faults: {tables} tables, {opened.shards} shards", markup=False)
