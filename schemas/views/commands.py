"""The commands inspect and verify."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer

from ..machine import processors
from ..terminal.console import AsJson, output, print_json, standard_output
from ..terminal.options import option, with_options
from ..terminal.ranges import Range

TOLD_SECONDS = 10.0
Folder = Annotated[str, typer.Argument(help="The dataset's folder, or an fsspec address.", show_default=False)]


def register(app: typer.Typer) -> None:
    """Add the commands."""
    for command in (inspect, verify):
        app.command(rich_help_panel="Inspect a dataset")(with_options(command))


@dataclass(frozen=True)
class InspectOptions:
    """What is shown beside the tables."""

    contact_sheet: Path | None = option(None, "Write a sheet of pictures beside their maps to this .png or .jpg file.")
    rows: int = option(8, "Pictures on the contact sheet.", within=Range(1, 200))
    first: int = option(0, "First row on the contact sheet.")
    rejects: int = option(10, "Refused pictures, and unread captions, to list.")


def inspect(dataset: Folder, options: InspectOptions, json: AsJson = False) -> None:
    """Show a dataset's tables: rows, refused pictures by reason, sizes, and how each table was made."""
    from ..dataset import Dataset
    from ..errors import MillError
    from ..results import RESULTS, read_results
    from ..snapshot import Snapshot
    from ..terminal.printing import printable
    from .accounting import accounting, unread_captions
    from .report import first_rejects, provenance_text, table_report

    console = standard_output()
    opened, contact_sheet = Snapshot(Dataset.open(dataset)), options.contact_sheet
    if contact_sheet and (contact_sheet.suffix.lower() not in (".png", ".jpg") or not contact_sheet.parent.is_dir()):
        raise MillError(f"--contact-sheet {contact_sheet}: must be a .png or .jpg file in an existing folder")
    if json:
        from .summary import dataset_summary

        if contact_sheet:
            raise MillError("--json prints, --contact-sheet draws: ask for one after the other")
        print_json(dataset_summary(opened))
        return
    listed = opened.config.rows
    console.print(
        f"{printable(opened.storage.address)}: {listed:,} pictures listed, {opened.shards} shards",
        markup=False,
        soft_wrap=True,
    )
    console.print(table_report(opened, [table for table in opened.tables() if table != "sources"]))
    for line in (*first_rejects(opened, options.rejects), *unread_captions(opened, options.rejects)):
        console.print(printable(line), markup=False, soft_wrap=True)
    for line in accounting(opened):
        console.print(line, markup=False, soft_wrap=True)
    console.print()
    for table in opened.tables():
        text = provenance_text(opened.state(table))
        if text:
            console.print(printable(f"{table}: {text}"), markup=False, soft_wrap=True)
    if opened.storage.exists(RESULTS):
        from .results_table import results_lines, results_table

        record = read_results(opened.storage)
        console.print()
        console.print(results_table(record))
        for line in results_lines(record):
            console.print(printable(line), markup=False, soft_wrap=True)
    if contact_sheet:
        from .sheet import contact_sheet as draw

        draw(opened, options.rows, options.first).save(contact_sheet)
        console.print(f"contact sheet: {printable(contact_sheet)}", markup=False, soft_wrap=True)


def shards_told(of: int) -> Callable[[int], None]:
    """What says on standard error how many shards are checked, every :data:`TOLD_SECONDS`."""
    told = time.monotonic()

    def tell(done: int) -> None:
        nonlocal told
        now = time.monotonic()
        if now - told >= TOLD_SECONDS:
            told = now
            output.say(f"{done:,} of {of:,} shards checked")

    return tell


def verify(
    dataset: Folder,
    quick: Annotated[bool, typer.Option("--quick", help="Skip decoding pictures and maps.")] = False,
    json: AsJson = False,
) -> None:
    """Check that a dataset's files are whole and agree with each other. Faults are listed, with exit status 1."""
    from ..dataset import Dataset
    from ..snapshot import Snapshot
    from .verify import verify as faults_of

    console = standard_output()
    opened = Snapshot(Dataset.open(dataset))
    found = faults_of(opened, not quick, processors(), shards_told(opened.shards))
    if json:
        from .summary import verify_summary

        summary = verify_summary(opened, found)
        print_json(summary)
        raise typer.Exit(1 if summary["faults"] else 0)
    faults = 0
    for fault in found:
        faults += 1
        console.print(str(fault), markup=False, soft_wrap=True)
    tables = len(opened.tables())
    if faults:
        console.print(f"{faults} {'fault' if faults == 1 else 'faults'} in {tables} tables", markup=False)
        raise typer.Exit(1)
    console.print(f"no faults: {tables} tables, {opened.shards} shards", markup=False)
