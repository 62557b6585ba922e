"""Items that callers send to be appended: read from JSON or from a form, and checked before anything is encoded."""

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from fastapi import Request
from pydantic import JsonValue

from app.inputs import check_texts, decode_base64, is_json, read_form, read_json
from app.problems import Problem
from app.schemas.items import AppendRequest, DraftFields
from app.settings import Limits

PICTURE = "/image"  # under an item's path is its picture, so no id may end in it
IMPASSABLE = {"", ".", ".."}  # parts of a path that clients and proxies drop


@dataclass(frozen=True, slots=True)
class Draft:
    """An item that is not encoded yet; it has an image, a text or both."""

    id: str
    image: bytes | None
    text: str | None
    metadata: Mapping[str, JsonValue]


async def read_drafts(request: Request, limits: Limits) -> list[Draft]:
    """The items of a JSON body, or the one of a form.

    Raises:
        Problem: ``empty_input`` or ``invalid_request``.
        RequestValidationError: a field is unknown, missing or malformed.
    """
    drafts = await (_read_json if is_json(request) else _read_form)(request, limits)
    check_drafts(drafts, limits)
    return drafts


def check_drafts(drafts: Sequence[Draft], limits: Limits) -> None:
    """Refuse too many items, repeated ids, and items that are empty or too large.

    Raises:
        Problem: ``empty_input`` or ``invalid_request``.
    """
    if len(drafts) > limits.items:
        detail = f"expected at most {limits.items} items in one call, found {len(drafts)}; send several calls"
        raise Problem("invalid_request", detail)
    for draft in drafts:
        _check_id(draft.id, limits.id_chars)
        _check_metadata(draft, limits.metadata_bytes)
        if draft.text is not None:
            check_texts([draft.text], limits)
        if draft.image is None and draft.text is None:
            raise Problem("empty_input", f"expected an image or a text of item {draft.id!r}, found neither")
    repeated = [item_id for item_id, count in Counter(draft.id for draft in drafts).items() if count > 1]
    if repeated:
        raise Problem("invalid_request", f"id: expected every id once in a call, found {repeated[0]!r} again")


async def _read_json(request: Request, limits: Limits) -> list[Draft]:
    body = await read_json(request, AppendRequest)
    return [
        Draft(one.id, None if one.image_base64 is None else decode_base64(one.image_base64), one.text, one.metadata)
        for one in body.items
    ]


async def _read_form(request: Request, limits: Limits) -> list[Draft]:
    form = await read_form(request, DraftFields, limits)
    if len(form.files) > 1:
        raise Problem("invalid_request", f"expected the image of one item, found {len(form.files)}; send JSON instead")
    return [Draft(form.fields.id, form.files[0], form.fields.text, form.fields.metadata)]


def _check_id(item_id: str, longest: int) -> None:
    if not item_id.isprintable() or len(item_id) > longest:
        raise Problem(
            "invalid_request",
            f"id: expected 1 to {longest:,} printable characters, found {item_id[:80]!r} of {len(item_id):,}",
        )
    if item_id.endswith(PICTURE) or not IMPASSABLE.isdisjoint(item_id.split("/")):
        expected = "an id that can stand in a path: no part of it empty, . or .., and not /image at its end"
        raise Problem("invalid_request", f"id: expected {expected}; found {item_id[:80]!r}")


def _check_metadata(draft: Draft, most: int) -> None:
    try:
        size = len(json.dumps(draft.metadata, ensure_ascii=False, allow_nan=False).encode())
    except (ValueError, RecursionError) as error:  # lone surrogates among them
        detail = f"metadata: expected Unicode and finite numbers in item {draft.id!r}; {error}"
        raise Problem("invalid_request", detail) from error
    if size > most:
        detail = f"metadata: expected at most {most:,} bytes of JSON in item {draft.id!r}, found {size:,}; shorten it"
        raise Problem("invalid_request", detail)
