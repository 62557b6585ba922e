"""A published benchmark: from its passed-on files, or from the official downloads, to a data set with its own split."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from rich.progress import Progress

from model.data.archive import ArchiveWriter
from model.data.columns import Columns, Inside, name_columns
from model.data.dataset import DataSet
from model.data.layout import NO_TEXT, ImageFolder, Rows, find_images, find_layout, read_layout, write_layout
from model.data.records import id_of_file
from model.data.splits import PublishedRule, seeded_order, split_hash
from model.errors import ArchiveError
from model.items import ARCHIVE_FILES, ArchiveInfo, Item, ItemArchive

CAPTIONS = "text"


@dataclass(frozen=True, slots=True)
class Variant:
    """A selection of items that was published, known by their number."""

    published: str  # what it is, and by whom
    split: PublishedRule | None = None  # where it differs from the benchmark's


@dataclass(frozen=True, slots=True)
class Benchmark:
    """What is known of a benchmark, and how its official downloads become rows."""

    name: str
    title: str
    source: str
    licence: str
    layout: str  # usual name of its folder in hashing code
    orders: Mapping[str, tuple[str, ...]]  # known column orders -> class names
    inside: Sequence[Inside]
    variants: Mapping[int, Variant]  # by number of items
    split: PublishedRule
    caption_lines: bool  # captions are passed on as lines of a text file
    from_downloads: Callable[[Path, Progress], Rows]

    def data_set(self) -> DataSet:
        """For the registry."""
        return DataSet(self.name, self.build, self.expected_counts)

    def build(self, folder: Path, *, source: Path | None, images: Path | None, progress: Progress) -> Path:
        """Write the archive; from official downloads, the three files are written beside it first.

        Raises:
            ArchiveError: a file is missing or wrong; the message names it, the row, and what was expected.
        """
        if source is None or not source.is_dir():
            raise ArchiveError(
                f"{self.name}: expected --from FOLDER with the index, caption and label files or the official "
                f"downloads, found {'nothing' if source is None else source}; it cannot be downloaded from here"
            )
        layout = find_layout(source) or find_layout(source / self.layout)
        if layout is None:
            layout = folder
            converted = self.from_downloads(source, progress)
            write_layout(layout, converted, caption_lines=self.caption_lines, progress=progress)
        rows = read_layout(layout, progress)
        columns = name_columns(rows.labels, stated=rows.class_names, orders=self.orders, inside=self.inside)
        splits = self.rule(len(rows.paths)).assign(len(rows.paths))
        pictures = ImageFolder((images or source).resolve())
        names = find_images(pictures, rows)
        path = folder / ARCHIVE_FILES[0]
        with ArchiveWriter(path, image_root=pictures.root) as writer:
            items = self._items(rows, columns, names, splits)
            for item in progress.track(items, total=len(names), description="writing items"):
                writer.add(item)
            writer.finish(self._describe(rows, columns, names, splits))
        return path

    def expected_counts(self, archive: ItemArchive) -> Mapping[str, int]:
        """Items of each split, by the published rule; nothing of own data that merely has this name."""
        if archive.info.source != self.source:
            return {}
        rule = self.rule(len(archive.items))
        held = {"query": rule.query, "train": rule.train, "validation": rule.validation}
        return {**held, "unseen": len(archive.items) - sum(held.values())}

    def rule(self, items: int) -> PublishedRule:
        """The split of the variant with this number of items."""
        variant = self.variants.get(items)
        return self.split if variant is None or variant.split is None else variant.split

    def _items(self, rows: Rows, columns: Columns, names: Sequence[str], splits: Sequence[str]) -> Iterator[Item]:
        ids = _ids(names)
        place = {item_id: position for position, item_id in enumerate(seeded_order(ids, self.split.seed))}
        for row, (item_id, name, texts, labels, split) in enumerate(
            zip(ids, names, rows.captions, rows.labels, splits, strict=True)
        ):
            yield Item(
                id=item_id,
                image=name,
                texts={CAPTIONS: texts or (NO_TEXT,)},
                labels=tuple(columns.names[column] for column in labels.nonzero()[0]),
                group=item_id,
                split=split,
                order=place[item_id],
                metadata={"file": rows.paths[row], "row": row},
            )

    def _describe(self, rows: Rows, columns: Columns, names: Sequence[str], splits: Sequence[str]) -> ArchiveInfo:
        variant = f"{len(names):,} items, {len(columns.names)} labels"
        published = self.variants.get(len(names), Variant("no published selection")).published
        empty = sum(texts in ((), (NO_TEXT,)) for texts in rows.captions)
        doubts = list(columns.doubts)
        unlabelled = int((~rows.labels.any(axis=1)).sum())
        if unlabelled:
            doubts.append(
                f"expected a label of every item, found {unlabelled:,} items without any: nothing retrieves them"
            )
        if len(names) not in self.variants:
            known = " or ".join(f"{count:,}" for count in self.variants)
            doubts.append(f"expected {known} items, found {len(names):,}: figures compare with no published ones")
        return ArchiveInfo(
            name=self.name,
            title=f"{self.title}, {variant} ({published})",
            source=self.source,
            revision=f"{variant}, {rows.digest()[:12]}",
            licence=self.licence,
            captions=(CAPTIONS,),
            class_names=columns.names,
            split_seed=self.split.seed,
            split_hash=split_hash(dict(zip(_ids(names), splits, strict=True))),
            notes={
                "variant": f"{variant} ({published})",
                "column_order": columns.order,
                "empty_texts": empty,
                "doubts": doubts,
            },
            database=PublishedRule.database,
        )


def _ids(names: Sequence[str]) -> list[str]:
    """File names without their folders, which differ from copy to copy."""
    return [id_of_file(name.rpartition("/")[2]) for name in names]
