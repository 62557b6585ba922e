"""`crossbit bench …`."""

from pathlib import Path
from typing import Annotated

import typer

from app.cli.options import SERVING, AsJson, Bits, open_settings
from app.show import note, show_json, show_table

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
    """Measure a service on a free port: text, image and code queries, and text queries with and without batching."""
    from app.bench.batching import as_notes
    from app.bench.serve import as_table, bench_serve

    measured = bench_serve(open_settings(), index_name, requests)
    if as_json:
        show_json(measured)
        return
    show_table(*as_table(measured))
    for line in as_notes(measured["batching"]) if measured["batching"] else ():
        note(line)


@bench.command("index")
def bench_search(
    n: Annotated[int, typer.Option("--n", min=100, max=100_000_000, help="Codes to draw.")] = 1_000_000,
    bits: Annotated[int, typer.Option(min=8, max=512, help="Code length, a multiple of 8.")] = 64,
    kind: Annotated[str, typer.Option(help="How codes are drawn: random, learned or collapsed.")] = "learned",
    codes: Annotated[
        Path | None, typer.Option(help="An .npz file with uint8 codes (N, bits / 8), and perhaps queries, instead.")
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="Of the codes drawn.")] = 0,
    plot_file: Annotated[Path | None, typer.Option("--plot", help="Also draw the ratios into this SVG file.")] = None,
    as_json: AsJson = False,
) -> None:
    """Compare the index with faiss, usearch and numpy on one thread, and with what the processor can do at most."""
    from app.bench.codes import Kind, draw_codes, read_codes
    from app.bench.index import as_table, bench_index, plot

    if bits % 8:
        raise typer.BadParameter(f"--bits: expected a multiple of 8, found {bits}")
    drawn = {one.value: one for one in Kind if one is not Kind.FILE}
    if kind not in drawn:
        raise typer.BadParameter(f"--kind: expected one of {', '.join(drawn)}, found {kind!r}")
    measured = bench_index(draw_codes(drawn[kind], n, bits, seed) if codes is None else read_codes(codes))
    if plot_file is not None:
        plot(measured, plot_file)
    if as_json:
        show_json(measured)
        return
    show_table(*as_table(measured))
    ceilings = ", ".join(f"{name.removesuffix('_per_s')} {value:,.0f}" for name, value in measured["ceilings"].items())
    note(f"ceilings in queries per s: {ceilings}; memory {measured['bandwidth_gb_per_s']:.1f} GB/s")
    note(f"instruction sets: {', '.join(measured['instruction_sets'])}; distinct codes: {measured['distinct']:,}")


@bench.command("encode")
def bench_encoder(
    artifact: Annotated[str | None, typer.Option(help="Name of an artifact; the only one if left out.")] = None,
    bits: Bits = 64,
    data: Annotated[str, typer.Option(help="Data set whose images and texts are encoded.")] = "openclipart",
    items: Annotated[int, typer.Option(min=1, max=100_000, help="Items of it.")] = 256,
    dtype: Annotated[str, typer.Option(help="Of the fast path: bfloat16 or float16.")] = "bfloat16",
    compiled: Annotated[bool, typer.Option("--compile", help="Fast path through torch.compile; minutes.")] = False,
    as_json: AsJson = False,
) -> None:
    """Measure queries, bulk work and sizes of forwards, and how many bits the fast path flips."""
    from app.bench.encode import as_table, bench_encode
    from model.artifact import FastPath

    try:
        fast = FastPath(dtype, compile=compiled)
    except ValueError as error:
        raise typer.BadParameter(str(error), param_hint="--dtype") from error
    measured = bench_encode(open_settings(), artifact, bits, data, items, fast)
    if as_json:
        show_json(measured)
    else:
        show_table(*as_table(measured))
