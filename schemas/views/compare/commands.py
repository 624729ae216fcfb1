"""The commands compare, study make and study score."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer

from ...terminal.console import AsJson, output, print_json, standard_output, with_messages
from ...terminal.options import option, with_options
from ...terminal.ranges import Range

Results = Annotated[
    list[str], typer.Argument(help="Folders of results that evaluate made, of one source dataset.", show_default=False)
]
Answers = Annotated[list[Path], typer.Argument(help="The files that participants saved.", show_default=False)]
PANEL = "Train and evaluate a ControlNet"
study_app = typer.Typer(
    help="Make a page on which people rank the pictures of several results blindly, and score their answers.",
    no_args_is_help=True,
)


def register(app: typer.Typer) -> None:
    """Add the commands."""
    app.command(rich_help_panel=PANEL)(with_messages(with_options(compare)))
    app.add_typer(study_app, name="study", rich_help_panel=PANEL)


@dataclass(frozen=True)
class CompareOptions:
    """What is shown, and where."""

    out: str = option(..., "Folder for the page, or that of an earlier one.", pattern=".+", possible="a folder")
    source: str = option("", "The source dataset's address.", shown="as the results know it")
    rows: int = option(2000, "Rows of the source to show at most; 0: all.")


def compare(results: Results, options: CompareOptions) -> None:
    """Show results of evaluate side by side on an HTML page: measures, and pictures sorted by their differences.

    Open index.html in a browser. Pictures lie beside it as they are stored; nothing is loaded from a network.
    """
    from .build import build_page
    from .results import open_results, source_of

    opened = open_results(results)
    built = build_page(opened, source_of(opened, options.source), options.out, options.rows)
    output.say(f"{options.out}/index.html: {len(opened)} results, {built.slots:,} places of {built.rows:,} rows")
    for line in built.differing:
        output.say(f"the results differ in {line}")


@dataclass(frozen=True)
class StudyOptions:
    """What is asked, and where the study is."""

    out: str = option(..., "New folder for the study.", pattern=".+", possible="a folder")
    questions: int = option(20, "Rows whose pictures are ranked (paper: 20).", within=Range(1, 1000))
    prompts: str = option("", "Kind of prompt whose pictures are ranked.", shown="the first that all have")
    source: str = option("", "The source dataset's address.", shown="as the results know it")
    seed: int = option(0, "Seed of the draw of the rows.")


def make(results: Results, options: StudyOptions) -> None:
    """Write a page on which people rank the results' pictures without knowing whose they are.

    The folder page goes to the participants, each of whom saves a file of answers; key.json stays with you.
    """
    from .results import open_results, source_of
    from .study import make_study

    opened = open_results(results)
    source = source_of(opened, options.source)
    key = make_study(opened, source, options.out, options.questions, options.prompts, options.seed)
    output.say(
        f"{options.out}/page: {len(key.questions):,} questions about {len(key.methods)} results, for participants"
    )
    output.say(f"{options.out}/key.json says whose each picture is: keep it to yourself")
    output.say(
        f"put their files into {options.out}/answers, then: controlmill study score {options.out}/answers/*.json"
    )


@dataclass(frozen=True)
class ScoreOptions:
    """What resolves the answers."""

    key: Path | None = option(None, "The study's key.json.", shown="beside the folder of the answers")


def score(answers: Answers, options: ScoreOptions, json: AsJson = False) -> None:
    """Print the average ranking of each method (the largest is the best) ± its standard deviation over participants."""
    from rich.table import Table
    from rich.text import Text

    from ...terminal.printing import printable
    from .ranking import average_rankings, read_answers, read_key

    key = read_key(answers, options.key)
    found, left = read_answers(answers, key)
    rankings = average_rankings(found, key)
    if json:
        print_json({"participants": len(found), "rankings": [vars(one) for one in rankings]})
        return
    for path in left:
        output.say(f"{path}: left out, another file of the same participant has as many answers or more")
    report = Table(box=None, header_style="bold", pad_edge=False)
    for column in ("method", "by", "average ranking", "participants", "rankings"):
        report.add_column(column, justify="left" if column in ("method", "by") else "right")
    for one in rankings:
        deviation = "" if one.deviation is None else f" ± {one.deviation:.2f}"
        cells = one.method, one.criterion, f"{one.average:.2f}{deviation}", f"{one.participants:,}", f"{one.rankings:,}"
        report.add_row(*(Text(printable(cell)) for cell in cells))
    standard_output().print(report)


study_app.command()(with_messages(with_options(make)))
study_app.command()(with_options(score))
