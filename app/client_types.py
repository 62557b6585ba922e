"""Answers of the HTTP API as the client gives them: JSON objects; docs/http-api.md describes their fields."""

from pathlib import Path
from typing import Any, Literal, NotRequired, TypedDict

Modality = Literal["image", "text", "pair"]


class SearchOptions(TypedDict, total=False):
    """What every search may say."""

    index: str
    target: Modality
    limit: int
    radius: int
    filter: dict[str, Any]  # Any: JSON
    cursor: str
    explain: bool


class EncodeOptions(TypedDict, total=False):
    """Which model encodes: that of an index, or one by its name."""

    index: str
    model: str
    bits: int


class RebuildOptions(TypedDict, total=False):
    """What a rebuild changes."""

    source: str
    model: str
    bits: int
    reuse: bool
    dry_run: bool


class Draft(TypedDict):
    """An item to append, with an image, a text or both."""

    id: str
    image: NotRequired[bytes | Path]
    text: NotRequired[str]
    metadata: NotRequired[dict[str, Any]]  # Any: JSON


class Presence(TypedDict):
    """What a pair code was made from."""

    image: bool
    text: bool


class Tie(TypedDict):
    """The hits at one distance."""

    first_rank: int
    last_rank: int
    size: int


class Hit(TypedDict):
    """One item of an answer."""

    id: str
    distance: int
    similarity: float
    rank: int
    tie: Tie
    metadata: dict[str, Any]  # Any: JSON
    text: NotRequired[str]
    image_url: NotRequired[str]
    presence: NotRequired[Presence]


class IndexReference(TypedDict):
    """Which generation of which index answered."""

    name: str
    generation: int


class ModelReference(TypedDict):
    """Which model made the codes."""

    name: str
    fingerprint: str


class Took(TypedDict):
    """Milliseconds of each stage."""

    queue: float
    decode: float
    encode: float
    search: float
    total: float


class Explanation(TypedDict):
    """What the search engine did for one query."""

    engine: str
    strategy: str
    codes: int
    entries: int
    candidates: int
    fallback: bool


class Answer(TypedDict):
    """One page of hits for one query."""

    hits: list[Hit]
    total_within_radius: NotRequired[int]
    truncated: bool
    next_cursor: str | None
    truncated_tokens: NotRequired[int]
    plan: NotRequired[Explanation]
    index: IndexReference
    model: ModelReference
    took_ms: Took


class Margins(TypedDict):
    """How far a code's logits are from changing a bit."""

    min: float
    mean: float
    max: float


class Encoded(TypedDict):
    """Codes in the order of the inputs."""

    codes: list[str]
    bits: int
    margins: list[Margins]
    near_zero_bits: list[int]
    truncated_tokens: list[int]
    fingerprint: str
    model: ModelReference
    took_ms: Took


class IndexSummary(TypedDict):
    """An index in the list."""

    name: str
    generation: int
    bits: int
    model: ModelReference
    source: str
    columns: dict[str, int]


class IndexBody(TypedDict):
    """One index in full."""

    name: str
    generation: int
    generations: list[int]
    created: str
    bits: int
    model: ModelReference
    model_loaded: bool
    device_kind: str
    source: str
    texts: str
    items: int
    edits: int
    not_encoded: int
    fields: dict[str, str]
    columns: dict[str, dict[str, Any]]  # Any: JSON, figures of a column


class Item(TypedDict):
    """One stored item."""

    id: str
    text: NotRequired[str]
    metadata: dict[str, Any]  # Any: JSON
    codes: dict[str, list[str]]
    content_hash: str
    image_url: NotRequired[str]
    presence: NotRequired[Presence]


class Appended(TypedDict):
    """What was appended, and is on disk."""

    appended: int
    position: int
    truncated_tokens: list[int]
    index: IndexReference
    model: ModelReference
    took_ms: Took


class Deleted(TypedDict):
    """A deletion, which is on disk."""

    id: str
    position: int
    index: IndexReference


class Pointer(TypedDict):
    """The pair (generation, model) that an index serves."""

    index: str
    generation: int
    model: ModelReference


class Skipped(TypedDict):
    """An item that a job left out."""

    id: str
    reason: str


class Job(TypedDict):
    """A rebuild as it stands."""

    id: str
    index: str
    kind: str
    state: Literal["queued", "running", "done", "failed", "cancelled"]
    done: int
    total: int
    rate: float | None
    eta_s: float | None
    skipped: list[Skipped]
    error: NotRequired[str]


class Model(TypedDict):
    """One model of one code length."""

    name: str
    method: str | None
    bits: int
    modalities: list[str]
    fingerprint: str
    device: str
    indexes: list[str]
