"""`crossbit data …` and `crossbit import`."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from app.cli.options import DATA_AND_MODELS, FAILED, AsJson, open_settings
from app.show import data_progress, note, note_skipped, progress, show_entries, show_entry, show_json, show_table

if TYPE_CHECKING:
    from model.data.report import Report

BALANCE = 5  # smallest and largest classes that are shown

cli = typer.Typer()
data = typer.Typer(help="List, check and build data sets.", no_args_is_help=True)
cli.add_typer(data, name="data", rich_help_panel=DATA_AND_MODELS)


@data.command("build")
def build_data(
    name: Annotated[str, typer.Argument(help="Name of a data set that can be built.")],
    source: Annotated[
        Path | None, typer.Option("--from", help="Local copy of the published source: a file or a folder.")
    ] = None,
    images: Annotated[Path | None, typer.Option(help="Folder of the images, where --from lacks them.")] = None,
) -> None:
    """Build a data set from its published source."""
    from model.data.registry import build
    from model.items import ItemArchive

    with data_progress() as bar:
        path = build(name, open_settings().data_dir, source=source, images=images, progress=bar)
    info = ItemArchive.open(path).info
    for doubt in info.notes.get("doubts", ()):
        note(f"warning: {doubt}")
    note(f"built {path}: {info.title}")


@data.command("check")
def check_data(
    name: Annotated[str, typer.Argument(help="Name of a data set.")],
    html: Annotated[Path | None, typer.Option(help="Write a page with charts and the offending pictures here.")] = None,
    as_json: AsJson = False,
) -> None:
    """Read a whole data set and report what is wrong with it; errors end with exit code 1, warnings do not."""
    from dataclasses import asdict

    from model.data.registry import check
    from model.items import ItemArchive, find_archive

    archive = ItemArchive.open(find_archive(name, open_settings().data_dir))
    with data_progress() as bar:
        report = check(archive, progress=bar)
    if html is not None:
        from model.data.check_page import write_page

        write_page(html, report, archive)
        note(f"wrote {html}")
    if as_json:
        show_json({"ok": report.ok, **asdict(report)})
    else:
        _show_report(report)
    if not report.ok:
        raise typer.Exit(FAILED)


def _show_report(report: "Report") -> None:
    facts = {"items": report.items, "images": report.images, "with text": report.with_text, **report.splits}
    show_table([report.name, "count"], [[name, f"{count:,}"] for name, count in facts.items()])
    if report.classes:
        balance = sorted(report.classes.items(), key=lambda one: one[1])
        shown = balance if len(balance) <= 2 * BALANCE else [*balance[:BALANCE], *balance[-BALANCE:]]
        show_table(["class", "items"], [[name, f"{count:,}"] for name, count in shown])
    for variant, one in report.lengths.items():
        lines = [[f"{bin_} word pieces", f"{count:,}"] for bin_, count in one.bins()]
        cut = [f"beyond the first {one.context}", f"{one.beyond_head:,} texts, {one.cut_by_head:,} word pieces"]
        show_table([f"{variant}: {one.texts:,} texts, longest {one.longest:,}", "texts"], [*lines, cut])
    rows = [
        [f"{finding.level} ({finding.count:,})", finding.kind, example]
        for finding in report.findings
        for example in finding.examples
    ]
    show_table(["level", "finding", "example"], rows) if rows else note("nothing wrong was found")


@data.command("resplit")
def resplit_data(
    name: Annotated[str, typer.Argument(help="Name of a data set that was split by groups.")],
    seed: Annotated[int, typer.Option("--split-seed", min=0, help="Seed of the fresh split.")],
) -> None:
    """Write a data set once more, as NAME-split-SEED, with a fresh split of the same sizes."""
    from model.data.resplit import resplit
    from model.items import ItemArchive, find_archive

    settings = open_settings()
    archive = ItemArchive.open(find_archive(name, settings.data_dir))
    with progress(f"{name}, split {seed}", len(archive.items)) as advance:
        path = resplit(archive, seed, settings.data_dir, advance)
    note(f"wrote {path}; it goes by the name {path.parent.name}")


@data.command("list")
def list_data(as_json: AsJson = False) -> None:
    """List the data sets that are there."""
    from model.items import ItemArchive, find_archive, list_archives

    directory = open_settings().data_dir
    archives = [ItemArchive.open(find_archive(name, directory)) for name in list_archives(directory)]
    entries = [
        {
            "name": archive.info.name,
            "items": len(archive.items),
            "database": len(archive.database()),
            "captions": ", ".join(archive.info.captions),
            "classes": len(archive.info.class_names),
            "licence": archive.info.licence,
        }
        for archive in archives
    ]
    show_entries("data", entries, as_json=as_json)


@cli.command("import", rich_help_panel=DATA_AND_MODELS)
def import_data(
    source: Annotated[
        Path,
        typer.Argument(
            help="Folder of images; manifest that ends in .csv, .jsonl or .parquet; or .tar shards: a file, their "
            "folder, or a pattern such as 'train-{000..012}.tar'."
        ),
    ],
    name: Annotated[str, typer.Option(help="Name of the data set.")],
    images: Annotated[
        str | None,
        typer.Option(
            help="Folder of a manifest's images, or s3://BUCKET/PREFIX (pip install 'crossbit[s3]'); the manifest's "
            "own folder if left out."
        ),
    ] = None,
    link: Annotated[
        bool,
        typer.Option("--link", help="Leave the images where they are, unread, and refer to them."),
    ] = False,
    group_duplicates: Annotated[
        bool, typer.Option("--group-duplicates", help="Keep pictures that look alike on one side of the split.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Import your own images and texts as a data set; an earlier import of that name is replaced."""
    from app.jobs import Skipped
    from app.lookup import any_artifact
    from model.data.importing import Choices, import_source, read_source

    settings = open_settings()
    listed = read_source(source, images)
    imported = import_source(listed, name, settings.data_dir, Choices(link, group_duplicates), show=progress)
    note_skipped([Skipped(one.where, one.reason) for one in imported.skipped], imported.left_out)
    entry = {
        "data": name,
        "items": imported.items,
        "images": imported.images,
        "texts": imported.texts,
        "classes": len(imported.class_names),
        "skipped": imported.left_out,
        "splits": imported.splits,
    }
    show_entry(entry, as_json=as_json)
    note(f"next: crossbit index build {name} --artifact {any_artifact(settings) or 'ARTIFACT'} --data {name}")
