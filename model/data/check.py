"""Whether a data archive keeps what its description promises."""

from collections import Counter
from collections.abc import Iterator, Mapping

from rich.progress import Progress

from model.data.splits import split_hash
from model.errors import ArchiveError, ImageError
from model.images import decode_image
from model.items import SPLITS, Item, ItemArchive


def check_archive(archive: ItemArchive, *, progress: Progress | None = None) -> Iterator[str]:
    """Every broken promise, one sentence each: captions, labels, splits, groups and undecodable images."""
    yield from _check_split(archive)
    tracker = progress or Progress(disable=True)
    for item in tracker.track(archive.items, description="checking"):
        yield from _check_item(archive, item)


def check_counts(archive: ItemArchive, expected: Mapping[str, int]) -> Iterator[str]:
    """Where the counts differ from the expected ones; names are ``items``, splits and labels."""
    labels = Counter(label for item in archive.items for label in item.labels)
    splits = Counter(item.split for item in archive.items)
    found = Counter({**labels, **splits, "items": len(archive.items)})  # splits win: COCO has a class "train"
    for name in sorted(expected):
        if found[name] != expected[name]:
            yield f"expected {expected[name]:,} of {name}, found {found[name]:,}"


def _check_split(archive: ItemArchive) -> Iterator[str]:
    if archive.info.split_seed is None:
        return
    found = split_hash({item.id: item.split for item in archive.items})
    if found != archive.info.split_hash:
        yield f"expected split hash {archive.info.split_hash}, found {found}"
    splits: dict[str, set[str]] = {}
    for item in archive.items:
        splits.setdefault(item.group, set()).add(item.split)
    for group, names in sorted(splits.items()):
        if len(names) > 1:
            yield f"group {group!r} is cut apart by the splits {', '.join(sorted(names))}"
    if sorted(item.order for item in archive.items) != list(range(len(archive.items))):
        yield "expected the order of the items to number them from 0 without gaps or repeats"


def _check_item(archive: ItemArchive, item: Item) -> Iterator[str]:
    if archive.info.split_seed is not None and item.split not in SPLITS:
        yield f"item {item.id}: expected a split of {', '.join(SPLITS)}, found {item.split!r}"
    if item.split in ("query", "validation") and archive.info.class_names and not item.labels:
        yield f"item {item.id}: expected labels in the {item.split} split, found none"
    for label in item.labels:
        if label not in archive.info.class_names:
            yield f"item {item.id}: label {label!r} is not a class name"
    if item.image is None and not item.texts:
        yield f"item {item.id}: expected an image or a text, found neither"
    for caption in archive.info.captions:
        if item.texts and not any(item.texts.get(caption, ())):
            yield f"item {item.id}: expected a text in the caption variant {caption}, found none"
    if item.image is not None:
        try:
            decode_image(archive.read_image(item))
        except (ArchiveError, ImageError) as error:
            yield f"item {item.id}: {error}"
