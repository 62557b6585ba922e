"""Bodies of ``/v1/encode``."""

from typing import Self

from pydantic import ConfigDict, Field, model_validator

from app.schemas.base import ONE_FORM, AnswerBody, ModelReference, Name, PairTexts, RequestBody, TextQueries, Took


class EncodeOptions(RequestBody):
    """Which model encodes; left out, the one of the default index."""

    index: str | None = Field(default=None, description="Encode as this index does.")
    model: Name | None = Field(default=None, description="Name of a model, instead of an index.")
    bits: int | None = Field(
        default=None,
        ge=8,
        le=4096,
        multiple_of=8,
        description="Code length; with `model` only, and 64 when left out.",
    )

    @model_validator(mode="after")
    def _one_choice(self) -> Self:
        if self.model is not None and self.index is not None:
            raise ValueError("expected at most one of index and model")
        if self.bits is not None and self.model is None:
            raise ValueError("expected bits only together with model: an index has one code length")
        return self


class TextEncode(TextQueries, EncodeOptions):
    """One text or several."""

    model_config = ConfigDict(json_schema_extra=ONE_FORM | {"examples": [{"query": "a red bicycle"}]})


class EncodeFields(EncodeOptions):
    """The form fields beside the files; forms carry text, so numbers are read from it."""

    model_config = ConfigDict(strict=False)


class PairEncodeFields(PairTexts, EncodeFields):
    """The form fields beside the files of pairs."""

    model_config = ConfigDict(strict=False)


class ImageEncode(EncodeOptions):
    """One image in JSON."""

    image_base64: str = Field(min_length=1)


class Margins(AnswerBody):
    """How far a code's logits are from changing a bit."""

    min: float
    mean: float
    max: float


class Encoded(AnswerBody):
    """Codes in the order of the inputs."""

    codes: list[str] = Field(description="Hex, bits / 4 digits each; bit j is in byte j // 8 at position j % 8.")
    bits: int
    margins: list[Margins]
    near_zero_bits: list[int] = Field(
        description="Bits of each code whose margin is below a thousandth of the mean margin of the code."
    )
    truncated_tokens: list[int] = Field(
        description="Tokens of each text that did not reach the encoder; zeros for images."
    )
    fingerprint: str
    model: ModelReference
    took_ms: Took
