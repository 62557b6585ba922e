"""What `crossbit doctor` looks at: settings, disk, device, port, and every artifact, index and data set of the home."""

import os
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from tempfile import TemporaryFile

import typer

from app.disk_space import needed_bytes
from app.failures import ExtraMissing
from app.jobs import JobsUnreachable, SourceNotFound
from app.jobs_lock import running_workers
from app.keys import KeysFileError, load_keys
from app.serving import bind, is_loopback
from app.settings import InvalidSettings, Settings, load_settings
from app.sources import data_set
from index.editing import MAX_EDITS
from index.errors import EngineUnavailable, SearchError
from index.generations import CURRENT, IndexDirectory, list_indexes
from index.manifest import GenerationManifest
from index.search import kernel_level
from index.snapshot import Snapshot, verify_index
from model.errors import EncoderError, LicenceNotAccepted, ModelError
from model.items import ItemArchive, find_archive, list_archives
from model.licences import require_licence
from model.manifest import list_artifacts, read_manifest

LOW_BYTES, TOO_LOW_BYTES = 2**30, 100 * 2**20  # of free disk
MANY_EDITS = MAX_EDITS // 2


class Level(StrEnum):
    """How bad a finding is."""

    OK = "ok"
    WARN = "warn"  # works, but something is missing or soon will be
    FAIL = "FAIL"  # does not work


@dataclass(frozen=True, slots=True)
class Finding:
    """One line of the report."""

    level: Level
    check: str
    found: str
    remedy: str = ""


def examine(device: str | None = None) -> Iterator[Finding]:
    """Every finding, as soon as it is known; nothing is changed. ``device`` takes the place of the one that is set."""
    try:
        settings = load_settings()
        settings = settings if device is None else settings.model_copy(update={"device": device})
    except InvalidSettings as error:
        for problem in error.problems:
            yield Finding(Level.FAIL, "settings", problem, "set it to another value, or unset it")
        return
    checks: tuple[Callable[[Settings], Iterator[Finding]], ...] = (
        _check_settings,
        _check_home,
        _check_port,
        _check_workers,
        _check_jobs,
        _check_device,
        _check_engine,
        _check_milvus,
        _check_artifacts,
        _check_indexes,
        _check_data,
    )
    for check in checks:
        yield from check(settings)


def _check_settings(settings: Settings) -> Iterator[Finding]:
    problems = list(_settings_problems(settings))
    yield from problems or [Finding(Level.OK, "settings", "they agree with each other and with the home")]


def _settings_problems(settings: Settings) -> Iterator[Finding]:
    try:
        keys = load_keys(settings)
    except KeysFileError as error:
        yield Finding(Level.FAIL, "settings", str(error), "repair the file that CROSSBIT_KEYS_FILE names")
        return
    if not keys and not is_loopback(settings.host):
        level = Level.WARN if settings.open_without_keys else Level.FAIL
        found = f"CROSSBIT_HOST is {settings.host}, open to the network, and there are no keys"
        yield Finding(level, "settings", found, "make a key with `crossbit key --role admin`, or serve on 127.0.0.1")
    known = list_indexes(settings.indexes_dir)
    for name in sorted(set(settings.indexes or ()) - set(known)):
        found = f"CROSSBIT_INDEXES names {name!r}; known: {', '.join(known) or 'none'}"
        yield Finding(Level.FAIL, "settings", found, "name those that exist, or build it")
    served = [name for name in known if settings.indexes is None or name in settings.indexes]
    if settings.default_index is not None and settings.default_index not in served:
        found = f"CROSSBIT_DEFAULT_INDEX is {settings.default_index!r}; served: {', '.join(served) or 'none'}"
        yield Finding(Level.FAIL, "settings", found, "name one that is served, or build it")
    yield from _tracing_problems(settings)
    archives = list_archives(settings.data_dir)
    for source, data in sorted(settings.sources.items()):
        if data_set(data) not in archives:
            found = f"CROSSBIT_SOURCES: {source!r} reads the data set {data!r}; known: {', '.join(archives) or 'none'}"
            yield Finding(Level.FAIL, "settings", found, "name one that exists, or import it")


def _tracing_problems(settings: Settings) -> Iterator[Finding]:
    from app.tracing import open_tracing

    try:
        tracing = open_tracing(settings)
    except ExtraMissing as error:
        yield Finding(Level.FAIL, "settings", str(error), "pip install 'crossbit[otel]', or unset it")
        return
    if tracing is not None:
        tracing.shutdown()


def _check_home(settings: Settings) -> Iterator[Finding]:
    home = settings.home.absolute()
    place = next(path for path in (home, *home.parents) if path.exists())
    if not place.is_dir() or not os.access(place, os.W_OK | os.X_OK) or not _can_write(place):
        yield Finding(Level.FAIL, "home", f"{place} cannot be written to", "change its owner, or set CROSSBIT_HOME")
    elif place != home:
        yield Finding(Level.WARN, "home", f"{home} is not there yet", "the first command that writes makes it")
    else:
        yield Finding(Level.OK, "home", str(home))
    free = shutil.disk_usage(place).free
    level = Level.FAIL if free < TOO_LOW_BYTES else Level.WARN if free < LOW_BYTES else Level.OK
    remedy = "" if level is Level.OK else "free some space, or set CROSSBIT_HOME to a larger disk"
    yield Finding(level, "disk", f"{free / 2**30:,.1f} GiB free", remedy)
    for name in list_indexes(settings.indexes_dir):
        needed = _rebuild_bytes(settings, name)
        if free - needed < settings.min_free_bytes:  # as what refuses a rebuild
            found = f"{free / 2**30:,.1f} GiB free, and a rebuild of index {name} takes about {needed / 2**30:,.1f}"
            yield Finding(Level.WARN, "disk", found, "free some space before the next rebuild")


def _rebuild_bytes(settings: Settings, index: str) -> int:
    """What a rebuild takes; 0 where that cannot be told, which the checks of indexes and data sets say."""
    try:
        manifest = IndexDirectory(settings.indexes_dir / index).current_manifest()
        return needed_bytes(index, manifest.source, settings)
    except (SearchError, SourceNotFound, ModelError):
        return 0


def _can_write(folder: Path) -> bool:
    try:
        with TemporaryFile(dir=folder):
            return True
    except OSError:
        return False


def _check_port(settings: Settings) -> Iterator[Finding]:
    try:
        bind(settings.host, settings.port).close()
    except typer.BadParameter as error:
        if running_workers(settings.jobs_dir):
            yield Finding(Level.OK, "port", "another crossbit process serves this home now")
        else:
            yield Finding(Level.WARN, "port", error.message, "stop what listens there, or set CROSSBIT_PORT")
        return
    yield Finding(Level.OK, "port", f"{settings.port} on {settings.host} is free")


def _check_workers(settings: Settings) -> Iterator[Finding]:
    running = running_workers(settings.jobs_dir)
    if running:
        yield Finding(Level.OK, "workers", f"rebuilds are run by {', '.join(running)}")
    elif settings.worker == "none":
        found = "CROSSBIT_WORKER is none, and no worker runs on this machine"
        yield Finding(Level.WARN, "workers", found, "start `crossbit worker`")
    else:
        yield Finding(Level.OK, "workers", "`crossbit serve` runs rebuilds itself")


def _check_jobs(settings: Settings) -> Iterator[Finding]:
    if settings.jobs_url is None and settings.jobs_url_file is None:
        yield Finding(Level.OK, "jobs", f"in {settings.jobs_dir.absolute()}")
        return
    from app.job_store import check_reachable, database_url

    try:
        check_reachable(database_url(settings))
    except JobsUnreachable as error:
        yield Finding(Level.FAIL, "jobs", str(error), "start the database, or correct CROSSBIT_JOBS_URL")
        return
    yield Finding(Level.OK, "jobs", "the Postgres database answers")


def _check_device(settings: Settings) -> Iterator[Finding]:
    from model.artifact import device_kind

    try:
        kind = device_kind(settings.device)
    except EncoderError as error:
        yield Finding(Level.FAIL, "device", str(error), "set CROSSBIT_DEVICE to cpu or auto")
        return
    yield Finding(Level.OK, "device", f"{kind}, {os.cpu_count()} cores")


def _check_engine(settings: Settings) -> Iterator[Finding]:
    level = kernel_level()
    if level is not None:
        yield Finding(Level.OK, "engine", f"{settings.engine}; the compiled kernel uses {level}")
    elif settings.engine == "kernel":
        found = "CROSSBIT_ENGINE is kernel, which was not compiled"
        yield Finding(Level.FAIL, "engine", found, "reinstall crossbit with a C compiler, or unset it")
    else:
        found = f"{settings.engine}; the kernel was not compiled, so faiss searches"
        yield Finding(Level.WARN, "engine", found, "reinstall crossbit with a C compiler")


def _check_milvus(settings: Settings) -> Iterator[Finding]:
    if "milvus" not in (settings.engine, *settings.engines.values()):
        return
    from app.engines import Engines

    try:
        version = Engines(settings).milvus.version()
    except (ExtraMissing, EngineUnavailable) as error:
        yield Finding(Level.FAIL, "milvus", str(error), "start it, or correct CROSSBIT_MILVUS__URL or its token")
        return
    yield Finding(Level.OK, "milvus", f"{settings.milvus.url} answers, version {version}")


def _check_artifacts(settings: Settings) -> Iterator[Finding]:
    from model.artifact import verify_artifact

    names = list_artifacts(settings.artifacts_dir)
    for name in names:
        check = f"artifact {name}"
        try:
            manifest = verify_artifact(settings.artifacts_dir / name, settings.device)
            require_licence(manifest.backbone, settings.accept_licences)
        except LicenceNotAccepted as error:
            yield Finding(Level.FAIL, check, str(error), "accept the licence, or use another model")
            continue
        except (ModelError, EncoderError) as error:
            yield Finding(Level.FAIL, check, str(error), "restore its folder, or train it again")
            continue
        lengths = ", ".join(map(str, manifest.lengths))
        yield Finding(Level.OK, check, f"{manifest.method}, {lengths} bits; weights match their fingerprints")
    if not names:
        yield Finding(Level.WARN, "artifacts", "none yet", "crossbit train baseline --name demo")


def _check_indexes(settings: Settings) -> Iterator[Finding]:
    names = sorted(path.name for path in settings.indexes_dir.glob("[!.]*") if path.is_dir())
    for name in names:
        if not (settings.indexes_dir / name / CURRENT).exists():
            remedy = f"build it with `crossbit index build {name}`, or delete its folder"
            yield Finding(Level.WARN, f"index {name}", "no generation of it serves", remedy)
            continue
        yield from _check_index(settings, name)
    if not names:
        yield Finding(Level.WARN, "indexes", "none yet", "crossbit index build NAME --artifact ARTIFACT --data DATA")


def _check_index(settings: Settings, name: str) -> Iterator[Finding]:
    check = f"index {name}"
    try:
        verified = verify_index(settings.indexes_dir / name)
        manifest = IndexDirectory(settings.indexes_dir / name).manifest(verified.generation)
    except (SearchError, OSError) as error:
        yield Finding(Level.FAIL, check, str(error), f"crossbit index rollback {name}, or build it again")
        return
    broken = False
    for finding in _check_model(settings, check, manifest):
        broken = True
        yield finding
    if data_set(manifest.source) not in list_archives(settings.data_dir):
        found = f"its data set {manifest.source!r} is gone"
        yield Finding(Level.WARN, check, found, "it serves, but cannot be rebuilt; import the data set again")
    yield from _check_edits(settings, name)
    if not broken:
        found = f"generation {verified.generation}, {verified.items:,} items; {verified.files} checksums match"
        yield Finding(Level.OK, check, f"{found}, and so does the fingerprint of {manifest.artifact}")


def _check_edits(settings: Settings, name: str) -> Iterator[Finding]:
    with Snapshot.open(settings.indexes_dir / name, engine="numpy", verify=False) as snapshot:
        pending, edits = len(snapshot.pending), snapshot.edits
    if pending:
        found = f"{pending:,} appended items have no codes of its model, so no search finds them"
        yield Finding(Level.WARN, f"index {name}", found, "append them again, or roll back to the model they have")
    if edits >= MANY_EDITS:
        found = f"{edits:,} edits wait to be merged, of {MAX_EDITS:,} at most"
        yield Finding(Level.WARN, f"index {name}", found, f"crossbit index compact {name}")


def _check_model(settings: Settings, check: str, manifest: GenerationManifest) -> Iterator[Finding]:
    from model.artifact import device_kind

    try:
        fingerprint = read_manifest(settings.artifacts_dir / manifest.artifact).fingerprints.get(str(manifest.bits))
    except ModelError as error:
        remedy = "restore the artifact, or build the index with another one; until then it answers codes alone"
        yield Finding(Level.FAIL, check, f"its model does not load: {error}", remedy)
        return
    if fingerprint != manifest.fingerprint:
        found = f"made by another state of {manifest.artifact} at {manifest.bits} bits"
        yield Finding(Level.FAIL, check, found, "build the index again, or restore the artifact that made it")
    try:
        kind = device_kind(settings.device)
    except EncoderError:
        return  # reported with the device
    if kind != manifest.device_kind:
        found = f"made on {manifest.device_kind}, and models run on {kind} here: a few bits of the codes may differ"
        yield Finding(Level.WARN, check, found, "build it again on this device")


def _check_data(settings: Settings) -> Iterator[Finding]:
    for name in list_archives(settings.data_dir):
        try:
            archive = ItemArchive.open(find_archive(name, settings.data_dir))
            damaged = archive.first_damaged()
        except ModelError as error:
            yield Finding(Level.FAIL, f"data {name}", str(error), "import or build it again")
            continue
        if damaged is not None:
            yield Finding(Level.FAIL, f"data {name}", f"{damaged} is damaged", "import or build it again")
        else:
            yield Finding(Level.OK, f"data {name}", f"{len(archive.items):,} items; every file matches its checksum")
