"""What a few queries find: the query, its first ten hits, their distances, and whether they are relevant."""

import base64
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from index.codes import distances
from model.errors import ArchiveError, ImageError
from model.evaluation.codes import CodeSet, evaluated_items
from model.hasher import Modality
from model.images import decode_image
from model.items import Item, ItemArchive, caption

QUERIES = 12
HITS = 10
THUMBNAIL = 128  # pixels of the longer side
MAX_TEXT = 300  # characters shown


@dataclass(frozen=True, slots=True)
class Shown:
    """One item as a sheet shows it: a picture or a text."""

    id: str
    picture: str  # data URI; empty for a text, or a picture that cannot be read
    text: str  # empty for a picture
    labels: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Hit:
    """One item of a ranking; ties are in the data set's shuffled row order."""

    item: Shown
    distance: int
    relevant: bool


@dataclass(frozen=True, slots=True)
class Sheet:
    """A query and its first hits."""

    query: Shown
    hits: tuple[Hit, ...]

    def as_json(self) -> dict[str, Any]:
        """Names, distances and relevance; no pictures."""
        hits = [{"id": hit.item.id, "distance": hit.distance, "relevant": hit.relevant} for hit in self.hits]
        return {"query": self.query.id, "hits": hits}


def contact_sheets(codes: CodeSet, archive: ItemArchive, direction: str, seed: int = 0) -> list[Sheet]:
    """Sheets of ``QUERIES`` queries of one direction, drawn with ``seed`` among those that have a relevant item."""
    source, target = codes.directions[direction]
    answerable = np.flatnonzero((codes.query_labels @ codes.database_labels.T).any(1))
    drawn = np.sort(np.random.default_rng(seed).permutation(answerable)[:QUERIES])
    rankings = {int(row): _first(codes, source, target, int(row)) for row in drawn}
    wanted = {codes.query_ids[row] for row in rankings}
    wanted |= {codes.database_ids[hit] for hits, _ in rankings.values() for hit in hits}
    items = {item.id: item for side in evaluated_items(archive, codes.captions) for item in side if item.id in wanted}
    return [
        Sheet(
            _shown(archive, items[codes.query_ids[row]], source, codes.captions),
            tuple(
                Hit(
                    item=_shown(archive, items[codes.database_ids[hit]], target, codes.captions),
                    distance=int(distance),
                    relevant=bool((codes.query_labels[row] & codes.database_labels[hit]).any()),
                )
                for hit, distance in zip(*ranking, strict=True)
            ),
        )
        for row, ranking in rankings.items()
    ]


def _first(codes: CodeSet, source: Modality, target: Modality, row: int) -> tuple[NDArray[np.int64], NDArray[np.int32]]:
    distance = distances(codes.queries[source][row], codes.database[target])
    first = np.lexsort((codes.order, distance))[:HITS]
    return first, distance[first]


def _shown(archive: ItemArchive, item: Item, modality: Modality, captions: str) -> Shown:
    text = "" if modality is Modality.IMAGE else caption(item, captions)[:MAX_TEXT]
    picture = "" if modality is Modality.TEXT else _thumbnail(archive, item)
    return Shown(item.id, picture, text, item.labels)


def _thumbnail(archive: ItemArchive, item: Item) -> str:
    try:
        image = decode_image(archive.read_image(item))
    except (ArchiveError, ImageError):
        return ""
    image.thumbnail((THUMBNAIL, THUMBNAIL))
    buffer = io.BytesIO()
    image.save(buffer, "WEBP", quality=80)
    return f"data:image/webp;base64,{base64.b64encode(buffer.getvalue()).decode()}"


def hit_rate(sheets: Sequence[Sheet]) -> float:
    """Share of relevant hits."""
    hits = [hit.relevant for sheet in sheets for hit in sheet.hits]
    return sum(hits) / max(len(hits), 1)


def sheets_json(sheets: Mapping[str, Sequence[Sheet]]) -> dict[str, Any]:
    """``{direction: [{query, hits: [{id, distance, relevant}]}]}``."""
    return {direction: [sheet.as_json() for sheet in some] for direction, some in sheets.items()}
