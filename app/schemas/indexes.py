"""Bodies of ``/v1/indexes`` and ``/v1/models``."""

from typing import Any

from pydantic import Field

from app.schemas.base import AnswerBody, ModalityName, ModelReference, PresenceBody


class IndexSummary(AnswerBody):
    """An index in the list."""

    name: str
    generation: int
    bits: int
    model: ModelReference
    source: str
    columns: dict[str, int] = Field(description="Items that have a code of this modality.")


class RefusedIndex(AnswerBody):
    """An index on disk that is not served."""

    name: str
    code: str = Field(description="The problem that a query to it gets.")
    detail: str


class IndexList(AnswerBody):
    """Every index, by name."""

    indexes: list[IndexSummary]
    refused: list[RefusedIndex]


class CodeDiagnostics(AnswerBody):
    """How well the codes of a column use their bits."""

    balance_min: float = Field(description="Share of ones in the bit that has the fewest; 0.5 is ideal.")
    balance_max: float
    dead_bits: int = Field(description="Bits that are equal in all codes.")
    distinct_ratio: float = Field(description="Different codes / codes.")
    largest_bucket: int = Field(description="Codes that are equal to the commonest one.")


class PresenceCountsBody(AnswerBody):
    """Items by what their pair codes were made from."""

    image_and_text: int = Field(description="Fused from both.")
    image_only: int
    text_only: int


class ColumnBody(AnswerBody):
    """The codes of one modality."""

    items: int
    codes: int = Field(description="More than items where items have several texts.")
    distinct: int
    diagnostics: CodeDiagnostics
    presence: PresenceCountsBody | None = Field(
        default=None, exclude_if=lambda value: value is None, description="Only of the pair column."
    )


class IndexBody(AnswerBody):
    """One index in full."""

    name: str
    generation: int
    generations: list[int] = Field(description="Those on disk; the service can roll back to an earlier one.")
    created: str = Field(description="ISO 8601, UTC.")
    bits: int
    model: ModelReference
    model_loaded: bool = Field(description="False: codes can be searched, but nothing can be encoded.")
    device_kind: str = Field(
        description="Where the codes were made; they are bit-exact on one machine and device kind."
    )
    source: str
    texts: str = Field(description="`first` or `all` texts of an item have a code.")
    items: int
    edits: int = Field(description="Items appended, replaced or deleted since the generation was written.")
    not_encoded: int = Field(description="Appended items that only a rebuild makes findable: of another model.")
    fields: dict[str, str] = Field(description="Metadata fields and their types; a filter may name them.")
    columns: dict[str, ColumnBody]


class ItemBody(AnswerBody):
    """One stored item."""

    id: str
    text: str | None = Field(default=None, exclude_if=lambda value: value is None)
    metadata: dict[str, Any]  # Any: JSON, checked when it was written
    codes: dict[str, list[str]] = Field(description="Hex codes by modality.")
    content_hash: str = Field(description="SHA-256 over the image file and the text that the codes were made from.")
    image_url: str | None = Field(default=None, exclude_if=lambda value: value is None)
    presence: PresenceBody | None = Field(
        default=None,
        exclude_if=lambda value: value is None,
        description="What the pair codes were made from, where there are some.",
    )


class ModelBody(AnswerBody):
    """One model of one code length."""

    name: str
    method: str | None = Field(description="How it was trained; None where the artifact does not say.")
    bits: int
    modalities: list[str]
    fingerprint: str
    device: str
    indexes: list[str] = Field(description="Indexes that it answers for.")


class QueueBody(AnswerBody):
    """How full a stage is."""

    stage: str
    modality: ModalityName | None = Field(default=None, description="Encoding has a queue for each modality.")
    waiting: int
    limit: int


class LimitsBody(AnswerBody):
    """What one request may ask for."""

    head_s: float
    body_bytes: int
    body_s: float
    image_pixels: int
    queries: int
    text_chars: int
    items: int
    id_chars: int
    metadata_bytes: int
    hits: int
    depth: int
    decode_s: float
    deadline_s: float


class ModelList(AnswerBody):
    """The models in memory, the names of those on disk, and what calls to them may hold."""

    models: list[ModelBody]
    available: list[str]
    limits: LimitsBody
    queues: list[QueueBody]
