"""Bodies of ``/v1/indexes/{name}/items``."""

from pydantic import Field, JsonValue

from app.schemas.base import AnswerBody, IndexReference, ModelReference, RequestBody, Took

ID = "The caller's own name of it; an item that has it already is replaced."
METADATA = "A JSON object: what filters ask for and hits show."


class DraftBody(RequestBody):
    """An item to append, with an image, a text or both."""

    id: str = Field(min_length=1, description=ID)
    image_base64: str | None = Field(default=None, description="An image file.")
    text: str | None = None
    metadata: dict[str, JsonValue] = Field(default={}, description=METADATA)


class AppendRequest(RequestBody):
    """The items to append."""

    items: list[DraftBody] = Field(min_length=1)


class DraftFields(RequestBody):
    """The form fields of one item that has an image."""

    id: str = Field(min_length=1, description=ID)
    text: str | None = None
    metadata: dict[str, JsonValue] = Field(default={}, description=METADATA)


class AppendedBody(AnswerBody):
    """What was appended, and is on disk."""

    appended: int = Field(description="Items, among them those that replaced others.")
    position: int = Field(description="Of the last of them in the index's log.")
    truncated_tokens: list[int] = Field(description="Of each item, tokens of its text that did not fit.")
    index: IndexReference
    model: ModelReference
    took_ms: Took


class DeletedBody(AnswerBody):
    """The deletion, which is on disk."""

    id: str
    position: int = Field(description="Of the deletion in the index's log.")
    index: IndexReference
