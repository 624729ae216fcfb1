"""The commands of `controlmill cluster`. Heavy imports wait until a command runs."""

from __future__ import annotations

from typing import Annotated

import typer

from controlmill.schemas.terminal.console import AsJson, output, print_json, with_messages
from controlmill.schemas.terminal.options import with_options

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
Cluster = Annotated[str, typer.Option(help="The scheduler: HOST:8786.", show_default="the one of this machine")]


def register(app: typer.Typer) -> None:
    """Add the commands."""
    for serving in (up, join):
        cluster_app.command()(with_messages(with_options(serving)))
    for command in (status, down):
        cluster_app.command()(command)
    app.add_typer(cluster_app, name="cluster", rich_help_panel="Several machines")


def up(options: WorkerOptions, listen: Listen = "127.0.0.1:8786") -> None:
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


def down(cluster: Cluster = "") -> None:
    """End what `up` and `join` started on this machine: all of it, or that of one cluster."""
    from .status import down as end

    for line in end(cluster):
        output.say(line)
