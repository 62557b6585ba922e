"""The records of the log, and the frames that hold them: length-prefixed, checksummed, whole or not there.

A frame is a header of three little-endian 32-bit numbers (payload length, CRC-32 of the payload, CRC-32 of the eight
bytes before) and the payload, JSON in UTF-8. One frame holds what one call wrote, so a call is in the log as a whole
or not at all. JSON holds no zero byte: a last frame with a block of zeros was cut off by a power failure before the
call returned, while any other mismatch is damage.
"""

import json
import struct
import zlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

from index.durable import write_atomically
from index.errors import IndexCorrupt, InvalidItem
from index.item_file import JSON
from index.presence import Presence

HEAD = struct.Struct("<III")
MAX_PAYLOAD = 64 * 2**20  # bytes
FRAME_RECORDS = 256  # of a file that is written as a whole
UNWRITTEN = bytes(16)


@dataclass(frozen=True, slots=True)
class Append:
    """An item was appended, or replaced the one of the same id."""

    position: int
    id: str
    fingerprint: str  # of the model that made the codes
    content_hash: str
    text: str | None
    metadata: Mapping[str, JSON]
    codes: Mapping[str, bytes]  # modality -> n codes, one after the other
    original: str  # digest of the document: texts, labels, metadata and image of the item
    image: str | None  # digest of the image file
    thumbnail: str | None  # digest of the WebP
    presence: Presence = Presence.NONE  # what the pair codes were made from


@dataclass(frozen=True, slots=True)
class Delete:
    """An item was deleted."""

    position: int
    id: str


Record: TypeAlias = Append | Delete


def frame(payload: object) -> bytes:
    """One frame.

    Raises:
        InvalidItem: more than ``MAX_PAYLOAD`` bytes.
    """
    data = json.dumps(payload, sort_keys=True, ensure_ascii=False, separators=(",", ":")).encode()
    if len(data) > MAX_PAYLOAD:
        raise InvalidItem(
            f"expected at most {MAX_PAYLOAD:,} bytes of texts, metadata and codes in one call, found {len(data):,}; "
            "append fewer items at a time"
        )
    start = struct.pack("<II", len(data), zlib.crc32(data))
    return start + struct.pack("<I", zlib.crc32(start)) + data


def write_records(path: Path, records: Sequence[Record]) -> None:
    """Write records to a file of their own, durably."""
    write_atomically(path, frame_all(records))


def read_records(path: Path) -> list[Record]:
    """The records that ``write_records`` wrote.

    Raises:
        IndexCorrupt: the file is damaged.
    """
    payloads, _ = split_frames(path.read_bytes(), path)
    return [record for payload in payloads for record in parse_records(payload, path)]


def frame_all(records: Sequence[Record]) -> bytes:
    """Frames that hold these records together, however many there are."""
    chunks = (records[start : start + FRAME_RECORDS] for start in range(0, len(records), FRAME_RECORDS))
    return b"".join(map(frame_records, chunks))


def frame_records(records: Iterable[Record]) -> bytes:
    """One frame that holds these records."""
    return frame([_raw(record) for record in records])


def split_frames(data: bytes, path: Path, start: int = 0) -> tuple[list[Any], int]:  # Any: JSON
    """The payloads of the frames in ``data``, read from offset ``start`` of the file, and the offset of their end.

    A frame at the end that was cut off is left out.

    Raises:
        IndexCorrupt: a frame is damaged; the message names file and offset.
    """
    payloads: list[Any] = []
    offset = 0
    while offset < len(data):
        head = data[offset : offset + HEAD.size]
        if len(head) < HEAD.size:
            break
        length, payload_crc, head_crc = HEAD.unpack(head)
        end = offset + HEAD.size + length
        if zlib.crc32(head[:8]) != head_crc:
            if head[-1] == 0 and not any(data[offset + HEAD.size :]):
                break
            raise _damaged(path, start + offset, "its header does not match its checksum")
        if end > len(data):
            break
        payload = data[offset + HEAD.size : end]
        if zlib.crc32(payload) != payload_crc:
            if end == len(data) and (payload.endswith(b"\0") or UNWRITTEN in payload):
                break
            raise _damaged(path, start + offset, "it does not match its checksum")
        payloads.append(json.loads(payload))
        offset = end
    return payloads, start + offset


def parse_records(payload: object, path: Path) -> list[Record]:
    """The records of one frame's payload.

    Raises:
        IndexCorrupt: they are not records.
    """
    try:
        if not isinstance(payload, Sequence):
            raise TypeError("not a list")
        return [_record(raw) for raw in payload]
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise IndexCorrupt(f"{path} holds a frame that is no list of records: {error!r}; restore it") from error


def effective(records: Iterable[Record], fingerprint: str, known: Mapping[str, Record]) -> dict[str, Record]:
    """By id, the record that counts for a generation of this model, after ``known``: the last one.

    Where the last one is by another model, an earlier one by this model counts if it was made from the same original.
    """
    found = dict(known)
    for record in records:
        held = found.get(record.id)
        if (
            isinstance(record, Append)
            and isinstance(held, Append)
            and held.fingerprint == fingerprint != record.fingerprint
            and held.original == record.original
        ):
            continue
        found[record.id] = record
    return found


def _raw(record: Record) -> dict[str, Any]:  # Any: JSON
    if isinstance(record, Delete):
        return {"kind": "delete", "position": record.position, "id": record.id}
    presence = {"presence": int(record.presence)} if record.presence else {}
    return presence | {
        "kind": "append",
        "position": record.position,
        "id": record.id,
        "fingerprint": record.fingerprint,
        "content_hash": record.content_hash,
        "text": record.text,
        "metadata": record.metadata,
        "codes": {modality: codes.hex() for modality, codes in record.codes.items()},
        "original": record.original,
        "image": record.image,
        "thumbnail": record.thumbnail,
    }


def _record(raw: dict[str, Any]) -> Record:  # Any: JSON
    kind = raw.pop("kind")
    if kind == "delete":
        return Delete(**raw)
    if kind != "append":
        raise ValueError(f"kind {kind!r}")
    codes = {name: bytes.fromhex(codes) for name, codes in raw["codes"].items()}
    return Append(**(raw | {"codes": codes, "presence": Presence(raw.get("presence", 0))}))


def _damaged(path: Path, offset: int, what: str) -> IndexCorrupt:
    return IndexCorrupt(f"{path}: the record at offset {offset:,} is damaged, {what}; restore the file")
