"""The commands of `controlmill cluster`. Heavy imports wait until a command runs."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from controlmill.annotators.options import WEIGHTS
from controlmill.schemas.terminal.console import AsJson, output, print_json, with_messages
from controlmill.schemas.terminal.options import with_options
from controlmill.schemas.terminal.printing import printable

from .options import WorkerOptions

cluster_app = typer.Typer(
    help="Start a Dask cluster, join it from other machines, and look after it.", no_args_is_help=True
)
Listen = Annotated[
    str,
    typer.Option(
        help="Where the scheduler listens: HOST:8786, or tls://HOST:8786. Whoever reaches it can run any code."
    ),
]
Scheduler = Annotated[
    str, typer.Argument(metavar="HOST:PORT", help="The scheduler, as `up` prints it.", show_default=False)
]
Dataset = Annotated[
    str | None, typer.Argument(help="The dataset's folder, which need not be there yet.", show_default=False)
]
Photos = Annotated[
    str | None, typer.Argument(help="The pictures, as for build; a few of them are read.", show_default=False)
]
Conditions = Annotated[str, typer.Option(help="Look for the weights of these conditions.", show_default=False)]
Weights = Annotated[Path | None, typer.Option(help=WEIGHTS, show_default=False)]
Cluster = Annotated[str, typer.Option(help="The scheduler: HOST:8786.", show_default="the one of this machine")]
Ended = Annotated[str, typer.Option(help="The scheduler: HOST:8786.", show_default="all that run on this machine")]


def register(app: typer.Typer) -> None:
    """Add the commands."""
    for serving in (up, join):
        cluster_app.command()(with_messages(with_options(serving)))
    for command in (status, down, check):
        cluster_app.command()(command)
    app.add_typer(cluster_app, name="cluster", rich_help_panel="Several machines")


def up(*, listen: Listen = "127.0.0.1:8786", options: WorkerOptions) -> None:
    """Start a scheduler and workers on this machine; what dies is started again. Ends with Ctrl-C, or by `down`."""
    from . import background
    from .up import up as serve

    background.run(lambda begun: serve(listen, options, begun), options.detach)


def join(scheduler: Scheduler, options: WorkerOptions) -> None:
    """Start workers on this machine for a scheduler on another one; what dies is started again."""
    from . import background
    from .up import join as serve

    background.run(lambda begun: serve(scheduler, options, begun), options.detach)


def status(cluster: Cluster = "", json: AsJson = False) -> None:
    """Show a cluster's workers, host by host."""
    from ..engine.messages import Waits
    from .status import address_of, lines_of, state_of

    state = state_of(address_of(cluster), Waits())
    if json:
        print_json(state)
        return
    for line in lines_of(state):
        typer.echo(line)


def check(
    dataset: Dataset = None,
    photos: Photos = None,
    conditions: Conditions = "",
    weights: Weights = None,
    cluster: Cluster = "",
    json: AsJson = False,
) -> None:
    """Have every worker look whether it can do a job: versions, dataset, pictures, weights, device, memory, disk."""
    from dataclasses import asdict

    from ..engine.messages import Waits
    from .check import check as ask
    from .check import lines_of
    from .status import address_of

    address = address_of(cluster)
    checked = ask(address, dataset, photos, conditions, str(weights) if weights else None, Waits())
    if json:
        print_json(asdict(checked))
    else:
        for line in lines_of(address, checked):
            typer.echo(printable(line))
    if checked.faults:
        raise typer.Exit(1)


def down(cluster: Ended = "") -> None:
    """End what `up` and `join` started on this machine: all of it, or that of one cluster."""
    from .status import down as end

    for line in end(cluster):
        output.say(line)
