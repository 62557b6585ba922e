"""The command line. Modules are imported inside the commands that need them, so that ``crossbit --help`` is quick."""

import signal
import sys
from typing import Annotated

import typer

from app.cli import ablation, bench, comparison, data, evaluation, indexes, queries, service, sweeping, training
from app.cli.options import FAILED, INTERRUPTED, USAGE
from app.failures import ExtraMissing, RemoteFailed, explain
from app.jobs import JobError, RebuildFailed
from app.show import note
from index.errors import IndexCorrupt, SearchError
from model.errors import EncoderError, ModelError

FIRST_STEPS = (
    "Everything lies in the folder that CROSSBIT_HOME names, var/ if unset. First steps: crossbit train baseline "
    "--name demo; crossbit index build demo --artifact demo --data openclipart; crossbit serve."
)

cli = typer.Typer(
    epilog=FIRST_STEPS,
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
for part in (data, training, evaluation, comparison, ablation, sweeping, indexes, queries, service, bench):
    cli.add_typer(part.cli)


def main() -> None:
    """Run the command line; an error that has a message is shown as that message, and Ctrl-C as one line."""
    try:
        cli()
    except SystemExit as end:
        if end.code == INTERRUPTED:
            signal.signal(signal.SIGINT, signal.SIG_DFL)  # another Ctrl-C ends what threads are still finishing
            note("interrupted; nothing half-written was left behind")
        raise
    except (IndexCorrupt, RebuildFailed, RemoteFailed, ExtraMissing) as error:
        note(f"error: {error}")
        sys.exit(FAILED)
    except (ModelError, EncoderError, SearchError, JobError) as error:
        note(f"error: {error}")
        sys.exit(USAGE)
    except Exception as error:
        if (message := explain(error)) is None:
            raise
        note(f"error: {message}")
        sys.exit(FAILED)


def _show_version(asked: bool) -> None:
    if asked:
        from importlib.metadata import version

        typer.echo(f"crossbit {version('crossbit')}")
        raise typer.Exit


@cli.callback()
def common(
    version: Annotated[
        bool, typer.Option("--version", is_eager=True, callback=_show_version, help="Print the version and exit.")
    ] = False,
) -> None:
    """Binary codes for images and texts, and exact Hamming search over them."""
