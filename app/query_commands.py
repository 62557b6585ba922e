"""What `crossbit encode` and `crossbit search` do."""

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import typer

from app.command_inputs import Input, encode_one, inputs_of, json_object, keyword_hasher, require
from app.engines import Engines
from app.lookup import find_artifact, find_index
from app.rebuild_steps import LoadHasher
from app.settings import Settings
from app.show import progress
from index.codes import to_hex
from index.live_items import StoredItem
from index.manifest import PAIR
from index.ranking import RankedHit
from index.snapshot import Snapshot
from model.bulk import Bulk, encode_in_bulk
from model.hasher import Hasher, Modality

# what a query finds when nothing is said; keywords are a kind of text
ACROSS = {Modality.TEXT: Modality.IMAGE, Modality.IMAGE: Modality.TEXT, Modality.PAIR: Modality.PAIR}


def encode(
    settings: Settings,
    load_hasher: LoadHasher,
    *,
    artifact: str | None,
    bits: int,
    texts: Sequence[str],
    images: Sequence[Path],
    keywords: Sequence[str],
    pair: bool,
    batch_size: int,
) -> dict[str, Any]:  # Any: JSON
    """Codes of texts, of image files or of pairs, in the order given; a folder stands for every file below it.

    A single input that cannot be encoded is an error; among several it is left out, listed with its reason. Keywords
    are all encoded, or refused.

    Raises:
        typer.BadParameter: inputs that do not go together, or none that can be encoded.
        ModalityError: the model does not encode such inputs.
        KeywordError: a keyword is no class of the model.
    """
    if keywords and (texts or images):
        raise typer.BadParameter("expected --keywords without --text and --image", param_hint="--keywords")
    if keywords:
        name = find_artifact(settings, artifact)
        hasher = load_hasher(settings.artifacts_dir / name, bits, settings.device)
        encoded = keyword_hasher(hasher, name).encode_keywords(keywords)
        return _codes(hasher, Bulk(list(keywords), encoded.codes, 0, []))
    inputs = inputs_of(texts, images, pair=pair)
    name = find_artifact(settings, artifact)
    hasher = load_hasher(settings.artifacts_dir / name, bits, settings.device)
    require(hasher, Modality.PAIR if pair else Modality.TEXT if texts else Modality.IMAGE, name)
    if len(inputs) == 1 and not any(path.is_dir() for path in images):
        encoded = encode_one(hasher, inputs[0])
        found = Bulk([str(inputs[0])], encoded.codes, int(encoded.truncated_tokens.sum()), [])
    else:
        with progress("encoding", len(inputs)) as advance:
            found = encode_in_bulk(
                hasher, inputs, Input.read, batch=batch_size, workers=settings.threads, advance=advance
            )
        if not found.ids:
            reasons = "; ".join(f"{one.id}: {one.reason}" for one in found.skipped[:3]) or "no files there"
            raise typer.BadParameter(f"expected inputs that can be encoded, found none ({reasons})")
    return _codes(hasher, found)


def _codes(hasher: Hasher, found: Bulk) -> dict[str, Any]:  # Any: JSON
    return {
        "bits": hasher.bits,
        "fingerprint": hasher.fingerprint,
        "inputs": found.ids,
        "codes": [to_hex(code) for code in found.codes],
        "skipped": [asdict(one) for one in found.skipped],
        "truncated_tokens": found.truncated_tokens,
    }


def search(
    settings: Settings,
    load_hasher: LoadHasher,
    *,
    index: str | None,
    text: str | None,
    image: Path | None,
    keywords: str | None,
    target: str | None,
    limit: int,
    radius: int | None,
    where: str | None,
    explain: bool,
) -> dict[str, Any]:  # Any: JSON
    """The nearest items of one text, image, pair of both, or set of classes, told as the HTTP API does."""
    if (text is None and image is None) == (keywords is None):
        raise typer.BadParameter("expected --text, --image, or both to fuse them; or --keywords alone")
    asked = Input(text, image)
    path = find_index(settings, index)
    with Snapshot.open(path, engine=Engines(settings).of(path.name), verify=False) as snapshot:
        manifest = snapshot.manifest
        artifact_dir = settings.artifacts_dir / find_artifact(settings, manifest.artifact)
        hasher = load_hasher(artifact_dir, manifest.bits, settings.device)
        if keywords is None:
            require(hasher, asked.modality, manifest.artifact)
            encoded = encode_one(hasher, asked)
        else:
            encoded = keyword_hasher(hasher, manifest.artifact).encode_keywords([keywords])
        column = target or ACROSS[asked.modality].value
        answer = snapshot.search(
            column,
            encoded.codes,
            k=None,
            radius=radius,
            limit=limit,
            filter=None if where is None else snapshot.filter(json_object(where)),
            fingerprint=hasher.fingerprint,
        )[0]
        stored = snapshot.items([hit.row for hit in answer.hits])
    plan = {"plan": asdict(answer.plan)} if explain and answer.plan is not None else {}
    return plan | {
        "hits": [_hit(hit, item, column, manifest.bits) for hit, item in zip(answer.hits, stored, strict=True)],
        "index": {"name": manifest.index, "generation": manifest.generation},
        "model": {"name": manifest.artifact, "fingerprint": manifest.fingerprint},
        "total": answer.total,
        "more": answer.more,
        "truncated_tokens": int(encoded.truncated_tokens[0]),
    }


def _hit(hit: RankedHit, item: StoredItem, column: str, bits: int) -> dict[str, Any]:  # Any: JSON
    tie = {"first_rank": hit.tie.first_rank, "last_rank": hit.tie.last_rank, "size": hit.tie.size}
    told = {
        "id": item.id,
        "distance": hit.distance,
        "similarity": 1 - hit.distance / bits,
        "rank": hit.rank,
        "tie": tie,
        "text": item.text,
        "metadata": item.metadata,
    }
    if column == PAIR and item.presence:
        told["presence"] = item.presence.parts()
    return told
