"""What all bodies share."""

from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, JsonValue, StringConstraints, model_validator

from index.presence import Presence

ModalityName = Literal["image", "text", "pair"]
CodeText = Annotated[str, StringConstraints(pattern=r"^[0-9a-fA-F]+$", max_length=1024)]
Fingerprint = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]
Name = Annotated[str, Field(min_length=1, max_length=200)]


class RequestBody(BaseModel):
    """Refuses unknown fields and does not convert types."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)


ONE_FORM: dict[str, JsonValue] = {
    "oneOf": [
        {
            "required": ["query"],
            "properties": {"query": {"type": "string", "minLength": 1}, "queries": {"type": "null"}},
        },
        {
            "required": ["queries"],
            "properties": {"query": {"type": "null"}, "queries": {"type": "array", "minItems": 1}},
        },
    ]
}


class TextQueries(RequestBody):
    """One text or several."""

    model_config = ConfigDict(json_schema_extra=ONE_FORM)

    query: str | None = None
    queries: list[str] | None = None

    @model_validator(mode="after")
    def _one_form(self) -> Self:
        if (self.query is None) == (self.queries is None):
            raise ValueError("expected exactly one of query and queries")
        return self

    @property
    def texts(self) -> list[str]:
        """The texts, in order."""
        return [self.query] if self.query is not None else list(self.queries or ())


class PairTexts(RequestBody):
    """The texts that the files of a form are fused with."""

    text: list[str] = Field(min_length=1, description="One text for each file, in their order, or one for all of them.")


class AnswerBody(BaseModel):
    """A body that the service sends."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class PresenceBody(AnswerBody):
    """What the pair codes of an item were made from; with both, they are fused."""

    image: bool
    text: bool

    @classmethod
    def of(cls, presence: Presence) -> Self | None:
        """The body that shows a presence; none where there is none to show."""
        return cls(**presence.parts()) if presence else None


class ModelReference(AnswerBody):
    """Which model made the codes."""

    name: str
    fingerprint: str = Field(description="SHA-256 over everything that decides a code.")


class IndexReference(AnswerBody):
    """Which generation of which index answered."""

    name: str
    generation: int


class Took(AnswerBody):
    """Milliseconds of each stage."""

    queue: float = Field(default=0.0, description="Waiting for a thread, over all stages.")
    decode: float = 0.0
    encode: float = 0.0
    search: float = 0.0
    total: float = 0.0


class ProblemBody(AnswerBody):
    """Every error's answer (RFC 9457, ``application/problem+json``)."""

    type: str
    title: str
    status: int
    detail: str = Field(description="What was expected, what was found, what to do.")
    code: str = Field(description="Stable name of the problem.")
    request_id: str
