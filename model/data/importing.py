"""``crossbit import``: the rows of a source, one at a time, into a data archive with a split by groups."""

import hashlib
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from model.data import folder, manifest, shards
from model.data.archive import ArchiveWriter
from model.data.duplicates import Signatures
from model.data.ledger import GROUP, Ledger, seeded_ranks
from model.data.pictures import Picture, make_picture
from model.data.records import Record, Skipped, Source
from model.data.splits import MIN_ITEMS, SEED, ordered_split_hash, own_rule, split_groups
from model.errors import ArchiveError, ImageError
from model.image_files import image_folder, is_address
from model.items import ArchiveInfo, Item, shipped_archives
from model.names import check_name

CAPTIONS = "text"  # the one caption variant of own data
MAX_CLASSES = 10_000
MAX_SKIPPED = 1_000  # that are listed; all are counted
REASONS = 3  # shown where nothing was left
PROBED = 100  # images that are looked for where none is read
_AHEAD = 64  # rows that are read ahead of the one that is written
T = TypeVar("T")
Show = Callable[[str, int | None], AbstractContextManager[Callable[[int], None]]]  # stage, rows -> counts them


@contextmanager
def _silent(stage: str, rows: int | None) -> Iterator[Callable[[int], None]]:
    yield lambda count: None


@dataclass(frozen=True, slots=True)
class Choices:
    """How a source is imported."""

    link: bool = False  # leave the images where they are, unread
    group_duplicates: bool = False  # near-duplicates are one group, so every image is read
    workers: int = 2


@dataclass(slots=True)
class Imported:
    """What became of a source."""

    path: Path
    items: int = 0
    images: int = 0
    texts: int = 0
    class_names: tuple[str, ...] = ()
    splits: Mapping[str, int] = field(default_factory=dict)  # empty where the data set is too small for a split
    left_out: int = 0
    skipped: list[Skipped] = field(default_factory=list)  # the first of what was left out


def read_source(source: Path, images: Path | str | None = None) -> Source:
    """An image folder, WebDataset shards, or a manifest whose image names are relative to ``images``.

    ``images`` is a folder, or an address such as ``s3://BUCKET/PREFIX``.

    Raises:
        ArchiveError: it is none of them, or cannot be understood.
    """
    if found := shards.find_shards(source):
        if images is not None:
            raise ArchiveError("--images: expected with a manifest only; shards hold their images themselves")
        return shards.read_shards(source, found)
    if source.is_dir():
        if images is not None:
            raise ArchiveError("--images: expected with a manifest only; a folder holds its images itself")
        return folder.read_folder(source)
    if source.suffix.lower() not in manifest.SUFFIXES or not source.is_file():
        raise ArchiveError(
            f"expected a folder of images, .tar shards, or a manifest that ends in {', '.join(manifest.SUFFIXES)}, "
            f"found {'another file' if source.is_file() else 'nothing'} at {source}"
        )
    if images is None or is_address(images):
        return manifest.read_manifest(source, images)
    if not Path(images).is_dir():
        raise ArchiveError(f"--images: expected a folder, or s3://BUCKET/PREFIX, found none at {images}")
    return manifest.read_manifest(source, Path(images))


def check_rows(source: Source, advance: Callable[[int], None] = lambda count: None) -> int:
    """List every row without looking at images, so that what is wrong is told before hours of decoding; their number.

    Raises:
        ArchiveError: a row cannot be understood, two have one id, or only some have a split.
    """
    rows = 0
    first: Record | None = None
    with Ledger() as ledger:
        for row in source.rows():
            rows += 1
            advance(1)
            if isinstance(row, Skipped):
                continue
            ledger.add(row.id, row.where)
            first = first or row
            if bool(row.split) != bool(first.split):
                raise ArchiveError(
                    f"{row.where}, split: expected one on every row or on none, found {row.split or 'none'!r} here and "
                    f"{first.split or 'none'!r} in {first.where}"
                )
    return rows


def import_source(
    source: Source,
    name: str,
    data_dir: Path,
    choices: Choices = Choices(),
    *,
    show: Show = _silent,
) -> Imported:
    """Write ``data_dir/<name>/archive.sqlite``, replacing an earlier import only once everything is on disk.

    All rows are checked before the first image is read. ``show`` is told of each stage and how many rows it has.

    Raises:
        ArchiveError: the name is no name or that of a shipped data set, a row is wrong, or no usable item is left.
    """
    check_name("data set", name, ArchiveError)
    if name in shipped_archives():
        raise ArchiveError(f"the data set {name!r} ships with the package; choose another --name")
    if choices.link and not source.stays:
        raise ArchiveError("--link: expected images in files of their own, found shards; import them without it")
    path = data_dir / name / "archive.sqlite"
    with show("listing", None) as advance:
        rows = check_rows(source, advance)
    data_dir.mkdir(parents=True, exist_ok=True)
    with ArchiveWriter(path, source.root if choices.link else None) as writer, Ledger() as ledger:
        importing = _Import(source, choices, writer, ledger, Imported(path))
        with show("importing", rows) as advance:
            importing.add_rows(advance)
        with show("splitting", importing.imported.items) as advance:
            info = importing.conclude(name, advance)
        with show("writing", importing.imported.items) as advance:
            writer.finish(info, advance)
    path.with_name("archive.zip").unlink(missing_ok=True)  # of an earlier version's import
    return importing.imported


class _Import:
    """One import under way."""

    def __init__(
        self, source: Source, choices: Choices, writer: ArchiveWriter, ledger: Ledger, imported: Imported
    ) -> None:
        self.imported = imported
        self._source, self._choices, self._writer, self._ledger = source, choices, writer, ledger
        self._images = image_folder(source.root)
        self._labels: set[str] = set()
        self._labelled, self._complete = bytearray(), bytearray()  # by number of the row
        self._signatures = Signatures()
        self._contents = 0  # sum of digests: the same for the same rows in any order
        self._given = False

    def add_rows(self, advance: Callable[[int], None]) -> None:
        """Write every row that can be used."""
        for record, picture in self._read(advance):
            self._add(record, picture)
        if not self.imported.items:
            reasons = "; ".join(f"{one.where}: {one.reason}" for one in self.imported.skipped[:REASONS])
            raise ArchiveError(f"{self._source.name}: none of {self.imported.left_out:,} rows can be used ({reasons})")

    def conclude(self, name: str, advance: Callable[[int], None]) -> ArchiveInfo:
        """Groups, splits and order of all items; the archive's description."""
        order = self._ledger.id_order()
        rank = np.empty_like(order)
        rank[order] = np.arange(len(order))
        near = list(self._signatures.near()) if self._choices.group_duplicates and not self._given else []
        roots = self._ledger.roots(rank, near)
        splits = self._splits(order, roots, rank)
        places = seeded_ranks(self._ledger.ids(), SEED)
        groups = self._ledger.group_names(roots, rank)
        assigned = zip(self._ledger.ids(), groups, splits, places.tolist(), strict=True)
        self._writer.assign(_counted(assigned, advance))
        split = any(splits)
        self.imported.splits = dict(sorted(Counter(splits).items())) if split else {}
        self.imported.class_names = tuple(sorted(self._labels))
        notes = {"skipped": self.imported.left_out, **({"split": "as given"} if self._given else {})}
        return ArchiveInfo(
            name=name,
            title=name,
            source=self._source.name,
            revision=f"{self._contents % 2**256:064x}"[:16],
            licence="not stated",
            captions=(CAPTIONS,),
            class_names=self.imported.class_names,
            split_seed=SEED if split else None,
            split_hash=ordered_split_hash(zip(self._ledger.ids(), splits, strict=True)) if split else "",
            notes=notes,
        )

    def _read(self, advance: Callable[[int], None]) -> Iterator[tuple[Record, Picture | None]]:
        """Usable rows in order, a few read ahead in threads."""
        probed: list[str] = []
        with ThreadPoolExecutor(self._choices.workers, thread_name_prefix="import") as pool:
            for row, found in _ahead(map(self._start(pool), self._source.rows())):
                advance(1)
                if isinstance(found, Skipped):
                    self._skip(found)
                elif isinstance(row, Record):
                    self._probe(row, probed)
                    yield row, found

    def _start(
        self, pool: ThreadPoolExecutor
    ) -> Callable[[Record | Skipped], tuple[Record | Skipped, "Future[Picture | Skipped | None]"]]:
        reads = not self._choices.link or self._choices.group_duplicates

        def start(row: Record | Skipped) -> tuple[Record | Skipped, "Future[Picture | Skipped | None]"]:
            done: Future[Picture | Skipped | None] = Future()
            if isinstance(row, Skipped):
                done.set_result(row)
            elif row.image is None and not row.texts:
                done.set_result(Skipped(row.where, "it has neither an image nor a text"))
            elif row.image is None or not reads:
                done.set_result(None)
            elif row.read_image is not None:  # a shard is read by one thread, and only as far as this row
                return row, pool.submit(_decode, row.where, row.read_image())
            else:
                return row, pool.submit(self._open, row.where, row.image)
            return row, done

        return start

    def _open(self, where: str, name: str) -> Picture | Skipped:
        try:
            return _decode(where, self._images.read(name))
        except ArchiveError as error:
            return Skipped(where, str(error))

    def _skip(self, one: Skipped) -> None:
        self.imported.left_out += 1
        if len(self.imported.skipped) < MAX_SKIPPED:
            self.imported.skipped.append(one)

    def _probe(self, row: Record, probed: list[str]) -> None:
        """Where images are not read, look for a few: a wrong root is found at once."""
        if not self._choices.link or row.image is None or len(probed) >= PROBED:
            return
        try:
            self._images.check(row.image)
            probed += [""] * PROBED
        except ArchiveError as error:
            probed.append(str(error))
            if len(probed) == PROBED:
                raise ArchiveError(
                    f"{row.where}: expected images below {self._images}, found none of the first {PROBED} ({error}); "
                    "name their folder with --images"
                ) from error

    def _add(self, record: Record, picture: Picture | None) -> None:
        shared = [f"{GROUP}{record.group}"] if record.group else []
        digest = None if picture is None else picture.digest
        if digest is not None and not record.split:  # a split that came with the data is left as it is
            shared.append(f"image {digest}")
        number = self._ledger.add(record.id, record.where, record.split, shared)
        if picture is not None and self._choices.group_duplicates:
            self._signatures.add(number, picture.signature)
        self._labelled.append(bool(record.labels))
        self._complete.append(bool(record.texts and record.image is not None))
        self._given = bool(record.split)
        self._labels.update(record.labels)
        self._count(record, digest)
        linked = self._choices.link
        image = record.image if linked else _file_name(record.id, picture)
        self._writer.add(_item(record, image), None if linked or picture is None else picture.stored)

    def _count(self, record: Record, digest: str | None) -> None:
        if len(self._labels) > MAX_CLASSES:
            raise ArchiveError(
                f"expected at most {MAX_CLASSES:,} different labels, found {len(self._labels):,} by {record.where}; "
                "labels are names of classes that items share"
            )
        content = repr((record.id, digest or record.image, record.texts, record.labels, record.group, record.split))
        self._contents += int.from_bytes(hashlib.sha256(content.encode()).digest(), "big")
        self.imported.items += 1
        self.imported.images += record.image is not None
        self.imported.texts += len(record.texts)

    def _splits(self, order: NDArray[np.int64], roots: NDArray[np.int64], rank: NDArray[np.int64]) -> list[str]:
        """The split of each item in id order; empty where there is too little to train on."""
        if self._given:
            if cut := self._ledger.cut_group():
                raise ArchiveError(
                    "split: expected each group in one split, found the group {!r} in {} and {}".format(*cut)
                )
            return [split for _, split in self._ledger.given()]
        complete = np.frombuffer(self._complete, dtype=np.bool_)[order]
        if complete.sum() < MIN_ITEMS:
            return [""] * len(order)
        labelled = np.frombuffer(self._labelled, dtype=np.bool_)[order]
        may_query = complete & labelled if labelled.any() else complete
        heads, group, sizes = np.unique(roots, return_inverse=True, return_counts=True)
        whole = np.bincount(group, weights=may_query, minlength=len(heads)) == sizes
        is_head = np.zeros(len(order), dtype=np.bool_)
        is_head[heads] = True
        names = (name for name, head in zip(self._ledger.group_names(roots, rank), is_head, strict=True) if head)
        places = seeded_ranks(names, SEED)  # of the groups, which are numbered by their heads
        seeded = np.argsort(places)
        rule = own_rule(len(order), int(may_query.sum()))
        found = split_groups(sizes[seeded].tolist(), whole[seeded].tolist(), rule)
        return [found[place] for place in places[group].tolist()]


def _counted(rows: Iterable[T], advance: Callable[[int], None]) -> Iterator[T]:
    for row in rows:
        advance(1)
        yield row


def _ahead(
    started: Iterable[tuple[Record | Skipped, "Future[Picture | Skipped | None]"]],
) -> Iterator[tuple[Record | Skipped, Picture | Skipped | None]]:
    waiting: deque[tuple[Record | Skipped, Future[Picture | Skipped | None]]] = deque()
    for pair in started:
        waiting.append(pair)
        if len(waiting) > _AHEAD:
            row, future = waiting.popleft()
            yield row, future.result()
    for row, future in waiting:
        yield row, future.result()


def _decode(where: str, data: bytes) -> Picture | Skipped:
    try:
        return make_picture(data)
    except ImageError as error:
        return Skipped(where, str(error))


def _item(record: Record, image: str | None) -> Item:
    """The item before groups, splits and order are known."""
    texts = {CAPTIONS: record.texts} if record.texts else {}
    return Item(record.id, image, texts, tuple(sorted(record.labels)), "", "", 0, record.metadata)


def _file_name(item_id: str, picture: Picture | None) -> str | None:
    # an id may hold what a file name cannot
    digest = hashlib.sha256(item_id.encode()).hexdigest()[:24]
    return None if picture is None else f"images/{digest}{picture.suffix}"
