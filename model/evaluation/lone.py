"""The ``lone`` protocol: every code is made from one modality of one item, by the ``Hasher`` that serving uses.

Query codes of one modality rank database codes of the other. Relevance is at least one shared label; labels are read
here and by no encoder. Each figure is given over the whole database and over the part that was not trained on.
"""

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from model.errors import ArchiveError
from model.evaluation.metrics import distance_histograms, expected_average_precision
from model.hasher import Hasher, Modality
from model.images import decode_image
from model.items import Item, ItemArchive, caption, multi_hot, pairs

DIRECTIONS = {"image_to_text": (Modality.IMAGE, Modality.TEXT), "text_to_image": (Modality.TEXT, Modality.IMAGE)}
SHARD = 64  # items encoded by one call


@dataclass(frozen=True, slots=True)
class Figures:
    """Retrieval of all queries in one direction against one database."""

    map_expected: float  # tie-aware mAP@all
    chance: float  # mean share of relevant items: what random codes reach
    queries: int  # that have at least one relevant item
    left_out: int  # queries without one
    database: int


@dataclass(frozen=True, slots=True)
class LoneResult:
    """Both directions against the whole and the unseen database."""

    bits: int
    captions: str
    whole: dict[str, Figures]  # direction -> figures
    unseen: dict[str, Figures]

    @property
    def mean(self) -> tuple[float, float]:
        """mAP, mean of both directions: (whole database, unseen database)."""
        whole, unseen = (
            float(np.mean([figures.map_expected for figures in side.values()])) for side in (self.whole, self.unseen)
        )
        return whole, unseen


def evaluate_lone(
    hasher: Hasher,
    archive: ItemArchive,
    *,
    captions: str | None = None,
    workers: int = 2,
    advance: Callable[[int], None] = lambda items: None,
) -> LoneResult:
    """Encode query and database items, then score both directions; ``captions`` defaults to the headline variant.

    Raises:
        ArchiveError: the data set has no query split or no labels.
    """
    captions = captions or archive.info.captions[0]
    queries, database = evaluated_items(archive, captions)
    codes = _encode(hasher, archive, [*queries, *database], captions, workers, advance)
    query_codes = {modality: side[: len(queries)] for modality, side in codes.items()}
    database_codes = {modality: side[len(queries) :] for modality, side in codes.items()}
    labels = multi_hot([*queries, *database], archive.info.class_names)
    relevant = labels[: len(queries)] @ labels[len(queries) :].T > 0
    unseen = np.array([item.split != "train" for item in database])

    def score(rows: NDArray[np.bool_]) -> dict[str, Figures]:
        return {
            direction: _figures(query_codes[source], database_codes[target][rows], relevant[:, rows])
            for direction, (source, target) in DIRECTIONS.items()
        }

    return LoneResult(hasher.bits, captions, score(np.ones(len(database), dtype=np.bool_)), score(unseen))


def evaluated_items(archive: ItemArchive, captions: str) -> tuple[tuple[Item, ...], tuple[Item, ...]]:
    """Queries and database: the items of the split that have both an image and a text of this caption variant.

    Raises:
        ArchiveError: no labels, or no such queries; the message says why that cannot be evaluated.
    """
    name = archive.info.name
    if not archive.info.class_names:
        raise ArchiveError(
            f"{name} has no labels, and without them nothing says which items are relevant to a query; import it with "
            "labels to evaluate on it; searching needs none"
        )
    queries, database = pairs(archive.select(("query",)), captions), pairs(archive.database(), captions)
    if archive.info.split_seed is None or not queries or not database:
        raise ArchiveError(
            f"{name}: expected a query split with labels, images and texts of variant {captions!r} to evaluate on, "
            f"found {len(queries)} such queries; import at least 200 items, or evaluate on another data set"
        )
    return queries, database


def as_json(results: Sequence[LoneResult]) -> dict[str, Any]:
    """``{protocol: {direction: {bits: {map_all: {expected}, …, unseen: {…}}}}}``; outer figures: the whole database."""
    directions: dict[str, dict[str, Any]] = {direction: {} for direction in DIRECTIONS}
    for result in results:
        for direction, table in directions.items():
            whole, unseen = (_figures_json(side[direction]) for side in (result.whole, result.unseen))
            table[str(result.bits)] = {**whole, "captions": result.captions, "unseen": unseen}
    return {"lone": directions}


def as_table(results: Sequence[LoneResult]) -> tuple[list[str], list[list[str]]]:
    """Headings and rows: a row for each length, direction and database, and the mean of both directions."""
    headings = ["protocol", "captions", "bits", "direction", "whole database", "unseen database", "chance"]
    rows = []
    for result in results:
        start = ["lone", result.captions, str(result.bits)]
        for direction in DIRECTIONS:
            whole, unseen = result.whole[direction], result.unseen[direction]
            chance = f"{whole.chance:.3f} / {unseen.chance:.3f}"
            rows.append([*start, direction, f"{whole.map_expected:.4f}", f"{unseen.map_expected:.4f}", chance])
        rows.append([*start, "mean", *(f"{mean:.4f}" for mean in result.mean), ""])
    return headings, rows


def _figures_json(figures: Figures) -> dict[str, Any]:
    return {
        "map_all": {"expected": figures.map_expected},
        "chance": figures.chance,
        "queries": figures.queries,
        "left_out": figures.left_out,
        "database": figures.database,
    }


def _figures(queries: NDArray[np.uint8], database: NDArray[np.uint8], relevant: NDArray[np.bool_]) -> Figures:
    precision = expected_average_precision(*distance_histograms(queries, database, relevant))
    answerable = ~np.isnan(precision)
    return Figures(
        map_expected=float(precision[answerable].mean()) if answerable.any() else 0.0,
        chance=float(relevant[answerable].mean()) if answerable.any() else 0.0,
        queries=int(answerable.sum()),
        left_out=int((~answerable).sum()),
        database=len(database),
    )


def _encode(
    hasher: Hasher,
    archive: ItemArchive,
    items: Sequence[Item],
    captions: str,
    workers: int,
    advance: Callable[[int], None],
) -> dict[Modality, NDArray[np.uint8]]:
    def encode(shard: Sequence[Item]) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
        images = [decode_image(archive.read_image(item)) for item in shard]
        texts = [caption(item, captions) for item in shard]
        return hasher.encode_images(images).codes, hasher.encode_texts(texts).codes

    shards = [items[start : start + SHARD] for start in range(0, len(items), SHARD)]
    images: list[NDArray[np.uint8]] = []
    texts: list[NDArray[np.uint8]] = []
    with ThreadPoolExecutor(max_workers=workers) as pool:
        for image_codes, text_codes in pool.map(encode, shards):
            images.append(image_codes)
            texts.append(text_codes)
            advance(len(image_codes))
    return {Modality.IMAGE: np.concatenate(images), Modality.TEXT: np.concatenate(texts)}
