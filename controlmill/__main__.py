"""The command line: each room brings its own commands."""

from __future__ import annotations

import atexit
import gc
import sys
from typing import Annotated

import typer

from controlmill import __version__
from controlmill.evaluation import commands as machine_commands
from controlmill.pipelines import commands as pipeline_commands
from controlmill.pipelines.cluster import commands as cluster_commands
from controlmill.schemas.errors import Interrupted, MillError, error_text
from controlmill.schemas.exports import commands as export_commands
from controlmill.schemas.machine import MORE_MEMORY, MORE_THREADS, NO_MORE
from controlmill.schemas.terminal.console import output
from controlmill.schemas.terminal.printing import printable
from controlmill.schemas.views import commands as schema_commands
from controlmill.schemas.views.compare import commands as compare_commands
from controlmill.training import commands as training_commands

from . import evaluate as evaluate_command

app = typer.Typer(
    name="controlmill",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
for room in (
    *(pipeline_commands, schema_commands, export_commands),
    *(training_commands, evaluate_command, compare_commands, machine_commands, cluster_commands),
):
    room.register(app)


def _version(asked: bool) -> None:
    if asked:
        typer.echo(__version__)
        raise typer.Exit


Version = Annotated[bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")]


@app.callback()
def about(version: Version = False) -> None:
    """Turn a folder of images into a ControlNet dataset, and train a ControlNet on it."""


def main() -> None:
    """Run the command line; a user's mistake is a message and exit status 1, Ctrl-C is 130."""
    atexit.register(gc.freeze)  # all memory goes with the process: no garbage is looked for in it first
    try:
        app()
    except MillError as error:
        output.fail(f"controlmill: {error}")
        sys.exit(130 if isinstance(error, Interrupted) else 1)
    except OSError as error:
        where = f"{printable(error.filename)}: " if error.filename else ""
        output.fail(f"controlmill: {where}{error.strerror or error}")
        sys.exit(1)
    except MemoryError as error:
        output.fail(f"controlmill: out of memory ({error_text(error)}): {MORE_MEMORY}")
        sys.exit(1)
    except RuntimeError as error:
        if NO_MORE not in str(error):
            raise
        output.fail(f"controlmill: no more threads can be started ({error}): {MORE_THREADS}")
        sys.exit(1)
    except KeyboardInterrupt:
        output.fail("controlmill: stopped")
        sys.exit(130)


if __name__ == "__main__":
    main()
