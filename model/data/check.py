"""Whether a data archive keeps what its description promises, and what about it would spoil a training or its figures.

One pass over the items, a few hundred at a time; pictures are decoded in threads.
"""

import hashlib
from bisect import bisect_right
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from rich.progress import Progress

from encoders.chunks import MAX_CHUNKS
from encoders.wordpieces import CONTEXT, load_tokenizer
from model.data.duplicates import Signature, Signatures, signature
from model.data.report import LENGTH_EDGES, TWINS, Lengths, Level, Report, Twin
from model.errors import ArchiveError, ImageError
from model.images import decode_image
from model.items import SPLITS, Item, ItemArchive

CHUNK = 256  # items looked at together
_ROOM = CONTEXT - 2  # word pieces of a chunk, without its start and end


@dataclass(frozen=True, slots=True)
class _Look:
    """What one item's picture is."""

    problem: str = ""
    digest: bytes = b""
    signature: Signature | None = None


def check_archive(archive: ItemArchive, *, workers: int = 2, progress: Progress | None = None) -> Report:
    """Everything that is wrong: ids, splits, groups, labels, texts, pictures, and what crosses the split."""
    check = _Check(archive)
    tracker = progress or Progress(disable=True)
    task = tracker.add_task("checking", total=len(archive.items))
    with ThreadPoolExecutor(workers, thread_name_prefix="check") as pool:
        for start in range(0, len(archive.items), CHUNK):
            items = list(archive.items[start : start + CHUNK])
            check.add(items, list(pool.map(check.look, items)))
            tracker.advance(task, len(items))
    return check.conclude()


def check_counts(archive: ItemArchive, expected: Mapping[str, int]) -> Iterator[str]:
    """Where the counts differ from the expected ones; names are ``items``, splits and labels."""
    labels = Counter(label for item in archive.items for label in item.labels)
    splits = Counter(item.split for item in archive.items)
    found = Counter({**labels, **splits, "items": len(archive.items)})  # splits win: COCO has a class "train"
    for name in sorted(expected):
        if found[name] != expected[name]:
            yield f"expected {expected[name]:,} of {name}, found {found[name]:,}"


class _Check:
    """The state of one pass."""

    def __init__(self, archive: ItemArchive) -> None:
        info = archive.info
        self._archive = archive
        self._report = Report(info.name, classes=dict.fromkeys(info.class_names, 0))
        self._report.lengths = {variant: Lengths(_ROOM, _ROOM * MAX_CHUNKS) for variant in info.captions}
        self._tokenizer = load_tokenizer()
        self._has_split = info.split_seed is not None
        self._splits = hashlib.sha256()
        self._side = bytearray()  # place of each item's split in ``_names``
        self._names: list[str] = []
        self._groups: dict[str, int] = {}
        self._placed = bytearray(len(archive.items))  # by order: taken
        self._first: dict[bytes, int] = {}  # digest of a picture -> first item that has it
        self._signatures = Signatures()
        self._last = ""

    def look(self, item: Item) -> _Look:
        """Read and decode the item's picture."""
        if item.image is None:
            return _Look()
        try:
            data = self._archive.read_image(item)
            return _Look("", hashlib.sha256(data).digest()[:16], signature(decode_image(data)))
        except (ArchiveError, ImageError) as error:
            return _Look(f"item {item.id}: {error}")

    def add(self, items: Sequence[Item], looks: Sequence[_Look]) -> None:
        """Check the next items in id order."""
        for item, look in zip(items, looks, strict=True):
            number = self._report.items
            self._report.items += 1
            self._add_place(item)
            self._add_labels(item)
            self._add_texts(item)
            self._add_picture(number, item, look)
        self._add_lengths(items)

    def conclude(self) -> Report:
        """What only the whole set shows."""
        report = self._report
        if self._has_split:
            report.splits = dict(sorted(Counter(self._names[side] for side in self._side).items()))
            if self._splits.hexdigest() != (wanted := self._archive.info.split_hash):
                found = self._splits.hexdigest()
                report.add(Level.ERROR, "split hash", f"expected split hash {wanted}, found {found}")
            if not all(self._placed):
                sentence = "expected the order of the items to number them from 0 without gaps or repeats"
                report.add(Level.ERROR, "order", sentence)
            for one, other in sorted({(min(pair), max(pair)) for pair in self._signatures.near()}):
                self._cross(one, other, equal=False)
        for name, count in report.classes.items():
            if count in (0, report.items) and report.items:
                who = "no item" if count == 0 else "every item"
                report.add(Level.WARNING, "label column of no use", f"{who} has the label {name!r}")
        for variant, lengths in report.lengths.items():
            if lengths.cut:
                sentence = f"{variant}: {lengths.cut:,} of {lengths.pieces:,} word pieces lie beyond {lengths.read:,}"
                report.add(Level.WARNING, "texts too long to be read whole", sentence)
        report.findings.sort(key=lambda finding: (finding.level, finding.kind))
        return report

    def _add_place(self, item: Item) -> None:
        report = self._report
        if item.id <= self._last and report.items > 1:
            report.add(Level.ERROR, "repeated ids", f"item {item.id}: expected ids in ascending order without repeats")
        self._last = item.id
        if item.split not in self._names:
            self._names.append(item.split)
        side = self._names.index(item.split)
        self._side.append(min(side, 255))
        if not self._has_split:
            return
        self._splits.update(f"{item.id} {item.split}\n".encode())
        if item.split not in SPLITS:
            sentence = f"item {item.id}: expected a split of {', '.join(SPLITS)}, found {item.split!r}"
            report.add(Level.ERROR, "unknown splits", sentence)
        if 0 <= item.order < len(self._placed):
            self._placed[item.order] = True
        if (first := self._groups.setdefault(item.group, side)) != side:
            cut = ", ".join(sorted((self._names[first], item.split)))
            report.add(Level.ERROR, "groups cut apart", f"group {item.group!r} is cut apart by the splits {cut}")

    def _add_labels(self, item: Item) -> None:
        report = self._report
        if item.split in ("query", "validation") and report.classes and not item.labels:
            sentence = f"item {item.id}: expected labels in the {item.split} split, found none"
            report.add(Level.ERROR, "queries without labels", sentence)
        for label in item.labels:
            if label in report.classes:
                report.classes[label] += 1
            else:
                report.add(Level.ERROR, "unknown labels", f"item {item.id}: label {label!r} is not a class name")

    def _add_texts(self, item: Item) -> None:
        report = self._report
        report.with_text += any(any(texts) for texts in item.texts.values())
        if item.image is None and not item.texts:
            sentence = f"item {item.id}: expected an image or a text, found neither"
            report.add(Level.ERROR, "empty items", sentence)
        for caption in self._archive.info.captions:
            if item.texts and not any(one.strip() for one in item.texts.get(caption, ())):
                sentence = f"item {item.id}: expected a text in the caption variant {caption}, found none"
                report.add(Level.ERROR, "empty texts", sentence)

    def _add_picture(self, number: int, item: Item, look: _Look) -> None:
        self._report.images += item.image is not None
        if look.problem:
            self._report.add(Level.ERROR, "missing or undecodable images", look.problem)
        if look.signature is None:
            return
        first = self._first.setdefault(look.digest, number)
        if first != number:
            self._cross(first, number, equal=True)
        else:
            self._signatures.add(number, look.signature)

    def _cross(self, one: int, other: int, *, equal: bool) -> None:
        """Report two items with such pictures, if they are on two sides of the split."""
        splits = self._names[self._side[one]], self._names[self._side[other]]
        if not self._has_split or splits[0] == splits[1]:
            return
        first, second = self._archive.items[one].id, self._archive.items[other].id
        if len(self._report.twins) < TWINS:
            self._report.twins.append(Twin(first, splits[0], second, splits[1], equal))
        sentence = f"items {first} ({splits[0]}) and {second} ({splits[1]})"
        if equal:
            self._report.add(Level.ERROR, "equal images across splits", f"{sentence} have the same image file")
        else:
            self._report.add(Level.WARNING, "look-alikes across splits", f"{sentence} look alike")

    def _add_lengths(self, items: Sequence[Item]) -> None:
        for variant, lengths in self._report.lengths.items():
            texts = [text for item in items for text in item.texts.get(variant, ())]
            for encoding in self._tokenizer.encode_batch_fast(texts, add_special_tokens=False):
                pieces = len(encoding.ids)
                lengths.texts += 1
                lengths.pieces += pieces
                lengths.longest = max(lengths.longest, pieces)
                lengths.beyond_head += pieces > lengths.context
                lengths.cut_by_head += max(0, pieces - lengths.context)
                lengths.cut += max(0, pieces - lengths.read)
                lengths.histogram[max(0, bisect_right(LENGTH_EDGES, pieces) - 1)] += 1
