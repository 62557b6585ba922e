"""What FastAPI cannot read off a signature: bodies that are a form or JSON, and the problem body of every error."""

from typing import Any  # Any: OpenAPI is JSON

from pydantic import BaseModel

from app.inputs import FORM, JSON
from app.problems import MEDIA_TYPE
from app.schemas.base import ProblemBody

PROBLEM_RESPONSES: dict[int | str, dict[str, Any]] = {
    "default": {
        "description": "A problem: `code` names it, `detail` says what was expected, what was found and what to do.",
        "content": {MEDIA_TYPE: {"schema": ProblemBody.model_json_schema()}},
    }
}


def image_body(fields: type[BaseModel], body: type[BaseModel] | None = None) -> dict[str, Any]:
    """A request body of image files in a form with ``fields``, or of one image in JSON as ``body``."""
    form = fields.model_json_schema()
    file = {"type": "array", "items": {"type": "string", "format": "binary"}, "description": "Image files."}
    filter_text = {"type": "string", "description": "A JSON object, as in the JSON body."}
    form["properties"] = {"file": file, **form["properties"]}
    if "filter" in form["properties"]:
        form["properties"]["filter"] = filter_text
    form["required"] = ["file", *form.get("required", ())]
    content: dict[str, Any] = {FORM: {"schema": form}}
    if body is not None:
        content[JSON] = {"schema": body.model_json_schema()}
    return {"requestBody": {"required": True, "content": content}}
