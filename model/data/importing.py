"""``crossbit import``: from listed records to a data archive. Bad images are left out, and a split is made."""

import hashlib
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from model.data import folder, manifest
from model.data.archive import write_archive
from model.data.pictures import Picture, read_picture
from model.data.records import Record, Skipped, Source
from model.data.splits import MIN_ITEMS, SEED, Member, assign_splits, own_rule, seeded_order, split_hash
from model.errors import ArchiveError, ImageError
from model.image_files import find_inside
from model.items import ArchiveInfo, Item, shipped_archives
from model.names import check_name

CAPTIONS = "text"  # the one caption variant of own data
MAX_CLASSES = 10_000
REASONS = 3  # shown where nothing was left


@dataclass(frozen=True, slots=True)
class Imported:
    """What became of a source."""

    path: Path
    items: tuple[Item, ...]  # in item-id order
    class_names: tuple[str, ...]
    splits: Mapping[str, int]  # empty where the data set is too small for a split
    skipped: tuple[Skipped, ...]


@dataclass(frozen=True, slots=True)
class _Row:
    """A record that can be used, with its picture where it has one."""

    record: Record
    picture: Picture | None


def read_source(source: Path, images: Path | None = None) -> Source:
    """List an image folder, or a manifest whose image names are relative to ``images``.

    Raises:
        ArchiveError: it is neither, or cannot be understood.
    """
    if source.is_dir():
        if images is not None:
            raise ArchiveError("--images: expected with a manifest only; a folder holds its images itself")
        return folder.read_folder(source)
    if source.suffix.lower() not in manifest.SUFFIXES or not source.is_file():
        raise ArchiveError(
            f"expected a folder of images, or a manifest that ends in {' or '.join(manifest.SUFFIXES)}, found "
            f"{'another file' if source.is_file() else 'nothing'} at {source}"
        )
    if images is not None and not images.is_dir():
        raise ArchiveError(f"--images: expected a folder, found none at {images}")
    return manifest.read_manifest(source, images)


def import_source(
    source: Source, name: str, data_dir: Path, *, workers: int = 2, advance: Callable[[int], None] = lambda count: None
) -> Imported:
    """Write ``data_dir/<name>/archive.zip``, replacing an earlier import only once everything is on disk.

    Raises:
        ArchiveError: the name is no name or that of a shipped data set, or no usable item is left.
    """
    check_name("data set", name, ArchiveError)
    if name in shipped_archives():
        raise ArchiveError(f"the data set {name!r} ships with the package; choose another --name")
    data_dir.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(prefix=".import-", dir=data_dir) as scaled:
        rows, skipped = _read_rows(source, Path(scaled), workers, advance)
        if not rows:
            reasons = "; ".join(f"{one.where}: {one.reason}" for one in skipped[:REASONS])
            raise ArchiveError(f"{source.name}: none of {len(source.records):,} rows can be used ({reasons})")
        items = _items(rows)
        info = _describe(source, name, rows, items)
        files = {row.record.id: row.picture.stored for row in rows if row.picture is not None}
        path = data_dir / name / "archive.zip"
        write_archive(path, info, items, lambda item: files[item.id].read_bytes())
    splits = Counter(item.split for item in items) if info.split_seed is not None else {}
    ordered = tuple(sorted(items, key=lambda item: item.id))
    return Imported(path, ordered, info.class_names, splits, (*source.skipped, *skipped))


def _read_rows(
    source: Source, scaled: Path, workers: int, advance: Callable[[int], None]
) -> tuple[list[_Row], list[Skipped]]:
    """The records that can be used, in order, and those that cannot."""
    root = source.root.resolve()

    def read(numbered: tuple[int, Record]) -> _Row | Skipped:
        number, record = numbered
        if record.image is None and not record.texts:
            return Skipped(record.where, "it has neither an image nor a text")
        if record.image is None:
            return _Row(record, None)
        try:
            return _Row(record, read_picture(find_inside(root, record.image), scaled / f"{number}.webp"))
        except (ArchiveError, ImageError) as error:
            return Skipped(record.where, str(error))

    rows: list[_Row] = []
    skipped: list[Skipped] = []
    with ThreadPoolExecutor(workers, thread_name_prefix="import") as pool:
        for found in pool.map(read, enumerate(source.records)):
            if isinstance(found, Skipped):
                skipped.append(found)
            else:
                rows.append(found)
            advance(1)
    return rows, skipped


def _items(rows: Sequence[_Row]) -> list[Item]:
    """One item a row, in the same order."""
    groups, order = _groups(rows), seeded_order([row.record.id for row in rows], SEED)
    splits, places = _splits(rows, groups), {item_id: place for place, item_id in enumerate(order)}
    return [
        Item(
            id=row.record.id,
            image=_file_name(row),
            texts={CAPTIONS: row.record.texts} if row.record.texts else {},
            labels=tuple(sorted(row.record.labels)),
            group=groups[row.record.id],
            split=splits.get(row.record.id, ""),
            order=places[row.record.id],
            metadata=row.record.metadata,
        )
        for row in rows
    ]


def _file_name(row: _Row) -> str | None:
    # an id may hold what a file name cannot
    digest = hashlib.sha256(row.record.id.encode()).hexdigest()[:24]
    return None if row.picture is None else f"images/{digest}{row.picture.suffix}"


def _groups(rows: Sequence[_Row]) -> dict[str, str]:
    """The group of each item id: rows that share a group or an image file, however indirectly, are one group."""
    parent: dict[str, str] = {}

    def top(key: str) -> str:
        while (above := parent.setdefault(key, key)) != key:
            parent[key] = key = parent[above]
        return key

    for row in rows:
        shared = [f"group {row.record.group}"] if row.record.group else []
        shared += [] if row.picture is None else [f"image {row.picture.digest}"]
        for key in shared:
            first, second = sorted((top(f"id {row.record.id}"), top(key)))
            parent[second] = first
    return {row.record.id: top(f"id {row.record.id}") for row in rows}


def _splits(rows: Sequence[_Row], groups: Mapping[str, str]) -> dict[str, str]:
    """The split of each item id; none where there is too little to train on."""
    complete = {row.record.id for row in rows if row.record.texts and row.picture is not None}
    if len(complete) < MIN_ITEMS:
        return {}
    labelled = {row.record.id for row in rows if row.record.labels}
    may_query = complete & labelled if labelled else complete
    members = [Member(row.record.id, groups[row.record.id], row.record.id in may_query) for row in rows]
    return assign_splits(members, own_rule(members))


def _describe(source: Source, name: str, rows: Sequence[_Row], items: Sequence[Item]) -> ArchiveInfo:
    class_names = tuple(sorted({label for item in items for label in item.labels}))
    if len(class_names) > MAX_CLASSES:
        raise ArchiveError(
            f"expected at most {MAX_CLASSES:,} different labels, found {len(class_names):,}; labels are names of "
            "classes that items share"
        )
    split = {item.id: item.split for item in items if item.split}
    return ArchiveInfo(
        name=name,
        title=name,
        source=source.name,
        revision=_revision(rows),
        licence="not stated",
        captions=(CAPTIONS,),
        class_names=class_names,
        split_seed=SEED if split else None,
        split_hash=split_hash(split) if split else "",
        notes={"skipped": len(source.records) - len(rows)},
    )


def _revision(rows: Sequence[_Row]) -> str:
    """A digest over what the items are made from, so that a changed import is another revision."""
    digest = hashlib.sha256()
    for row in sorted(rows, key=lambda row: row.record.id):
        record, image = row.record, None if row.picture is None else row.picture.digest
        digest.update(repr((record.id, image, record.texts, record.labels, record.group)).encode())
    return digest.hexdigest()[:16]
