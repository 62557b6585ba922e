"""Activating a generation of any model without losing an edit, while others go on appending and deleting.

A generation holds the edits up to its ``log_position``; those after it come on top. Deletes, and appends by its own
model, count as they are. What another model encoded, such as the one that served meanwhile, waits for codes
(``Snapshot.pending``), and gets them in two steps. ``catch_up`` encodes in rounds and holds no lock, as more may be
appended all the while. ``activate`` holds the writer's lock, which every edit and every swap takes: it encodes the few
that came since and moves the pointer, so no edit falls between.

The codes are written as further appends of the same items, and only of what still waits under the lock with the
content that was encoded: what was replaced or deleted meanwhile stays so. The generation that serves passes over them,
and a process that dies on the way leaves nothing else behind: the next one goes on with what still waits.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TypeAlias

from index.edit_log import EditLog
from index.generations import IndexDirectory
from index.lock import writing
from index.manifest import Pointer
from index.records import Append
from index.snapshot import Snapshot

FEW = 32  # items that may be encoded while writers wait
ROUNDS = 8  # where more is appended all the time than gets codes, writers have to wait in the end
CHUNK = 256  # items between two writes

Encode: TypeAlias = Callable[[Sequence[Append]], Sequence[Append]]  # those that it can, with codes of the new model


def catch_up(index_dir: Path, generation: int, encode: Encode) -> None:
    """Give codes to what waits for them in a generation that does not serve yet, until few items do.

    Raises:
        GenerationNotFound, IndexCorrupt, IndexFormatUnsupported: as for ``Snapshot.open``.
        IndexLocked: another writer is at work all the time.
        OSError: the disk is full or fails.
    """
    for _ in range(ROUNDS):
        with _opened(index_dir, generation) as snapshot:
            waiting = snapshot.pending
        if len(waiting) <= FEW:
            return
        for start in range(0, len(waiting), CHUNK):
            made = encode(waiting[start : start + CHUNK])
            with writing(index_dir), _opened(index_dir, generation) as snapshot:
                _write(index_dir, snapshot, made)


def activate(index_dir: Path, generation: int, encode: Encode) -> Pointer:
    """Make a generation the one that serves, with codes for all that was appended until this moment.

    Raises:
        GenerationNotFound, IndexCorrupt, IndexFormatUnsupported, IndexLocked, OSError: the pointer did not move.
    """
    with writing(index_dir):
        with _opened(index_dir, generation) as snapshot:
            if snapshot.pending:
                _write(index_dir, snapshot, encode(snapshot.pending))
        return IndexDirectory(index_dir).point_to(generation)


def _opened(index_dir: Path, generation: int) -> Snapshot:
    return Snapshot.open(index_dir, generation, engine="numpy", verify=False)


def _write(index_dir: Path, snapshot: Snapshot, made: Sequence[Append]) -> None:
    """Append the codes of what still waits in the snapshot, which was opened under the writer's lock."""
    by_content = {(one.id, one.content_hash): one for one in made}
    due = [(record, by_content.get((record.id, record.content_hash))) for record in snapshot.pending]
    encoded = [
        replace(record, fingerprint=one.fingerprint, codes=one.codes, presence=one.presence)
        for record, one in due
        if one is not None
    ]
    if encoded:
        numbered = [replace(record, position=snapshot.position + n) for n, record in enumerate(encoded, start=1)]
        EditLog(index_dir).write(snapshot.end, numbered)
