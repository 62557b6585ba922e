"""What FastAPI cannot read off a signature: bodies that are a form or JSON, keys, and the problems of each route."""

from collections.abc import Iterable
from typing import Any  # Any: OpenAPI is JSON

from fastapi import FastAPI
from pydantic import BaseModel

from app.inputs import FORM, JSON, JSON_FIELDS
from app.problems import CODES, MEDIA_TYPE
from app.roles import Role, needed_role
from app.routes.links import add_links
from app.schemas.base import ProblemBody
from app.schemas.items import DraftBody

REF = "#/components/schemas/{model}"
PROBLEM_CODES = "x-problem-codes"  # of an answer in the document
KEY = "key"  # name of the security scheme

# problems of several routes
SERVED = (
    "index_not_found",
    "not_ready",
    "model_index_mismatch",
    "device_out_of_memory",
)  # any that an index refuses with
WORKED = ("overloaded", "deadline_exceeded")
ENCODED = ("empty_input", "modality_not_supported", "model_not_found", "device_out_of_memory", *WORKED)
DECODED = ("unsupported_image", "image_too_many_pixels")
SEARCHED = (*SERVED, "modality_not_supported", "cursor_expired", *WORKED)

HEADERS = {
    401: {"WWW-Authenticate": "Always `Bearer`."},
    405: {"Allow": "What this path answers."},
    429: {"Retry-After": "Seconds."},
}
REQUEST_ID = {"X-Request-Id": "Names this request in the service's log; one that a caller sends is kept."}
FINGERPRINT = {"X-Model-Fingerprint": "Of the model that made the codes."}
GENERATION = {"X-Index-Generation": "Number of the generation that answered."}


def image_body(fields: type[BaseModel], body: type[BaseModel] | None = None) -> dict[str, Any]:
    """A request body of image files in a form with ``fields``, or of one image in JSON as ``body``."""
    form = _schema(fields)
    form["properties"] = {name: _as_form_field(name, field) for name, field in form["properties"].items()}
    files = {"type": "array", "minItems": 1, "items": {"type": "string", "format": "binary"}}
    form["properties"] = {"file": files | {"description": "Image files."}, **form["properties"]}
    form["required"] = ["file", *form.get("required", ())]
    content: dict[str, Any] = {FORM: {"schema": form}}
    if body is not None:
        content[JSON] = {"schema": _schema(body)}
    return {"requestBody": {"required": True, "content": content}}


def problems(*codes: str, sends: dict[str, str] | None = None) -> dict[int | str, dict[str, Any]]:
    """Answers of a route beyond those of every route, and the headers that its good answer ``sends``."""
    answers: dict[int | str, dict[str, Any]] = {
        status: _problem_answer(status, codes) for status in sorted({CODES[code][0] for code in codes})
    }
    if sends:
        answers[200] = {"headers": _headers(sends)}
    return answers


class DescribedAPI(FastAPI):
    """An application whose OpenAPI document tells keys and problems; without keys, none is required."""

    has_keys = False

    def openapi(self) -> dict[str, Any]:
        """The document, made once."""
        if self.openapi_schema is None:
            _complete(super().openapi(), has_keys=self.has_keys)
        return self.openapi_schema or {}


def _complete(document: dict[str, Any], *, has_keys: bool) -> None:
    components = document["components"]
    for unused in ("HTTPValidationError", "ValidationError"):  # of the framework's own 422
        components["schemas"].pop(unused, None)
    for unseen in (ProblemBody, DraftBody):  # by the framework, which reads signatures alone
        components["schemas"][unseen.__name__] = _schema(unseen)
    components["securitySchemes"] = {
        KEY: {"type": "http", "scheme": "bearer", "description": "`crossbit key` makes one."}
    }
    for path, operations in document["paths"].items():
        for method, operation in operations.items():
            role = needed_role(method.upper(), path)
            _complete_operation(operation, role)
            if role is not None:
                operation["security"] = [{KEY: []}] if has_keys else [{KEY: []}, {}]
    add_links(document["paths"])


def _complete_operation(operation: dict[str, Any], role: Role | None) -> None:
    answers = operation["responses"]
    codes = {code for answer in answers.values() for code in answer.get(PROBLEM_CODES, ())} | {"internal"}
    if role is not None:
        codes |= {"unauthorized"} if role is Role.QUERY else {"unauthorized", "forbidden"}
    if "parameters" in operation:  # a slash in one leads to another route or to none
        codes |= {"route_not_found", "method_not_allowed"}
    if "requestBody" in operation:
        codes |= {"invalid_request", "payload_too_large", "deadline_exceeded", "forbidden"}
    good = {status: answer for status, answer in answers.items() if int(status) < 400}
    for answer in good.values():
        answer["headers"] = _headers(REQUEST_ID) | answer.get("headers", {})
    operation["responses"] = good | {str(status): answer for status, answer in problems(*sorted(codes)).items()}


def _problem_answer(status: int, codes: Iterable[str]) -> dict[str, Any]:
    here = [code for code in codes if CODES[code][0] == status]
    code = {"properties": {"code": {"enum": here}}}
    return {
        "description": "; ".join(f"`{code}`: {CODES[code][1]}" for code in here),
        "headers": _headers(REQUEST_ID | HEADERS.get(status, {})),
        "content": {MEDIA_TYPE: {"schema": {"allOf": [{"$ref": REF.format(model="ProblemBody")}, code]}}},
        PROBLEM_CODES: here,
    }


def _headers(descriptions: dict[str, str]) -> dict[str, Any]:
    return {
        name: {"description": description, "required": True, "schema": {"type": "string"}}
        for name, description in descriptions.items()
    }


def _schema(model: type[BaseModel]) -> dict[str, Any]:
    schema = model.model_json_schema(ref_template=REF)
    schema.pop("$defs", None)  # FastAPI puts those among the components
    return schema


def _as_form_field(name: str, field: dict[str, Any]) -> dict[str, Any]:
    if name in JSON_FIELDS:
        return {"type": "string", "description": "A JSON object, as in the JSON body."}
    choices = [choice for choice in field.get("anyOf", ()) if choice != {"type": "null"}]  # a form has no null
    rest = {key: value for key, value in field.items() if key not in ("anyOf", "default")}
    return rest | choices[0] if choices else field
