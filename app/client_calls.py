"""The calls of the HTTP API as values, which ``app.client`` makes and ``httpx2`` carries; nothing here waits."""

import base64
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Generic, TypeVar
from urllib.parse import quote

import httpx2

from app.client_types import Answer, Appended, Deleted, Draft, Encoded

T = TypeVar("T")
Image = bytes | Path  # an image file's content, or where it lies
Options = Mapping[str, Any]  # Any: JSON

OVERLOADED = 429
FIRST_PAUSE_S, LONGEST_PAUSE_S = 0.5, 30.0  # before asking again
SHOWN_CHARS = 200  # of an answer that is no problem body


class ServiceError(Exception):
    """The service answered with a problem; ``code`` is its stable name, the message what it expected and found."""

    def __init__(self, detail: str, *, code: str, status: int, request_id: str) -> None:
        super().__init__(detail)
        self.code, self.status, self.request_id = code, status, request_id


class ServiceUnreachable(Exception):
    """Nothing answered, or not in time."""


@dataclass(frozen=True, slots=True)
class Call(Generic[T]):
    """One request, and how its answer is read."""

    method: str
    path: str
    read: Callable[[httpx2.Response], T]
    json: Options | None = None
    form: Options | None = None
    files: Sequence[bytes] = ()
    headers: Mapping[str, str] = field(default_factory=dict)

    def arguments(self) -> dict[str, Any]:  # Any: those of httpx2's request
        """Of the request, beside method and path."""
        if not self.files:
            return {"json": self.json, "headers": self.headers}
        parts = [("file", (f"{number}", data)) for number, data in enumerate(self.files)]
        return {"data": self.form, "files": parts, "headers": self.headers}


def search(kind: str, query: Options, options: Options) -> Call[Answer]:
    """One query in JSON."""
    return Call("POST", f"/v1/search/{kind}", _body, json={**query, **options})


def search_several(kind: str, query: Options, options: Options) -> Call[list[Answer]]:
    """Several queries in JSON."""
    return Call("POST", f"/v1/search/{kind}", _results, json={**query, **options})


def search_files(kind: str, images: Sequence[Image], options: Options) -> Call[list[Answer]]:
    """Images in a form."""
    return Call("POST", f"/v1/search/{kind}", _results, form=_form(options), files=_read(images))


def encode_texts(texts: Sequence[str], options: Options) -> Call[Encoded]:
    """Codes of texts."""
    return Call("POST", "/v1/encode/text", _body, json={"queries": list(texts), **options})


def encode_files(kind: str, images: Sequence[Image], options: Options) -> Call[Encoded]:
    """Codes of images in a form."""
    return Call("POST", f"/v1/encode/{kind}", _body, form=_form(options), files=_read(images))


def listed(kind: type[T], what: str) -> Call[list[T]]:
    """Everything of one kind: indexes, models or jobs."""
    return Call("GET", f"/v1/{what}", lambda response: list(response.json()[what]))


def one(kind: type[T], *path: str) -> Call[T]:
    """One thing by its path under ``/v1``."""
    return Call("GET", _path(*path), _body)


def picture(index: str, item_id: str) -> Call[bytes]:
    """The stored picture of an item."""
    return Call("GET", _path("indexes", index, "items", item_id, "image"), lambda response: response.content)


def append(index: str, drafts: Sequence[Draft]) -> Call[Appended]:
    """Items in JSON, their images in base64."""
    return Call("POST", _path("indexes", index, "items"), _body, json={"items": [_item(draft) for draft in drafts]})


def delete(index: str, item_id: str) -> Call[Deleted]:
    """One item."""
    return Call("DELETE", _path("indexes", index, "items", item_id), _body)


def change(kind: type[T], *path: str, options: Options | None = None, idempotency_key: str | None = None) -> Call[T]:
    """A call of an administrator."""
    headers = {} if idempotency_key is None else {"Idempotency-Key": idempotency_key}
    return Call("POST", _path(*path), _body, json=options, headers=headers)


def given(**values: object) -> dict[str, Any]:  # Any: JSON
    """Those that are not None."""
    return {name: value for name, value in values.items() if value is not None}


def headers(key: str | None) -> dict[str, str]:
    """Those of every call."""
    return {} if key is None else {"Authorization": f"Bearer {key}"}


def pause_s(response: httpx2.Response, attempt: int) -> float | None:
    """How long a full service asks to be left alone before call ``attempt`` + 1; None for any other answer."""
    if response.status_code != OVERLOADED:
        return None
    try:
        named = float(response.headers["Retry-After"])
    except (KeyError, ValueError):
        named = FIRST_PAUSE_S
    return min(LONGEST_PAUSE_S, named * float(2**attempt))


def checked(response: httpx2.Response) -> httpx2.Response:
    """The answer, if it is none of a problem.

    Raises:
        ServiceError
    """
    if response.is_success:
        return response
    try:
        problem = response.json()
        detail, code, request_id = problem["detail"], problem["code"], problem["request_id"]
    except (ValueError, TypeError, KeyError):  # of a proxy in between, or of another service
        detail = f"expected an answer of Crossbit, found HTTP {response.status_code}: {response.text[:SHOWN_CHARS]!r}"
        code, request_id = "unknown", ""
    raise ServiceError(detail, code=code, status=response.status_code, request_id=request_id)


def unreachable(url: object, error: httpx2.TransportError) -> ServiceUnreachable:
    """The error of a service that did not answer."""
    reason = str(error) or type(error).__name__
    return ServiceUnreachable(f"expected Crossbit at {url}, found no answer: {reason}; is it running there?")


def _body(response: httpx2.Response) -> Any:  # noqa: ANN401  JSON, of the type that the call names
    return response.json()


def _results(response: httpx2.Response) -> list[Answer]:
    """The answers to several queries; the service answers a single one without a list."""
    found = response.json()
    return list(found.get("results", [found]))


def _read(images: Sequence[Image]) -> list[bytes]:
    return [image if isinstance(image, bytes) else image.read_bytes() for image in images]


def _item(draft: Draft) -> dict[str, Any]:  # Any: JSON
    item: dict[str, Any] = {**draft}
    if "image" in draft:
        (data,) = _read([item.pop("image")])
        item["image_base64"] = base64.b64encode(data).decode()
    return item


def _form(options: Options) -> dict[str, Any]:  # Any: a text, or several
    return {name: value if isinstance(value, str | list) else json.dumps(value) for name, value in options.items()}


def _path(*parts: str) -> str:
    return "/v1/" + "/".join(quote(part, safe="") for part in parts)
