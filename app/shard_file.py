"""Encoded items on disk between two steps of a rebuild: one JSON object a line, binary parts in hex and base64."""

import base64
import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from index.codes import from_hex, to_hex
from index.durable import write_atomically
from index.presence import Presence
from index.writer import IndexedItem


def write_shard(path: Path, items: Iterable[IndexedItem]) -> None:
    """Write the items durably; afterwards the file is whole or was never there."""
    write_atomically(path, "".join(json.dumps(_to_json(item), sort_keys=True) + "\n" for item in items).encode())


def read_shard(path: Path, bits: int) -> Iterator[IndexedItem]:
    """The items as they were written, one at a time."""
    with path.open(encoding="utf-8") as lines:
        for line in lines:
            yield _from_json(json.loads(line), bits)


def _to_json(item: IndexedItem) -> dict[str, object]:
    return {
        "id": item.id,
        "content_hash": item.content_hash,
        "text": item.text,
        "metadata": dict(item.metadata),
        "thumbnail": None if item.thumbnail is None else base64.b64encode(item.thumbnail).decode(),
        "codes": {modality: [to_hex(code) for code in codes] for modality, codes in item.codes.items()},
        "presence": int(item.presence),
    }


def _from_json(raw: dict[str, Any], bits: int) -> IndexedItem:  # Any: JSON
    thumbnail = raw["thumbnail"]
    return IndexedItem(
        id=raw["id"],
        content_hash=raw["content_hash"],
        text=raw["text"],
        metadata=raw["metadata"],
        thumbnail=None if thumbnail is None else base64.b64decode(thumbnail),
        codes={name: np.stack([from_hex(code, bits) for code in codes]) for name, codes in raw["codes"].items()},
        presence=Presence(raw.get("presence", 0)),  # a job of an earlier version has none, and no pair codes
    )
