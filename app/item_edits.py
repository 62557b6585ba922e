"""Appending and deleting items of a served index: on disk before the answer, and in every answer after it.

Items are encoded by the model of the pair that serves, through the same stages as queries. Whether that pair still
serves is looked at under the writer's lock: where another model took over meanwhile, they are encoded again, so a code
never gets among those of another model.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from app.drafts import Draft
from app.item_codes import Parts, images_of, pairs_of, presence_of, share_out, texts_of
from app.logs import Log
from app.queries import Query
from app.runtime import Runtime, Served
from index.editing import Editor, NewItem, editing
from index.errors import ModelMismatch
from index.item_file import JSON
from index.live_items import Codes
from index.staging import IndexedItem
from model.hasher import Hasher, Modality
from model.items import content_hash

ATTEMPTS = 3  # of an append while one model after the other takes over
VARIANT = "text"  # caption variant of the texts that are kept

log = Log(__name__)


@dataclass(frozen=True, slots=True)
class Appended:
    """Where the items went."""

    served: Served  # the pair that encoded them
    position: int
    truncated_tokens: list[int]  # of each item


@dataclass(frozen=True, slots=True)
class _Looked:
    """What is kept of a draft besides itself and its codes."""

    content_hash: str
    thumbnail: bytes | None


async def append_items(runtime: Runtime, query: Query, name: str, drafts: Sequence[Draft]) -> Appended:
    """Encode and append items, each replacing the one of its id: all of them or none.

    Raises:
        Problem: the index is not served, its model does not encode an item, or a queue is full.
        ImageError: an image does not decode, or has too many pixels.
        ModelMismatch: models take over from each other again and again.
        IndexLocked, TooManyEdits: not now.
    """
    looked = await runtime.decoding.run(lambda: [_look_at(draft, runtime) for draft in drafts])
    attempts = 1
    while True:
        served = runtime.index(name)
        try:
            return await _append(runtime, query, served, drafts, looked)
        except ModelMismatch:
            if attempts == ATTEMPTS:
                raise
        attempts += 1
        await runtime.editing.run(lambda: runtime.follow(name))


async def delete_item(runtime: Runtime, name: str, item_id: str) -> tuple[Served, int]:
    """Delete an item; returns the pair that served and the position in the log.

    Raises:
        Problem: the index is not served, or a queue is full.
        ItemNotFound: there is no such item.
        IndexLocked, TooManyEdits: not now.
    """
    served = runtime.index(name)
    position = await _edit(runtime, served, lambda editor: editor.delete([item_id]))
    log.info("items_deleted", index=name, items=1, position=position)
    return served, position


async def _append(
    runtime: Runtime, query: Query, served: Served, drafts: Sequence[Draft], looked: Sequence[_Looked]
) -> Appended:
    codes, truncated = await _encode(query, served, drafts)
    new = [_new_item(*parts) for parts in zip(drafts, looked, codes, strict=True)]
    manifest = served.snapshot.manifest
    position = await _edit(runtime, served, lambda editor: editor.append(new, fingerprint=manifest.fingerprint))
    log.info("items_appended", index=manifest.index, items=len(new), position=position)
    return Appended(served, position, truncated)


async def _edit(runtime: Runtime, served: Served, change: Callable[[Editor], int]) -> int:
    """Write to the log of the index and serve what was written; returns the position."""
    name = served.snapshot.index

    def write() -> int:
        with editing(runtime.settings.indexes_dir / name, known=served.snapshot) as editor:
            position = change(editor)
        runtime.follow(name)
        return position

    return await runtime.editing.run(write)


async def _encode(query: Query, served: Served, drafts: Sequence[Draft]) -> tuple[list[Codes], list[int]]:
    """The codes of each item, and the tokens of its text that did not fit."""
    hasher = _hasher_for(served, drafts)
    parts = [Parts(draft.image, () if draft.text is None else (draft.text,)) for draft in drafts]
    images, texts, pairs = images_of(parts), texts_of(parts), pairs_of(parts)
    batches = {}
    if images:
        batches[Modality.IMAGE] = await query.encode_images(hasher, images)
    if texts:
        batches[Modality.TEXT] = await query.encode_texts(hasher, texts)
    if pairs[0] and Modality.PAIR in hasher.modalities:
        batches[Modality.PAIR] = await query.encode_pairs(hasher, *pairs)
    none = np.empty((0, hasher.bits // 8), dtype=np.uint8)
    made = {one: batches[one].codes if one in batches else none for one in hasher.modalities}
    truncated = iter(batches[Modality.TEXT].truncated_tokens.tolist() if Modality.TEXT in batches else ())
    return share_out(parts, made), [next(truncated, 0) if one.texts else 0 for one in parts]


def _hasher_for(served: Served, drafts: Sequence[Draft]) -> Hasher:
    """The model of the pair, if it encodes all that was sent."""
    parts = {Modality.IMAGE if draft.image is not None else Modality.TEXT for draft in drafts}
    parts |= {Modality.TEXT for draft in drafts if draft.text is not None}
    first, *_ = [served.encoder(modality) for modality in sorted(parts)]
    return first


def _look_at(draft: Draft, runtime: Runtime) -> _Looked:
    from app.building import thumbnail  # brings in pillow

    digest = content_hash(draft.image, draft.text)
    if draft.image is None:
        return _Looked(digest, None)
    image = runtime.decoders.decode(draft.image)
    return _Looked(digest, thumbnail(draft.image, image))


def _new_item(draft: Draft, looked: _Looked, codes: Codes) -> NewItem:
    item = IndexedItem(
        id=draft.id,
        content_hash=looked.content_hash,
        text=draft.text,
        metadata=draft.metadata,
        thumbnail=looked.thumbnail,
        codes=codes,
        presence=presence_of(codes, image=draft.image is not None, text=draft.text is not None),
    )
    texts = [] if draft.text is None else [draft.text]
    document: dict[str, JSON] = {"texts": {VARIANT: texts}, "labels": [], "metadata": draft.metadata}
    return NewItem(item, draft.image, document)
