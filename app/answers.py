"""From codes to the pages of an answer: options checked, index searched, hits told with what is stored of them."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from urllib.parse import quote

import numpy as np
from fastapi import Response
from numpy.typing import NDArray

from app.inputs import check_count
from app.problems import Problem
from app.queries import Query
from app.runtime import Served
from app.schemas.base import IndexReference, ModalityName, ModelReference, PresenceBody
from app.schemas.search import Answer, Answers, Explanation, Hit, SearchOptions, Tie
from index.manifest import PAIR
from index.ranking import Cursor, RankedHit, query_digest
from index.snapshot import Snapshot


@dataclass(frozen=True, slots=True)
class Page:
    """The hits of one query."""

    hits: list[Hit]
    total_within_radius: int | None
    truncated: bool
    next_cursor: str | None
    plan: Explanation | None


class Search:
    """One search request: its options checked, its pair of generation and model taken once and kept."""

    def __init__(self, query: Query, options: SearchOptions, queries: int) -> None:
        self.query, runtime = query, query.runtime
        self.served = runtime.index(options.index)
        self._options = options
        self._limits = runtime.settings.limits
        self._metrics = runtime.metrics
        self._check(queries)

    async def answer(
        self,
        response: Response,
        codes: NDArray[np.uint8],
        *,
        target: ModalityName,
        fingerprint: str | None,
        single: bool,
        truncated_tokens: Sequence[int] | None = None,
    ) -> Answer | Answers:
        """Search for the codes; ``target`` is the column where the request names none.

        ``fingerprint`` is the model's that made the codes, where that is known.
        """
        column = self._options.target or target
        pages = await self.query.search(
            lambda: find(self.served, column, codes, self._options, depth=self._limits.depth, fingerprint=fingerprint)
        )
        for page in pages:
            self._count_ties(page)
        manifest = self.served.snapshot.manifest
        response.headers["X-Index-Generation"] = str(manifest.generation)
        response.headers["X-Model-Fingerprint"] = manifest.fingerprint
        tokens = [None] * len(pages) if truncated_tokens is None else [int(count) for count in truncated_tokens]
        answers = [self._tell(page, count) for page, count in zip(pages, tokens, strict=True)]
        return answers[0] if single else Answers(results=answers)

    def _count_ties(self, page: Page) -> None:
        for size in {hit.tie.first_rank: hit.tie.size for hit in page.hits}.values():
            self._metrics.record_tie_group(size)

    def _tell(self, page: Page, truncated_tokens: int | None) -> Answer:
        manifest = self.served.snapshot.manifest
        return Answer(
            hits=page.hits,
            total_within_radius=page.total_within_radius,
            truncated=page.truncated,
            next_cursor=page.next_cursor,
            plan=page.plan,
            truncated_tokens=truncated_tokens,
            index=IndexReference(name=manifest.index, generation=manifest.generation),
            model=ModelReference(name=manifest.artifact, fingerprint=manifest.fingerprint),
            took_ms=self.query.took(),
        )

    def _check(self, queries: int) -> None:
        """Refuse what no index can answer, before anything is encoded."""
        options, limits, bits = self._options, self._limits, self.served.snapshot.bits
        check_count(queries, limits)
        if options.limit > limits.hits:
            detail = f"limit: expected at most {limits.hits}, found {options.limit}; use next_cursor for more"
            raise Problem("invalid_request", detail)
        if options.radius is not None and options.radius > bits:
            detail = f"radius: expected 0 to {bits}, the bits of a code, found {options.radius}"
            raise Problem("invalid_request", detail)
        if options.cursor is not None and queries > 1:
            raise Problem("invalid_request", f"cursor: expected one query, as a cursor belongs to one, found {queries}")


def find(
    served: Served,
    column: str,
    codes: NDArray[np.uint8],
    options: SearchOptions,
    *,
    depth: int,
    fingerprint: str | None,
) -> list[Page]:
    """One page for each code, none beyond rank ``depth``."""
    snapshot = served.snapshot
    condition = None if options.filter is None else snapshot.filter(options.filter)
    digests = [query_digest(column, code, radius=options.radius, filter=condition) for code in codes]
    offset = 0
    if options.cursor is not None:
        cursor = Cursor.decode(options.cursor)
        cursor.check(snapshot.index, snapshot.generation, snapshot.position, digests[0])
        offset = cursor.offset
    found = snapshot.search(
        column,
        codes,
        k=depth,
        radius=options.radius,
        offset=offset,
        limit=options.limit,
        filter=condition,
        fingerprint=fingerprint,
    )
    return [
        Page(
            hits=tell_hits(snapshot, column, answer.hits),
            total_within_radius=None if options.radius is None else answer.total,
            truncated=answer.truncated,
            next_cursor=_cursor(snapshot, offset + len(answer.hits), digest) if answer.more else None,
            plan=Explanation(**asdict(answer.plan)) if options.explain and answer.plan is not None else None,
        )
        for answer, digest in zip(found, digests, strict=True)
    ]


def _cursor(snapshot: Snapshot, offset: int, digest: str) -> str:
    return Cursor(snapshot.index, snapshot.generation, snapshot.position, offset, digest).encode()


def tell_hits(snapshot: Snapshot, column: str, hits: Sequence[RankedHit]) -> list[Hit]:
    """The hits in a column with what the index stores of them."""
    told = []
    for hit, item in zip(hits, snapshot.items([hit.row for hit in hits]), strict=True):
        told.append(
            Hit(
                id=item.id,
                distance=hit.distance,
                similarity=1 - hit.distance / snapshot.bits,
                rank=hit.rank,
                tie=Tie(first_rank=hit.tie.first_rank, last_rank=hit.tie.last_rank, size=hit.tie.size),
                metadata=dict(item.metadata),
                text=item.text,
                image_url=image_url(snapshot.index, item.id, item.content_hash) if item.has_thumbnail else None,
                presence=PresenceBody.of(item.presence) if column == PAIR else None,
            )
        )
    return told


def image_url(index: str, item_id: str, content_hash: str) -> str:
    """Where the item's picture is; another picture has another URL, so browsers may keep it for good."""
    return f"/v1/indexes/{index}/items/{quote(item_id, safe='')}/image?v={image_version(content_hash)}"


def image_version(content_hash: str) -> str:
    """What tells one picture of an item from the next."""
    return content_hash[:16]
