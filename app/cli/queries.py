"""`crossbit encode` and `crossbit search`."""

from pathlib import Path
from typing import Annotated

import typer

from app.cli import options
from app.cli.options import SEARCHING, AsJson, Bits, open_settings
from app.jobs import Skipped
from app.show import note, note_skipped, note_truncated, show_hits, show_json, show_table

cli = typer.Typer()


@cli.command(rich_help_panel=SEARCHING)
def encode(
    artifact: Annotated[str | None, typer.Option(help="Name of an artifact; the only one if left out.")] = None,
    bits: Bits = 64,
    text: Annotated[list[str] | None, typer.Option(help="A text; may be repeated.")] = None,
    image: Annotated[
        list[Path] | None, typer.Option(help="An image file, or a folder of them; may be repeated.")
    ] = None,
    keywords: Annotated[
        list[str] | None, typer.Option(help="Names of classes such as 'dog, beach'; may be repeated.")
    ] = None,
    pair: Annotated[
        bool, typer.Option("--pair", help="Fuse each image with its text, or with the one text that is given.")
    ] = False,
    batch_size: Annotated[int, typer.Option(min=1, help="Inputs a call; changes no code.")] = 64,
    as_json: AsJson = False,
) -> None:
    """Print the codes of texts, image files or pairs; of several, those that cannot be encoded are listed, left out."""
    from app.query_commands import encode as encode_inputs

    result = encode_inputs(
        open_settings(),
        options.load_hasher,
        artifact=artifact,
        bits=bits,
        texts=text or [],
        images=image or [],
        keywords=keywords or [],
        pair=pair,
        batch_size=batch_size,
    )
    if as_json:
        show_json(result)
    else:
        show_table(["code", "input"], list(zip(result["codes"], result["inputs"], strict=True)))
        note_skipped([Skipped(**one) for one in result["skipped"]])
        note_truncated(result["truncated_tokens"])


@cli.command(rich_help_panel=SEARCHING)
def search(
    index_name: Annotated[
        str | None, typer.Option("--index", help="Name of an index; the only one if left out.")
    ] = None,
    text: Annotated[str | None, typer.Option(help="Find images for this text.")] = None,
    image: Annotated[
        Path | None, typer.Option(help="Find texts for this image file; with --text, items like both together.")
    ] = None,
    keywords: Annotated[
        str | None, typer.Option(help="Find images of classes by their names, such as 'dog, beach'.")
    ] = None,
    target: Annotated[str | None, typer.Option(help="Column to search: image, text or pair.")] = None,
    limit: Annotated[int, typer.Option(min=1, help="Number of hits.")] = 10,
    radius: Annotated[int | None, typer.Option(min=0, help="Largest distance.")] = None,
    where: Annotated[str | None, typer.Option("--filter", help="Filter over metadata, as JSON.")] = None,
    explain: Annotated[bool, typer.Option("--explain", help="Also tell what the search engine did.")] = False,
    as_json: AsJson = False,
) -> None:
    """Search an index by text, by image, by an image with words that refine it, or by names of classes."""
    from app.query_commands import search as search_index

    result = search_index(
        open_settings(),
        options.load_hasher,
        index=index_name,
        text=text,
        image=image,
        keywords=keywords,
        target=target,
        limit=limit,
        radius=radius,
        where=where,
        explain=explain,
    )
    if as_json:
        show_json(result)
    else:
        show_hits(result["hits"])
        note_truncated(result["truncated_tokens"])
        if "plan" in result:
            note(", ".join(f"{name} {value}" for name, value in result["plan"].items()))
