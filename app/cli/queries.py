"""`crossbit encode` and `crossbit search`."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from app.cli import options
from app.cli.options import SEARCHING, AsJson, Bits, Url, given, open_settings
from app.jobs import Skipped
from app.show import note, note_skipped, note_truncated, show_hits, show_json, show_table

if TYPE_CHECKING:
    from app.client_types import EncodeOptions

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
    url: Url = None,
    as_json: AsJson = False,
) -> None:
    """Print the codes of texts, image files or pairs; of several, those that cannot be encoded are listed, left out.

    With --url the model of the service's default index makes them, unless --artifact names another one of its models.
    """
    from app import query_commands, remote_commands

    texts, images = text or [], image or []
    if url is None:
        result = query_commands.encode(
            open_settings(),
            options.load_hasher,
            artifact=artifact,
            bits=bits,
            texts=texts,
            images=images,
            keywords=keywords or [],
            pair=pair,
            batch_size=batch_size,
        )
    else:
        _refuse_keywords(keywords)
        model: EncodeOptions = {} if artifact is None else {"model": artifact, "bits": bits}
        result = remote_commands.encode(url, texts, images, pair=pair, batch_size=batch_size, options=model)
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
    url: Url = None,
    as_json: AsJson = False,
) -> None:
    """Search an index by text, by image, by an image with words that refine it, or by names of classes."""
    from app import query_commands, remote_commands

    if url is None:
        result = query_commands.search(
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
    else:
        _refuse_keywords(keywords)
        named = given(index=index_name, target=target, radius=radius, limit=limit, explain=explain)
        result = remote_commands.search(url, text, image, where, named)
    if as_json:
        show_json(result)
    else:
        show_hits(result["hits"])
        note_truncated(result["truncated_tokens"])
        if "plan" in result:
            note(", ".join(f"{name} {value}" for name, value in result["plan"].items()))


def _refuse_keywords(keywords: list[str] | str | None) -> None:
    if keywords:
        raise typer.BadParameter(
            "expected no keywords beside --url: a service takes texts and images", param_hint="--keywords"
        )
