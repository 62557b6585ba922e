"""Writing a data archive: the same items and images give the same bytes, and a reader never sees half of one."""

import json
import zipfile
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import IO

from model.durable import replacing
from model.errors import ArchiveError
from model.items import FORMAT, ArchiveInfo, Item

_TIMESTAMP = (1980, 1, 1, 0, 0, 0)  # the earliest that a zip file can hold


def write_archive(path: Path, info: ArchiveInfo, items: Sequence[Item], read_image: Callable[[Item], bytes]) -> None:
    """Write items and their images to ``path``, replacing what was there only once everything is on disk.

    Images are asked for one at a time, in item-id order, and stored as they are; JSON is deflated.

    Raises:
        ArchiveError: two items share an id.
    """
    ordered = sorted(items, key=lambda item: item.id)
    if len({item.id for item in ordered}) != len(ordered):
        raise ArchiveError(f"expected different ids for the {len(ordered):,} items of {path}, found repeats")
    with replacing(path) as temporary, temporary.open("wb") as file:
        _write_zip(file, info, ordered, read_image)


def _write_zip(file: IO[bytes], info: ArchiveInfo, items: Sequence[Item], read_image: Callable[[Item], bytes]) -> None:
    with zipfile.ZipFile(file, "w") as archive:
        _add(archive, "dataset.json", _line({"format": FORMAT, **asdict(info)}), zipfile.ZIP_DEFLATED)
        lines = b"".join(_line(asdict(item)) for item in items)
        _add(archive, "items.jsonl", lines, zipfile.ZIP_DEFLATED)
        for item in items:
            if item.image is not None:
                _add(archive, item.image, read_image(item), zipfile.ZIP_STORED)


def _add(archive: zipfile.ZipFile, name: str, data: bytes, compression: int) -> None:
    entry = zipfile.ZipInfo(name, _TIMESTAMP)
    entry.compress_type = compression
    entry.create_system = 3  # Unix, wherever this runs
    entry.external_attr = 0o644 << 16
    archive.writestr(entry, data, compresslevel=9)


def _line(value: dict[str, object]) -> bytes:
    # ASCII only: readers split lines, and Unicode has line separators of its own
    return json.dumps(value, sort_keys=True, ensure_ascii=True).encode() + b"\n"
