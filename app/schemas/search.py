"""Bodies of ``/v1/search``."""

from typing import Any

from pydantic import ConfigDict, Field, JsonValue

from app.schemas.base import (
    ONE_FORM,
    AnswerBody,
    CodeText,
    Fingerprint,
    IndexReference,
    ModalityName,
    ModelReference,
    PairTexts,
    PresenceBody,
    RequestBody,
    TextQueries,
    Took,
)


class SearchOptions(RequestBody):
    """What every search may say."""

    index: str | None = Field(
        default=None, description="Name of the index; may be left out where the service has a default or a single one."
    )
    target: ModalityName | None = Field(
        default=None, description="Column that is searched; each route has its own default."
    )
    limit: int = Field(default=10, ge=1, description="Hits on a page.")
    radius: int | None = Field(
        default=None,
        ge=0,
        description="Largest distance, inclusive, at most the bits of the index; none: the nearest, however far.",
    )
    filter: dict[str, JsonValue] | None = Field(
        default=None, description='Metadata that hits must have: equality, `{"in": [...]}`, `{"gte": ...}` and so on.'
    )
    cursor: str | None = Field(
        default=None,
        min_length=1,
        max_length=2000,
        description="`next_cursor` of the page before, with everything else unchanged.",
    )
    explain: bool = Field(default=False, description="Also tell what the search engine did.")


class TextSearch(TextQueries, SearchOptions):
    """One text or several."""

    model_config = ConfigDict(
        json_schema_extra=ONE_FORM
        | {
            "examples": [
                {"query": "a red bicycle", "limit": 5, "filter": {"labels": {"in": ["vehicle", "sport"]}}},
                {"queries": ["a red bicycle", "a sleeping cat"], "target": "text", "radius": 20},
            ]
        }
    )


class ImageFields(SearchOptions):
    """The form fields beside the files of an image search; forms carry text, so numbers are read from it."""

    model_config = ConfigDict(strict=False)


class ImageSearch(SearchOptions):
    """One image in JSON."""

    image_base64: str = Field(min_length=1)


class PairFields(PairTexts, ImageFields):
    """The form fields beside the files of a pair search."""

    model_config = ConfigDict(strict=False)


class CodeSearch(SearchOptions):
    """Codes that the caller already has."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"codes": ["8f3a5c0e9b2d4761"], "limit": 5}]})

    codes: list[CodeText] = Field(min_length=1, description="Hex, bits / 4 digits each, as `/v1/encode` gives them.")
    fingerprint: Fingerprint | None = Field(
        default=None, description="Model that made the codes; when given, an index of another model refuses them."
    )


class ItemSearch(SearchOptions):
    """A stored item as the query."""

    item_id: str = Field(min_length=1)
    column: ModalityName = Field(default="image", description="Which code of the item asks; also the default target.")


class Tie(AnswerBody):
    """The hits at one distance."""

    first_rank: int
    last_rank: int
    size: int


class Hit(AnswerBody):
    """One item of an answer."""

    id: str
    distance: int = Field(description="Hamming distance, 0..bits.")
    similarity: float = Field(description="1 - distance / bits.")
    rank: int = Field(description="Position in the total order (distance, item id), from 1.")
    tie: Tie
    metadata: dict[str, Any]  # Any: JSON, checked when it was written
    text: str | None = Field(default=None, exclude_if=lambda value: value is None)
    image_url: str | None = Field(default=None, exclude_if=lambda value: value is None)
    presence: PresenceBody | None = Field(
        default=None,
        exclude_if=lambda value: value is None,
        description="What the code that was found was made from; only of the pair column.",
    )


class Explanation(AnswerBody):
    """What the search engine did for one query."""

    engine: str = Field(description="`kernel`, `faiss`, `numpy` or `milvus`.")
    strategy: str = Field(
        description="`scan` over all codes, `grouped_scan` over the distinct ones, or `lookup` of equal substrings."
    )
    codes: int = Field(description="Codes that the filter lets through.")
    entries: int = Field(description="What a scan compares: distinct codes, or all where they hardly repeat.")
    candidates: int = Field(description="Codes that a lookup compared.")
    fallback: bool = Field(description="A lookup ran out of its budget, so a scan answered.")


class Answer(AnswerBody):
    """One page of hits for one query."""

    hits: list[Hit]
    total_within_radius: int | None = Field(
        default=None,
        exclude_if=lambda value: value is None,
        description="Exact, however many hits the pages give; only for a radius search.",
    )
    truncated: bool = Field(description="More hits lie within the radius than the pages of one query give.")
    next_cursor: str | None
    truncated_tokens: int | None = Field(
        default=None,
        exclude_if=lambda value: value is None,
        description="Tokens of the text that did not reach the encoder; only for a text query.",
    )
    plan: Explanation | None = Field(
        default=None, exclude_if=lambda value: value is None, description="Only where `explain` asked for it."
    )
    index: IndexReference
    model: ModelReference
    took_ms: Took


class Answers(AnswerBody):
    """Answers to several queries, in their order."""

    results: list[Answer]
