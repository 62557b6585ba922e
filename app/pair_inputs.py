"""What callers send to be fused: images and texts of one form."""

from dataclasses import dataclass
from typing import Generic, TypeVar

from fastapi import Request

from app.inputs import check_texts, read_form
from app.problems import Problem
from app.schemas.base import PairTexts
from app.settings import Limits

Fields = TypeVar("Fields", bound=PairTexts)


@dataclass(frozen=True, slots=True)
class Pairs(Generic[Fields]):
    """Image files, a text for each, and the fields that came along."""

    files: list[bytes]
    texts: list[str]
    fields: Fields


async def read_pairs(request: Request, fields: type[Fields], limits: Limits) -> Pairs[Fields]:
    """Read a form of image files with a text for each of them, or one text for all.

    Raises:
        Problem: ``empty_input`` or ``invalid_request``.
        RequestValidationError: a field is unknown or malformed.
    """
    form = await read_form(request, fields, limits)
    files, texts = form.files, form.fields.text
    check_texts(texts, limits)
    if len(texts) not in (1, len(files)):
        detail = f"text: expected one for each of {len(files)} files, or one for all, found {len(texts)}"
        raise Problem("invalid_request", detail)
    return Pairs(files, texts if len(texts) == len(files) else texts * len(files), form.fields)
