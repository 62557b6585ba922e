"""Queries to measure with: texts, pictures and codes of the index itself, spread evenly over its items."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import typer
from httpx2 import Request

from index.snapshot import Snapshot

SAMPLE = 64  # different queries of a kind
LIMIT = 10  # hits asked for


@dataclass(frozen=True, slots=True)
class Query:
    """One request, its body as keyword arguments of an HTTP client."""

    path: str
    body: Mapping[str, Any] = field(default_factory=dict)  # Any: JSON or form

    def encode(self) -> tuple[bytes, str]:
        """The body and its content type, as they go over the wire."""
        request = Request("POST", f"http://127.0.0.1{self.path}", **self.body)
        return request.read(), request.headers.get("Content-Type", "application/octet-stream")


@dataclass(frozen=True, slots=True)
class Workload:
    """What is asked of an index, by kind, and what the index is."""

    queries: Mapping[str, Sequence[Query]]
    index: Mapping[str, Any]  # Any: JSON


def read_workload(index_dir: Path) -> Workload:
    """Text, image and code queries; a kind of which the index holds nothing is left out.

    Raises:
        typer.BadParameter: the index is empty.
        SearchError: it cannot be opened.
    """
    with Snapshot.open(index_dir, engine="numpy", verify=False) as snapshot:
        manifest = snapshot.manifest
        if not manifest.items:
            raise typer.BadParameter(f"index {manifest.index!r}: expected items to ask for, found none")
        step = max(1, manifest.items // SAMPLE)
        items = snapshot.items(range(0, manifest.items, step)[:SAMPLE])
        pictures = [picture for item in items if (picture := snapshot.thumbnail(item.id)) is not None]
        options = {"index": manifest.index, "limit": LIMIT}
        targets = {kind: _target(snapshot.columns, wanted) for kind, wanted in TARGETS.items()}
    texts = [item.text for item in items if item.text]
    codes = [code for item in items for codes in item.codes.values() for code in codes[:1]]
    queries = {
        "text": [_json("text", {**options, "target": targets["text"], "query": text}) for text in texts],
        "image": [_form({**options, "target": targets["image"]}, picture) for picture in pictures],
        "code": [_json("code", {**options, "target": targets["code"], "codes": [code]}) for code in codes],
    }
    facts = {key: getattr(manifest, key) for key in ("artifact", "bits", "generation", "items")}
    return Workload({kind: some for kind, some in queries.items() if some}, {"name": manifest.index, **facts})


TARGETS = {"text": "image", "image": "text", "code": "image"}  # the columns that are asked where the index has them


def _target(columns: Sequence[str], wanted: str) -> str:
    return wanted if wanted in columns else columns[0]


def _json(kind: str, body: Mapping[str, Any]) -> Query:  # Any: JSON
    return Query(f"/v1/search/{kind}", {"json": body})


def _form(fields: Mapping[str, Any], picture: bytes) -> Query:  # Any: JSON
    return Query("/v1/search/image", {"data": fields, "files": {"file": ("picture.webp", picture, "image/webp")}})
