"""The command compare."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

import typer

from ...terminal.console import output, with_messages
from ...terminal.options import option, with_options

Results = Annotated[
    list[str], typer.Argument(help="Folders of results that evaluate made, of one source dataset.", show_default=False)
]
PANEL = "Inspect a dataset"


def register(app: typer.Typer) -> None:
    """Add the commands."""
    app.command(rich_help_panel=PANEL)(with_messages(with_options(compare)))


@dataclass(frozen=True)
class CompareOptions:
    """What is shown, and where."""

    out: str = option("", "Folder for the page, or that of an earlier one.", shown="must be given")
    source: str = option("", "The source dataset's address.", shown="as the results know it")
    rows: int = option(2000, "Rows of the source to show at most; 0: all.")


def compare(results: Results, options: CompareOptions) -> None:
    """Write one HTML page of results side by side: measures, and a grid of pictures, sorted by their differences.

    Open index.html in a browser. Pictures lie beside it as they are stored; nothing is loaded from a network.
    """
    from ...errors import MillError
    from .build import build_page
    from .results import open_results, source_of

    if not options.out:
        raise MillError("say where the page is to be: --out FOLDER")
    opened = open_results(results)
    built = build_page(opened, source_of(opened, options.source), options.out, options.rows)
    output.say(f"{options.out}/index.html: {len(opened)} results, {built.slots:,} places of {built.rows:,} rows")
