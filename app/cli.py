"""The command line. Modules are imported inside the commands that need them, so that ``crossbit --help`` is quick."""

import signal
import sys
from dataclasses import asdict
from enum import StrEnum
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from app.failures import explain
from app.jobs import JobError, RebuildFailed
from app.roles import Role
from app.show import data_progress, note, note_skipped, progress, show_entries, show_entry, show_json, show_table
from index.errors import IndexCorrupt, SearchError
from model.errors import EncoderError, ModelError

if TYPE_CHECKING:
    from app.settings import Settings
    from model.hasher import Hasher

FAILED = 1  # something is broken
USAGE = 2  # something was asked that cannot be done
INTERRUPTED = 130  # Ctrl-C, as shells count it

DATA_AND_MODELS, SEARCHING, SERVING = "Data and models", "Indexes and search", "Service"  # headings of --help
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
data = typer.Typer(help="List, check and build data sets.", no_args_is_help=True)
index = typer.Typer(help="Build, show, verify and roll back indexes.", no_args_is_help=True)
cli.add_typer(data, name="data", rich_help_panel=DATA_AND_MODELS)
bench = typer.Typer(help="Measure on this machine.", no_args_is_help=True)
cli.add_typer(index, name="index", rich_help_panel=SEARCHING)
cli.add_typer(bench, name="bench", rich_help_panel=SERVING)

AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON object.")]
Generation = Annotated[int | None, typer.Option(min=1, help="Number of a generation.")]
Bits = Annotated[int, typer.Option(min=8, help="Code length.")]


class Split(StrEnum):
    """Which items of a data set an index takes."""

    DATABASE = "database"
    ALL = "all"


class Texts(StrEnum):
    """Which texts of an item get a code."""

    FIRST = "first"
    ALL = "all"


def main() -> None:
    """Run the command line; an error that has a message is shown as that message, and Ctrl-C as one line."""
    try:
        cli()
    except SystemExit as end:
        if end.code == INTERRUPTED:
            signal.signal(signal.SIGINT, signal.SIG_DFL)  # another Ctrl-C ends what threads are still finishing
            note("interrupted; nothing half-written was left behind")
        raise
    except (IndexCorrupt, RebuildFailed) as error:
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


@data.command("build")
def build_data(
    name: Annotated[str, typer.Argument(help="Name of a data set that can be built.")],
    package: Annotated[Path | None, typer.Option(help="Local copy of the published source.")] = None,
) -> None:
    """Build a data set from its published source."""
    from model.data.registry import build

    with data_progress() as bar:
        path = build(name, _settings().data_dir, package=package, progress=bar)
    note(f"built {path}")


@data.command("check")
def check_data(name: Annotated[str, typer.Argument(help="Name of a data set.")], as_json: AsJson = False) -> None:
    """Read a whole data set and list what is wrong with it."""
    from model.data.registry import check
    from model.items import ItemArchive, find_archive

    archive = ItemArchive.open(find_archive(name, _settings().data_dir))
    with data_progress() as bar:
        findings = check(archive, progress=bar)
    if as_json:
        show_json({"name": name, "items": len(archive.items), "findings": findings})
    else:
        show_table([f"{name}: {len(archive.items):,} items, {len(findings):,} findings"], [[line] for line in findings])
    if findings:
        raise typer.Exit(FAILED)


@data.command("list")
def list_data(as_json: AsJson = False) -> None:
    """List the data sets that are there."""
    from model.items import ItemArchive, find_archive, list_archives

    directory = _settings().data_dir
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
    source: Annotated[Path, typer.Argument(help="Folder of images, or a manifest that ends in .csv or .jsonl.")],
    name: Annotated[str, typer.Option(help="Name of the data set.")],
    images: Annotated[
        Path | None, typer.Option(help="Folder of a manifest's images; the manifest's own if left out.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Import your own images and texts as a data set; an earlier import of that name is replaced."""
    from app.jobs import Skipped
    from app.lookup import any_artifact
    from model.data.importing import import_source, read_source

    settings = _settings()
    listed = read_source(source, images)
    with progress("importing", len(listed.records)) as advance:
        imported = import_source(listed, name, settings.data_dir, advance=advance)
    note_skipped([Skipped(one.where, one.reason) for one in imported.skipped])
    items = imported.items
    entry = {
        "data": name,
        "items": len(items),
        "images": sum(item.image is not None for item in items),
        "texts": sum(len(texts) for item in items for texts in item.texts.values()),
        "classes": len(imported.class_names),
        "skipped": len(imported.skipped),
        "splits": dict(sorted(imported.splits.items())),
    }
    show_entry(entry, as_json=as_json)
    note(f"next: crossbit index build {name} --artifact {any_artifact(settings) or 'ARTIFACT'} --data {name}")


@cli.command(rich_help_panel=DATA_AND_MODELS)
def train(
    recipe: Annotated[str, typer.Argument(help="A shipped recipe, such as baseline or itq, or a .toml file.")],
    data_set: Annotated[str, typer.Option("--data", help="Name of the data set.")] = "openclipart",
    name: Annotated[
        str | None, typer.Option(help="Name of the artifact and its run; the recipe's if left out.")
    ] = None,
    overrides: Annotated[list[str] | None, typer.Option("--set", help="key=value of the recipe; repeatable.")] = None,
    as_json: AsJson = False,
) -> None:
    """Train a model and write its artifact; an interrupted run goes on where it was."""
    from app.training_progress import watch_training
    from model.items import ItemArchive, find_archive
    from model.training.choice import choose_items
    from model.training.pipeline import Folders, train_artifact
    from model.training.recipe import load_recipe

    settings = _settings()
    parsed = load_recipe(recipe, overrides or [])
    archive = ItemArchive.open(find_archive(data_set, settings.data_dir))
    choice = choose_items(parsed, archive)
    if not archive.info.class_names and not parsed.closed_form:
        note(f"{data_set} has no labels: {len(choice.train):,} image-text pairs alone teach the model")
    folders = Folders(settings.home / "runs", settings.artifacts_dir, settings.home / "cache")
    with watch_training(0 if parsed.closed_form else parsed.optimiser.epochs) as watcher:
        manifest = train_artifact(
            parsed,
            archive,
            name or parsed.name,
            folders,
            device=settings.device,
            progress=watcher.features,
            report=lambda one: watcher.epoch(one.epoch, one.losses, one.items_per_s, one.validation_map),
        )
    facts = {key: manifest.training[key] for key in ("best_epoch", "supervision", "validation_map")}
    trained = {"artifact": manifest.name, "bits": ", ".join(map(str, manifest.lengths)), **facts}
    show_entry({key: value for key, value in trained.items() if value is not None}, as_json=as_json)


@cli.command(rich_help_panel=DATA_AND_MODELS)
def evaluate(
    artifact: Annotated[str, typer.Argument(help="Name of the artifact.")],
    data_set: Annotated[
        str | None, typer.Option("--data", help="Name of the data set; the one it was trained on if left out.")
    ] = None,
    bits: Annotated[list[int] | None, typer.Option(help="Code length; repeatable; 64 if left out.")] = None,
    captions: Annotated[str | None, typer.Option(help="Caption variant; the headline one if left out.")] = None,
    as_json: AsJson = False,
) -> None:
    """Measure retrieval: lone tie-aware mAP@all of the test queries, for the whole and for the unseen database."""
    from model.artifact import load_hasher
    from model.evaluation.lone import as_json as results_as_json
    from model.evaluation.lone import as_table, evaluate_lone, evaluated_items
    from model.items import ItemArchive, find_archive
    from model.manifest import read_manifest

    settings = _settings()
    folder = settings.artifacts_dir / artifact
    archive = ItemArchive.open(find_archive(data_set or read_manifest(folder).data["name"], settings.data_dir))
    evaluated = sum(map(len, evaluated_items(archive, captions or archive.info.captions[0])))
    results = []
    for length in bits or [64]:
        hasher = load_hasher(folder, length, settings.device, settings.home / "cache")
        with progress(f"codes of {length} bits", evaluated) as advance:
            results.append(evaluate_lone(hasher, archive, captions=captions, advance=advance))
    if as_json:
        show_json(results_as_json(results))
    else:
        show_table(*as_table(results))


@cli.command(rich_help_panel=SEARCHING)
def encode(
    artifact: Annotated[str | None, typer.Option(help="Name of an artifact; the only one if left out.")] = None,
    bits: Bits = 64,
    text: Annotated[list[str] | None, typer.Option(help="A text; may be repeated.")] = None,
    image: Annotated[list[Path] | None, typer.Option(help="An image file; may be repeated.")] = None,
    batch_size: Annotated[int, typer.Option(min=1, help="Inputs a call; changes no code.")] = 32,
    as_json: AsJson = False,
) -> None:
    """Print the codes of texts or image files."""
    from app.query_commands import encode as encode_inputs

    result = encode_inputs(
        _settings(),
        _load_hasher,
        artifact=artifact,
        bits=bits,
        texts=text or [],
        images=image or [],
        batch_size=batch_size,
    )
    if as_json:
        show_json(result)
    else:
        show_table(["code"], [[code] for code in result["codes"]])


@cli.command(rich_help_panel=SEARCHING)
def search(
    index_name: Annotated[
        str | None, typer.Option("--index", help="Name of an index; the only one if left out.")
    ] = None,
    text: Annotated[str | None, typer.Option(help="Find images for this text.")] = None,
    image: Annotated[Path | None, typer.Option(help="Find texts for this image file.")] = None,
    target: Annotated[str | None, typer.Option(help="Column to search: image or text.")] = None,
    limit: Annotated[int, typer.Option(min=1, help="Number of hits.")] = 10,
    radius: Annotated[int | None, typer.Option(min=0, help="Largest distance.")] = None,
    where: Annotated[str | None, typer.Option("--filter", help="Filter over metadata, as JSON.")] = None,
    as_json: AsJson = False,
) -> None:
    """Search an index by text or by image."""
    from app.query_commands import search as search_index

    result = search_index(
        _settings(),
        _load_hasher,
        index=index_name,
        text=text,
        image=image,
        target=target,
        limit=limit,
        radius=radius,
        where=where,
    )
    if as_json:
        show_json(result)
    else:
        rows = [[hit["rank"], hit["distance"], hit["id"], hit["text"] or ""] for hit in result["hits"]]
        show_table(["rank", "distance", "id", "text"], rows)


@cli.command(rich_help_panel=SERVING)
def serve(
    host: Annotated[str | None, typer.Option(help="Address to bind; CROSSBIT_HOST if left out.")] = None,
    port: Annotated[int | None, typer.Option(min=0, max=65535, help="Port; CROSSBIT_PORT if left out.")] = None,
) -> None:
    """Serve every index over HTTP until Ctrl-C."""
    from app.jobs_lock import lock_jobs
    from app.keys import KeysFileError, load_keys
    from app.main import create_app
    from app.serving import serve as run

    settings = _settings()
    try:
        keys = load_keys(settings)
    except KeysFileError as error:
        raise typer.BadParameter(str(error), param_hint="CROSSBIT_KEYS_FILE") from error
    lock_jobs(settings.jobs_dir).close()  # says at once that another process serves this home
    run(
        lambda: create_app(settings),
        settings.host if host is None else host,
        settings.port if port is None else port,
        has_keys=bool(keys),
    )


@cli.command(rich_help_panel=SERVING)
def key(
    role: Annotated[Role, typer.Option(help="query may search and read, admin may also rebuild.")] = Role.QUERY,
    as_json: AsJson = False,
) -> None:
    """Make an API key. It is shown once; the service is given only its digest."""
    from app.keys import digest_of, new_key

    made = new_key()
    digest = digest_of(made)
    setting = f"CROSSBIT_KEYS__{role.upper()}"
    if as_json:
        show_json({"key": made, "role": role, "digest": digest, "setting": setting, "value": [digest]})
        return
    note(f"This key has the role {role} and is shown only now; callers send it as `Authorization: Bearer KEY`.")
    note(f"Give the service its digest: set {setting}='[\"{digest}\"]', with those of this role's other keys,")
    note(f"or add the line `{role} {digest}` to the file that CROSSBIT_KEYS_FILE names; then start it anew.")
    typer.echo(made)


@cli.command(rich_help_panel=DATA_AND_MODELS)
def models(as_json: AsJson = False) -> None:
    """List the artifacts."""
    settings = _settings()
    from model.manifest import list_artifacts, read_manifest

    directory = settings.artifacts_dir
    manifests = [read_manifest(directory / name) for name in list_artifacts(directory)]
    entries = [
        {
            "name": manifest.name,
            "method": manifest.method,
            "backbone": manifest.backbone,
            "bits": ", ".join(map(str, manifest.lengths)),
            "data": manifest.data.get("name", ""),
        }
        for manifest in manifests
    ]
    show_entries("models", entries, as_json=as_json)


@cli.command(rich_help_panel=SERVING)
def doctor(as_json: AsJson = False) -> None:
    """Check settings, disk, device, port, artifacts, indexes and data sets, and say what to do; exit 1 if any fails."""
    from app.doctor import Level, examine

    findings = list(examine())
    failed = any(one.level is Level.FAIL for one in findings)
    if as_json:
        show_json({"ok": not failed, "findings": [asdict(one) for one in findings]})
    else:
        rows = [[one.level, one.check, one.found, one.remedy] for one in findings]
        show_table(["", "check", "found", "what to do"], rows)
    if failed:
        raise typer.Exit(FAILED)


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
    settings = _settings()
    load_hasher = partial(_load_hasher, cache_dir=settings.home / "cache")  # training has seen most of these items
    manifest = build(settings, request, load_hasher)
    built = {"index": manifest.index, "generation": manifest.generation, "items": manifest.items, "bits": manifest.bits}
    show_entry(built, as_json=as_json)


@index.command("verify")
def verify_index(
    name: Annotated[str | None, typer.Argument(help="Name of an index; the only one if left out.")] = None,
    generation: Generation = None,
    as_json: AsJson = False,
) -> None:
    """Read a whole generation and check it; the one that serves if none is named."""
    from app.index_commands import verify

    show_entry(verify(_settings(), name, generation), as_json=as_json)


@index.command("show")
def show_index(
    name: Annotated[str | None, typer.Argument(help="Name of an index; all of them if left out.")] = None,
    as_json: AsJson = False,
) -> None:
    """Show what an index holds and how good its codes are."""
    from app.index_commands import overview, show

    if name is None:
        show_entries("indexes", overview(_settings()), as_json=as_json)
    else:
        show_entry(show(_settings(), name), as_json=as_json)


@index.command("rollback")
def rollback_index(
    name: Annotated[str, typer.Argument(help="Name of an index.")],
    generation: Generation = None,
    as_json: AsJson = False,
) -> None:
    """Make an earlier generation the one that serves; the newest one below the current if none is named."""
    from app.index_commands import rollback

    show_entry(rollback(_settings(), name, generation), as_json=as_json)


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

    measured = bench_serve(_settings(), index_name, requests)
    if as_json:
        show_json(measured)
    else:
        show_table(*as_table(measured))


def _settings() -> "Settings":
    from app.settings import InvalidSettings, load_settings

    try:
        return load_settings()
    except InvalidSettings as error:
        raise typer.BadParameter(str(error)) from error


def _load_hasher(artifact_dir: Path, bits: int, device: str, cache_dir: Path | None = None) -> "Hasher":
    from model.artifact import load_hasher

    return load_hasher(artifact_dir, bits, device, cache_dir)
