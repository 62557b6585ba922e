"""What callers send to be encoded: texts, and image files in a form or in JSON."""

import base64
import binascii
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar, get_origin

from fastapi import Request
from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel, JsonValue, ValidationError
from starlette.datastructures import FormData, UploadFile

from app.problems import Problem
from app.settings import Limits
from index.filters import is_unicode
from model.bulk import is_visible

FORM = "multipart/form-data"
JSON = "application/json"
MAX_FORM_FIELDS = 32  # besides the texts of pairs
MIN_FIELD_BYTES = 2**16  # room for a filter, however short texts have to be
JSON_FIELDS = frozenset({"filter", "metadata"})  # of a form: their value is JSON

Fields = TypeVar("Fields", bound=BaseModel)
Body = TypeVar("Body", bound=BaseModel)


@dataclass(frozen=True, slots=True)
class Upload(Generic[Fields]):
    """Image files with the fields that came along."""

    files: list[bytes]
    fields: Fields


def media_type(request: Request) -> str:
    """The request's content type without parameters."""
    return request.headers.get("content-type", "").partition(";")[0].strip().lower()


def is_json(request: Request) -> bool:
    """Whether the body says that it is JSON."""
    return media_type(request) == JSON


def check_texts(texts: Sequence[str], limits: Limits) -> None:
    """Refuse texts that are too many, too long, blank or not Unicode.

    Raises:
        Problem: ``empty_input`` or ``invalid_request``.
    """
    check_count(len(texts), limits)
    for position, text in enumerate(texts):
        if not is_unicode(text):
            raise Problem("invalid_request", f"query: expected Unicode, found a lone surrogate in text {position}")
        if not is_visible(text):
            raise Problem("empty_input", f"expected some text, found text {position} blank")
        if len(text) > limits.text_chars:
            raise Problem(
                "invalid_request",
                f"text {position}: expected at most {limits.text_chars:,} characters, found {len(text):,}; shorten it",
            )


def check_count(count: int, limits: Limits) -> None:
    """Refuse no queries, and more than one call may hold.

    Raises:
        Problem: ``empty_input`` or ``invalid_request``.
    """
    if count == 0:
        raise Problem("empty_input", "expected at least one query, found none")
    if count > limits.queries:
        detail = f"expected at most {limits.queries} queries in one call, found {count}; send several calls"
        raise Problem("invalid_request", detail)


async def read_form(request: Request, fields: type[Fields], limits: Limits) -> Upload[Fields]:
    """Read a multipart form of one or more parts named ``file`` and fields.

    Raises:
        Problem: ``empty_input`` or ``invalid_request``.
        RequestValidationError: a field is unknown or malformed.
    """
    if media_type(request) != FORM:
        raise Problem("invalid_request", f"expected content type {FORM}, found {media_type(request) or 'none'}")
    largest_field = max(MIN_FIELD_BYTES, 4 * limits.text_chars, 2 * limits.metadata_bytes)
    largest_count = MAX_FORM_FIELDS + limits.queries
    form = request.form(max_files=limits.queries, max_fields=largest_count, max_part_size=largest_field)
    async with form as parts:
        files = [await _read_file(name, part) for name, part in parts.multi_items() if isinstance(part, UploadFile)]
        values = _read_fields(parts, fields)
    if not files:
        raise Problem("empty_input", "expected at least one image in a form part named file, found none")
    return Upload(files, _validated(lambda: fields.model_validate(values)))


async def read_json(request: Request, body: type[Body]) -> Body:
    """Read a JSON body.

    Raises:
        RequestValidationError: not JSON, or a field is unknown or malformed.
    """
    data = await request.body()
    return _validated(lambda: body.model_validate_json(data))


def decode_base64(text: str) -> bytes:
    """The bytes of a base64 text.

    Raises:
        Problem: ``invalid_request``.
    """
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError) as error:
        detail = f"image_base64: expected the base64 of an image file, without line breaks or a data: prefix; {error}"
        raise Problem("invalid_request", detail) from error


async def _read_file(name: str, part: UploadFile) -> bytes:
    if name != "file":
        raise Problem("invalid_request", f"expected images in form parts named file, found a file part {name!r}")
    data = await part.read()
    if not data:
        raise Problem("empty_input", "expected an image file, found an empty one")
    return data


def _read_fields(form: FormData, fields: type[BaseModel]) -> dict[str, JsonValue]:
    """The form parts that are no files; those that are a list among the ``fields`` may come several times."""
    lists = {name for name, field in fields.model_fields.items() if get_origin(field.annotation) is list}
    found: dict[str, JsonValue] = {}
    for name in form:
        values = [value for value in form.getlist(name) if not isinstance(value, UploadFile)]
        if name in lists:
            found[name] = list(values)
        elif len(values) > 1:
            raise Problem("invalid_request", f"{name}: expected one form part of this name, found several")
        elif values:
            found[name] = _parse_json(name, values[0]) if name in JSON_FIELDS else values[0]
    return found


def _parse_json(name: str, text: str) -> JsonValue:
    try:
        parsed: JsonValue = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise Problem("invalid_request", f"{name}: expected a JSON object, found other text ({error})") from error
    return parsed


def _validated(validate: Callable[[], Body]) -> Body:
    try:
        return validate()
    except ValidationError as error:
        raise RequestValidationError(error.errors(include_url=False, include_context=False)) from error
