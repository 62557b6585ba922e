"""RFC 9457 problem bodies: the codes, and the one map from errors to codes."""

from collections.abc import Iterable, Mapping
from typing import Any

from fastapi import Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException

from app.jobs import DiskFull, JobNotFound, ModelNotFound, RebuildRunning, SourceNotFound
from index import errors as index_errors
from model import errors as model_errors

MEDIA_TYPE = "application/problem+json"
MAX_DETAIL_CHARS = 2000
RETRY = {"Retry-After": "1"}  # seconds

# code -> status and title
CODES: dict[str, tuple[int, str]] = {
    "empty_input": (400, "Nothing to encode"),
    "unauthorized": (401, "No valid key"),
    "forbidden": (403, "Not allowed"),
    "index_not_found": (404, "No such index"),
    "item_not_found": (404, "No such item"),
    "job_not_found": (404, "No such job"),
    "model_not_found": (404, "No such model"),
    "route_not_found": (404, "No such route"),
    "method_not_allowed": (405, "Method not allowed on this route"),
    "model_index_mismatch": (409, "Model and index do not belong together"),
    "modality_not_supported": (409, "Modality not supported"),
    "rebuild_running": (409, "A rebuild is already running"),
    "cursor_expired": (410, "Cursor of an older generation"),
    "payload_too_large": (413, "Request body too large"),
    "unsupported_image": (415, "Not an accepted image"),
    "invalid_request": (422, "Invalid request"),
    "image_too_many_pixels": (422, "Image too large"),
    "overloaded": (429, "Too many requests are waiting"),
    "internal": (500, "Internal error"),
    "not_ready": (503, "Not ready"),
    "device_out_of_memory": (503, "The device is out of memory"),
    "deadline_exceeded": (504, "Deadline exceeded"),
    "insufficient_storage": (507, "Not enough free disk"),
}

# the first match wins, so a subclass stands before its base; None as detail keeps the error's own message
ERRORS: tuple[tuple[type[Exception], str, str | None], ...] = (
    (index_errors.IndexNotFound, "index_not_found", None),
    (index_errors.ItemNotFound, "item_not_found", None),
    (index_errors.ColumnNotFound, "modality_not_supported", None),
    (index_errors.ModelMismatch, "model_index_mismatch", None),
    (index_errors.CursorExpired, "cursor_expired", None),
    (index_errors.InvalidCursor, "invalid_request", None),
    (index_errors.InvalidQuery, "invalid_request", None),
    (index_errors.InvalidFilter, "invalid_request", None),
    (index_errors.InvalidItem, "invalid_request", None),
    (index_errors.IndexLocked, "overloaded", None),
    (index_errors.TooManyEdits, "overloaded", None),
    (index_errors.GenerationNotFound, "invalid_request", None),
    # their messages name files of this machine: those are for the log
    (
        index_errors.IndexCorrupt,
        "not_ready",
        "the index is damaged; run `crossbit index verify` where the service runs",
    ),
    (index_errors.EngineUnavailable, "not_ready", "the search server does not answer; try again, or see the log"),
    (index_errors.IndexFormatUnsupported, "not_ready", "the index was written by a newer version; upgrade the service"),
    (model_errors.TooManyPixels, "image_too_many_pixels", None),
    (model_errors.UnsupportedImage, "unsupported_image", None),
    (model_errors.ModalityError, "modality_not_supported", None),
    (RebuildRunning, "rebuild_running", None),
    (JobNotFound, "job_not_found", None),
    (ModelNotFound, "model_not_found", None),
    (SourceNotFound, "invalid_request", None),
    (DiskFull, "insufficient_storage", None),
)


class Problem(Exception):
    """An error that the service itself found; becomes the problem body of its code."""

    def __init__(self, code: str, detail: str, *, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(detail)
        self.code = code
        self.detail = detail
        self.headers = dict(headers or {})


def as_problem(error: Exception) -> Problem | None:
    """The problem that answers this error; None for one that nobody foresaw."""
    if isinstance(error, Problem):
        return error
    if isinstance(error, RequestValidationError):
        return Problem("invalid_request", describe_validation(error.errors()))
    if isinstance(error, HTTPException):
        return _from_framework(error)
    # torch is not imported for its exception's type
    if type(error).__name__ == "OutOfMemoryError":
        return Problem("device_out_of_memory", "the model's device has no memory left for this input; try again later")
    for kind, code, detail in ERRORS:
        if isinstance(error, kind):
            return Problem(code, detail or str(error), headers=RETRY if code == "overloaded" else None)
    return None


def problem_response(problem: Problem, request_id: str) -> JSONResponse:
    """The ``application/problem+json`` answer."""
    status, title = CODES[problem.code]
    body = {
        "type": f"urn:crossbit:problem:{problem.code}",
        "title": title,
        "status": status,
        "detail": printable(problem.detail)[:MAX_DETAIL_CHARS],
        "code": problem.code,
        "request_id": request_id,
    }
    return JSONResponse(body, status_code=status, headers=problem.headers, media_type=MEDIA_TYPE)


def describe_validation(errors: Iterable[Mapping[str, Any]]) -> str:
    """One sentence of what each refused field expects and what was found there."""
    return "; ".join(_describe_one(error) for error in errors)


def printable(text: str) -> str:
    """The text with what UTF-8 cannot carry (lone surrogates of a JSON escape) replaced."""
    return text.encode(errors="replace").decode()


async def answer_framework_error(request: Request, error: Exception) -> JSONResponse:
    """Handler of the framework's own exceptions; every other error passes on to ``app.middleware.RequestContext``."""
    if isinstance(error, HTTPException) and error.status_code == 405:
        error.headers = {**(error.headers or {}), **_allow_of(request)}
    problem = as_problem(error)
    if problem is None:
        raise error
    request.state.problem = problem.code
    return problem_response(problem, request.state.request_id)


def _allow_of(request: Request) -> dict[str, str]:
    """The header of all methods on the request's path; the framework knows those of its first route alone."""
    template = getattr(request.scope.get("route"), "path_format", "")
    methods = request.app.openapi()["paths"].get(template, {})
    return {"Allow": ", ".join(sorted(method.upper() for method in methods))} if methods else {}


def _from_framework(error: HTTPException) -> Problem:
    headers = error.headers
    match error.status_code:
        case 404:
            return Problem(
                "route_not_found", "no route has this path; GET /openapi.json lists them all", headers=headers
            )
        case 405:
            allowed = (headers or {}).get("Allow", "").replace("GET", "GET, HEAD")
            return Problem("method_not_allowed", f"this route answers {allowed}", headers={"Allow": allowed})
        case 413:
            return Problem("payload_too_large", error.detail, headers=headers)
        case 504:
            return Problem("deadline_exceeded", error.detail, headers=headers)
        case _:
            return Problem("invalid_request", error.detail, headers=headers)


def _describe_one(error: Mapping[str, Any]) -> str:
    where = ".".join(str(part) for part in error["loc"] if part != "body") or "body"
    message = str(error["msg"]).removeprefix("Value error, ")
    found = error.get("input")
    if error["type"] in ("missing", "json_invalid", "extra_forbidden") or not isinstance(
        found, bool | int | float | str
    ):
        return f"{where}: {message}"
    return f"{where}: {message}, found {_short(found)}"


def _short(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:77]}..."
