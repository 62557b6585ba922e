"""`crossbit bench …`."""

from typing import Annotated

import typer

from app.cli.options import SERVING, AsJson, open_settings
from app.show import show_json, show_table

cli = typer.Typer()
bench = typer.Typer(help="Measure on this machine.", no_args_is_help=True)
cli.add_typer(bench, name="bench", rich_help_panel=SERVING)


@bench.command("serve")
def bench_service(
    index_name: Annotated[
        str | None, typer.Option("--index", help="Name of an index; the only one if left out.")
    ] = None,
    requests: Annotated[
        int, typer.Option(min=1, max=100_000, help="Text and image requests of a measurement; ten times as many codes.")
    ] = 100,
    as_json: AsJson = False,
) -> None:
    """Start the service on a free port and measure text, image and code queries at concurrency 1, 4 and 16."""
    from app.bench.serve import as_table, bench_serve

    measured = bench_serve(open_settings(), index_name, requests)
    if as_json:
        show_json(measured)
    else:
        show_table(*as_table(measured))
