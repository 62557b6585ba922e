"""One method, seed and code length of a comparison: measured once, stored, and read again by later comparisons."""

import json
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from model.artifact import load_hashers
from model.durable import replacing
from model.evaluation.codes import CodeSet, Protocol, encode_lengths, evaluated_items
from model.evaluation.figures import Figures
from model.evaluation.label_only import fit_label_coder
from model.evaluation.results import Result, evaluate_codes
from model.hasher import Hasher, Modality
from model.images import decode_image
from model.items import Item, ItemArchive, caption, multi_hot
from model.manifest import read_manifest

TIMED = 32  # items whose encoding is timed
Advance = Callable[[int], None]


@dataclass(frozen=True, slots=True)
class Score:
    """Expected mAP@all of one direction."""

    protocol: str
    direction: str
    whole: float
    unseen: float | None  # None where the data set does not say what is unseen
    average_precision: list[float | None]  # of each query over the whole database; None without a relevant item
    unseen_average_precision: list[float | None] | None  # over the unseen database; None where there is none


@dataclass(frozen=True, slots=True)
class Outcome:
    """What one trained method reaches at one length."""

    bits: int
    seed: int
    train_s: float  # from cached features
    encode_per_s: float  # images and texts of so many items, towers included, nothing cached
    scores: list[Score]

    def write(self, path: Path) -> None:
        """Store it; a reader sees all of it or nothing."""
        with replacing(path) as temporary:
            temporary.write_text(json.dumps(asdict(self), sort_keys=True) + "\n", encoding="utf-8")


def read_outcome(path: Path) -> Outcome | None:
    """A stored outcome; None where there is none, or one of another version."""
    try:
        raw = json.loads(path.read_text(encoding="utf-8"))
        return Outcome(**{**raw, "scores": [Score(**score) for score in raw["scores"]]})
    except (OSError, ValueError, TypeError, KeyError):
        return None


def measure(
    artifact: Path,
    archive: ItemArchive,
    lengths: Sequence[int],
    seed: int,
    captions: str,
    *,
    device: str,
    cache: Path,
    advance: Advance,
) -> list[Outcome]:
    """Encode query and database items through the artifact's ``Hasher`` of each length, and score them.

    Encoding is timed at the last length: before the heads all do the same.
    """
    sets = encode_lengths(load_hashers(artifact, lengths, device, cache), archive, captions=captions, advance=advance)
    (uncached,) = load_hashers(artifact, lengths[-1:], device)
    rate = encode_rate(uncached, archive, archive.select(("query",))[:TIMED], captions)
    train_s = read_manifest(artifact).training["seconds"]
    return [Outcome(codes.bits, seed, train_s, rate, _lone_and_paired(codes)) for codes in sets]


def measure_label_only(archive: ItemArchive, bits: int, seed: int, captions: str) -> Outcome:
    """The control: codes from the labels of the same items, learned from the labels of the training rows.

    Raises:
        ArchiveError: the data set cannot be evaluated on.
    """
    queries, database = evaluated_items(archive, captions)
    query_labels, database_labels = (
        multi_hot(items, archive.info.class_names).astype(np.bool_) for items in (queries, database)
    )
    unseen = np.array([item.split != "train" for item in database])
    started = time.perf_counter()
    coder = fit_label_coder(database_labels[~unseen], bits, seed)
    train_s = time.perf_counter() - started
    started = time.perf_counter()
    query_codes, database_codes = coder.encode(query_labels), coder.encode(database_labels)
    rate = (len(queries) + len(database)) / (time.perf_counter() - started)
    both = (Modality.IMAGE, Modality.TEXT)
    codes = CodeSet(
        bits=bits,
        protocol=Protocol.ORACLE,
        captions=captions,
        queries=dict.fromkeys(both, query_codes),
        database=dict.fromkeys(both, database_codes),
        query_labels=query_labels,
        database_labels=database_labels,
        unseen=unseen,
        order=np.array([item.order for item in database], dtype=np.int64),
        query_ids=tuple(item.id for item in queries),
        database_ids=tuple(item.id for item in database),
        query_margins={},
        database_margins={},
    )
    return Outcome(bits, seed, train_s, rate, _scores([evaluate_codes(codes)]))


def encode_rate(hasher: Hasher, archive: ItemArchive, items: Sequence[Item], captions: str) -> float:
    """Items per second, image and text of each; decoding is not counted."""
    images = [decode_image(archive.read_image(item)) for item in items]
    texts = [caption(item, captions) for item in items]
    hasher.encode_images(images[:1])  # the first call also loads
    started = time.perf_counter()
    hasher.encode_images(images)
    hasher.encode_texts(texts)
    return len(items) / (time.perf_counter() - started)


def _lone_and_paired(codes: CodeSet) -> list[Score]:
    results = [evaluate_codes(codes)]
    if Modality.PAIR in codes.database:
        results.append(evaluate_codes(codes.paired()))
    return _scores(results)


def _scores(results: Sequence[Result]) -> list[Score]:
    return [
        Score(
            protocol=result.protocol,
            direction=direction,
            whole=whole.map_all.expected,
            unseen=unseen.map_all.expected if unseen else None,
            average_precision=_listed(whole.average_precision),
            unseen_average_precision=_listed(unseen.average_precision) if unseen else None,
        )
        for result in results
        for direction, whole, unseen in _sides(result)
    ]


def _sides(result: Result) -> list[tuple[str, Figures, Figures | None]]:
    return [(direction, whole, result.unseen.get(direction)) for direction, whole in result.whole.items()]


def _listed(values: NDArray[np.float64]) -> list[float | None]:
    return [None if np.isnan(value) else round(float(value), 6) for value in values]
