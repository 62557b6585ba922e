"""Where answers lead: the OpenAPI links from what makes a thing to what shows, follows, finds and ends it."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any  # Any: OpenAPI is JSON

Operation = tuple[str, str]  # method, path

REBUILD: Operation = ("post", "/v1/indexes/{name}/rebuild")
ROLLBACK: Operation = ("post", "/v1/indexes/{name}/rollback")
INDEX: Operation = ("get", "/v1/indexes/{name}")
APPEND: Operation = ("post", "/v1/indexes/{name}/items")
ITEM: Operation = ("get", "/v1/indexes/{name}/items/{item_id}")
PICTURE: Operation = ("get", "/v1/indexes/{name}/items/{item_id}/image")
DELETE: Operation = ("delete", "/v1/indexes/{name}/items/{item_id}")
SEARCH: Operation = ("post", "/v1/search/item")
JOB: Operation = ("get", "/v1/jobs/{job_id}")
EVENTS: Operation = ("get", "/v1/jobs/{job_id}/events")
CANCEL: Operation = ("post", "/v1/jobs/{job_id}/cancel")


@dataclass(frozen=True, slots=True)
class Link:
    """From a good answer of ``source`` to ``target``, with runtime expressions for its parameters and body."""

    source: Operation
    name: str
    target: Operation
    parameters: Mapping[str, str] = field(default_factory=dict)
    body: Mapping[str, str] | None = None


JOB_ID = {"job_id": "$response.body#/id"}
NAME = {"name": "$request.path.name"}
FIRST = "$request.body#/items/0/id"  # of what was appended as JSON
STORED = {"name": "$request.path.name", "item_id": "$request.path.item_id"}

LINKS = (
    Link(REBUILD, "job", JOB, JOB_ID),
    Link(REBUILD, "events", EVENTS, JOB_ID),
    Link(REBUILD, "cancel", CANCEL, JOB_ID),
    Link(CANCEL, "job", JOB, JOB_ID),
    Link(CANCEL, "events", EVENTS, JOB_ID),
    Link(JOB, "index", INDEX, {"name": "$response.body#/index"}),
    Link(APPEND, "item", ITEM, NAME | {"item_id": FIRST}),
    Link(APPEND, "delete", DELETE, NAME | {"item_id": FIRST}),
    Link(APPEND, "search", SEARCH, body={"index": "$request.path.name", "item_id": FIRST, "column": "text"}),
    Link(APPEND, "rebuild", REBUILD, NAME),
    Link(ITEM, "picture", PICTURE, STORED),
    Link(ITEM, "delete", DELETE, STORED),
    Link(ITEM, "search", SEARCH, body={"index": "$request.path.name", "item_id": "$response.body#/id"}),
    Link(DELETE, "append", APPEND, NAME),
    Link(DELETE, "rebuild", REBUILD, NAME),
    Link(INDEX, "rebuild", REBUILD, NAME),
    Link(INDEX, "rollback", ROLLBACK, NAME),
)


def add_links(paths: dict[str, Any]) -> None:
    """Put the links into the paths of a document that has all operations."""
    for link in LINKS:
        (method, path), (target_method, target_path) = link.source, link.target
        answers = paths[path][method]["responses"]
        good = next(status for status in answers if int(status) < 300)
        entry: dict[str, Any] = {"operationId": paths[target_path][target_method]["operationId"]}
        if link.parameters:
            entry["parameters"] = dict(link.parameters)
        if link.body is not None:
            entry["requestBody"] = dict(link.body)
        answers[good].setdefault("links", {})[link.name] = entry
