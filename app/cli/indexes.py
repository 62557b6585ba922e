"""`crossbit index …`."""

from enum import StrEnum
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated

import typer

from app.cli import options
from app.cli.options import SEARCHING, AsJson, Bits, Url, given, open_settings
from app.show import note_skipped, progress, show_entries, show_entry

cli = typer.Typer()
index = typer.Typer(help="Build, edit, show, verify and roll back indexes.", no_args_is_help=True)
cli.add_typer(index, name="index", rich_help_panel=SEARCHING)

Generation = Annotated[int | None, typer.Option(min=1, help="Number of a generation.")]


class Split(StrEnum):
    """Which items of a data set an index takes."""

    DATABASE = "database"
    ALL = "all"


class Texts(StrEnum):
    """Which texts of an item get a code."""

    FIRST = "first"
    ALL = "all"


@index.command("build")
def build_index(
    name: Annotated[str, typer.Argument(help="Name of the index.")],
    artifact: Annotated[str, typer.Option(help="Name of the artifact that makes the codes.")],
    data_set: Annotated[str, typer.Option("--data", help="Name of the data set.")],
    bits: Bits = 64,
    split: Annotated[Split, typer.Option(help="The retrieval set, or every item.")] = Split.DATABASE,
    texts: Annotated[Texts, typer.Option(help="One code for the first text, or one for each.")] = Texts.FIRST,
    reuse: Annotated[bool, typer.Option(help="Take over the codes of unchanged items.")] = True,
    as_json: AsJson = False,
) -> None:
    """Build a new generation of an index and make it the one that serves."""
    from app.index_commands import build
    from app.rebuild_steps import Request
    from app.sources import EVERYTHING

    source = data_set + (EVERYTHING if split is Split.ALL else "")
    request = Request(name, source, artifact, bits, texts, reuse, dry_run=False)
    settings = open_settings()
    # training has seen most of these items
    load_hasher = partial(options.load_hasher, cache_dir=settings.home / "cache")
    manifest = build(settings, request, load_hasher)
    built = {"index": manifest.index, "generation": manifest.generation, "items": manifest.items, "bits": manifest.bits}
    show_entry(built, as_json=as_json)


@index.command("append")
def append_items(
    name: Annotated[str, typer.Argument(help="Name of the index.")],
    source: Annotated[Path, typer.Argument(help="What `crossbit import` takes: a folder, a manifest or shards.")],
    images: Annotated[
        Path | None, typer.Option(help="Folder of a manifest's images; the manifest's own if left out.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Add your own images and texts to an index, or replace those whose ids it has; they are found at once."""
    from app.edit_commands import append
    from app.jobs import Skipped
    from model.data.importing import import_source, read_source
    from model.items import ItemArchive

    settings = open_settings()
    listed = read_source(source, images)
    with TemporaryDirectory(prefix="crossbit-append-") as folder:
        imported = import_source(listed, "appended", Path(folder), show=progress)
        note_skipped([Skipped(one.where, one.reason) for one in imported.skipped], imported.left_out)
        appended = append(settings, name, ItemArchive.open(imported.path), options.load_hasher)
    appended["skipped"] += imported.left_out
    show_entry(appended, as_json=as_json)


@index.command("delete")
def delete_items(
    name: Annotated[str, typer.Argument(help="Name of the index.")],
    ids: Annotated[list[str], typer.Argument(help="Ids of the items.", metavar="ID...")],
    as_json: AsJson = False,
) -> None:
    """Delete items from an index: all that are named, or none if one is not there."""
    from app.edit_commands import delete

    show_entry(delete(open_settings(), name, ids), as_json=as_json)


@index.command("compact")
def compact_index(name: Annotated[str, typer.Argument(help="Name of the index.")], as_json: AsJson = False) -> None:
    """Merge what was appended and deleted into a new generation and make it the one that serves."""
    from app.edit_commands import compact

    show_entry(compact(open_settings(), name), as_json=as_json)


@index.command("verify")
def verify_index(
    name: Annotated[str | None, typer.Argument(help="Name of an index; the only one if left out.")] = None,
    generation: Generation = None,
    as_json: AsJson = False,
) -> None:
    """Read a whole generation and check it; the one that serves if none is named."""
    from app.index_commands import verify

    show_entry(verify(open_settings(), name, generation), as_json=as_json)


@index.command("show")
def show_index(
    name: Annotated[str | None, typer.Argument(help="Name of an index; all of them if left out.")] = None,
    url: Url = None,
    as_json: AsJson = False,
) -> None:
    """Show what an index holds and how good its codes are."""
    from app import index_commands, remote_commands

    if name is None:
        entries = index_commands.overview(open_settings()) if url is None else remote_commands.overview(url)
        show_entries("indexes", entries, as_json=as_json)
    else:
        entry = index_commands.show(open_settings(), name) if url is None else remote_commands.show(url, name)
        show_entry(entry, as_json=as_json)


@index.command("rollback")
def rollback_index(
    name: Annotated[str, typer.Argument(help="Name of an index.")],
    generation: Generation = None,
    url: Url = None,
    as_json: AsJson = False,
) -> None:
    """Make an earlier generation the one that serves; the newest one below the current if none is named."""
    from app import index_commands, remote_commands

    if url is None:
        pointer = index_commands.rollback(open_settings(), name, generation)
    else:
        pointer = remote_commands.rollback(url, name, generation)
    show_entry(pointer, as_json=as_json)


@index.command("rebuild")
def rebuild_index(
    name: Annotated[str, typer.Argument(help="Name of an index.")],
    url: Annotated[str, typer.Option(help="Service that has the index; CROSSBIT_API_KEY has its key, if it has any.")],
    source: Annotated[str | None, typer.Option(help="A source of the service; the index's own if left out.")] = None,
    artifact: Annotated[str | None, typer.Option(help="A model of the service; the index's own if left out.")] = None,
    bits: Annotated[int | None, typer.Option(min=8, help="Code length; the index's own if left out.")] = None,
    reuse: Annotated[bool, typer.Option(help="Take over the codes of unchanged items.")] = True,
    as_json: AsJson = False,
) -> None:
    """Have a service rebuild an index while it serves, and watch; Ctrl-C ends the watching, not the rebuild."""
    from app.remote_commands import rebuild

    job = rebuild(url, name, given(source=source, model=artifact, bits=bits, reuse=reuse))
    show_entry(job, as_json=as_json)


@index.command("export")
def export_index(
    name: Annotated[str, typer.Argument(help="Name of the index.")],
    to: Annotated[str, typer.Option(help="`milvus`, the server that CROSSBIT_MILVUS__URL names, or a file to write.")],
    as_json: AsJson = False,
) -> None:
    """Copy the generation that serves to Milvus or into a file, read it back, and show the checksums of (id, code)."""
    from app.transfer_commands import export

    show_entry(export(open_settings(), name, to), as_json=as_json)


@index.command("import")
def import_index(
    name: Annotated[str, typer.Argument(help="Name of the index, which need not exist.")],
    source: Annotated[str, typer.Option("--from", help="`milvus`, or a file that `export` wrote.")],
    as_json: AsJson = False,
) -> None:
    """Make a new generation from Milvus or a file the one that serves; another model or code length is refused."""
    from app.transfer_commands import import_index

    show_entry(import_index(open_settings(), name, source), as_json=as_json)
