"""What `crossbit encode` and `crossbit search` do."""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import typer
from PIL.Image import Image

from app.lookup import find_artifact, find_index
from app.rebuild_steps import LoadHasher
from app.settings import Settings
from app.show import progress
from index.codes import to_hex
from index.live_items import StoredItem
from index.ranking import RankedHit
from index.snapshot import Snapshot
from model.bulk import Bulk, encode_in_bulk, is_visible
from model.hasher import EncodedBatch, Hasher, Modality
from model.images import decode_image

ACROSS = {Modality.TEXT: Modality.IMAGE, Modality.IMAGE: Modality.TEXT}  # what a query finds when nothing is said


def encode(
    settings: Settings,
    load_hasher: LoadHasher,
    *,
    artifact: str | None,
    bits: int,
    texts: Sequence[str],
    images: Sequence[Path],
    batch_size: int,
) -> dict[str, Any]:  # Any: JSON
    """Codes of texts or of image files, in the order given; a folder stands for every file below it.

    A single input that cannot be encoded is an error; among several it is left out, listed with its reason.

    Raises:
        typer.BadParameter: texts as well as images, neither, or none of the inputs can be encoded.
    """
    if bool(texts) == bool(images):
        raise typer.BadParameter("expected either --text or --image, each as often as you like")
    name = find_artifact(settings, artifact)
    hasher = load_hasher(settings.artifacts_dir / name, bits, settings.device)
    if len(texts) == 1 or (len(images) == 1 and not images[0].is_dir()):
        codes = _encoded(hasher, texts, images).codes
        found = Bulk([*texts, *map(str, images)], codes, 0, [])
    else:
        inputs: Sequence[str | Path] = texts or list(_files(images))
        with progress("encoding", len(inputs)) as advance:
            found = encode_in_bulk(
                hasher, inputs, _image_or_text, batch=batch_size, workers=settings.threads, advance=advance
            )
        if not found.ids:
            reasons = "; ".join(f"{one.id}: {one.reason}" for one in found.skipped[:3]) or "no files there"
            raise typer.BadParameter(f"expected inputs that can be encoded, found none ({reasons})")
    return {
        "bits": hasher.bits,
        "fingerprint": hasher.fingerprint,
        "inputs": found.ids,
        "codes": [to_hex(code) for code in found.codes],
        "skipped": [asdict(one) for one in found.skipped],
    }


def search(
    settings: Settings,
    load_hasher: LoadHasher,
    *,
    index: str | None,
    text: str | None,
    image: Path | None,
    target: str | None,
    limit: int,
    radius: int | None,
    where: str | None,
    explain: bool,
) -> dict[str, Any]:  # Any: JSON
    """The nearest items of one text or image, told as the HTTP API does."""
    if (text is None) == (image is None):
        raise typer.BadParameter("expected one of --text and --image")
    path = find_index(settings, index)
    with Snapshot.open(path, engine=settings.engine, verify=False) as snapshot:
        manifest = snapshot.manifest
        artifact_dir = settings.artifacts_dir / find_artifact(settings, manifest.artifact)
        hasher = load_hasher(artifact_dir, manifest.bits, settings.device)
        texts, images = [] if text is None else [text], [] if image is None else [image]
        answer = snapshot.search(
            target or ACROSS[Modality.TEXT if texts else Modality.IMAGE],
            _encoded(hasher, texts, images).codes,
            k=None,
            radius=radius,
            limit=limit,
            filter=None if where is None else snapshot.filter(_json_object(where)),
            fingerprint=hasher.fingerprint,
        )[0]
        stored = snapshot.items([hit.row for hit in answer.hits])
    plan = {"plan": asdict(answer.plan)} if explain and answer.plan is not None else {}
    return plan | {
        "hits": [_hit(hit, item, manifest.bits) for hit, item in zip(answer.hits, stored, strict=True)],
        "index": {"name": manifest.index, "generation": manifest.generation},
        "model": {"name": manifest.artifact, "fingerprint": manifest.fingerprint},
        "total": answer.total,
        "more": answer.more,
    }


def _files(paths: Sequence[Path]) -> Iterator[Path]:
    """The files themselves, and those below the folders in the order of their names."""
    for path in paths:
        yield from sorted(file for file in path.rglob("*") if file.is_file()) if path.is_dir() else [path]


def _image_or_text(one: str | Path) -> Image | str:
    return one if isinstance(one, str) else decode_image(one.read_bytes())


def _encoded(hasher: Hasher, texts: Sequence[str], images: Sequence[Path]) -> EncodedBatch:
    if not all(map(is_visible, texts)):
        raise typer.BadParameter("expected a text with words in it, found an empty one", param_hint="--text")
    return hasher.encode_texts(texts) if texts else hasher.encode_images([decode_image(_read(path)) for path in images])


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise typer.BadParameter(f"cannot read {path}: {error.strerror}", param_hint="--image") from error


def _json_object(text: str) -> Mapping[str, object]:
    try:
        value = json.loads(text)
    except ValueError as error:
        raise typer.BadParameter(f"expected a JSON object, but {error}", param_hint="--filter") from error
    if not isinstance(value, dict):
        raise typer.BadParameter('expected a JSON object such as {"labels": "animal"}', param_hint="--filter")
    return value


def _hit(hit: RankedHit, item: StoredItem, bits: int) -> dict[str, Any]:  # Any: JSON
    tie = {"first_rank": hit.tie.first_rank, "last_rank": hit.tie.last_rank, "size": hit.tie.size}
    return {
        "id": item.id,
        "distance": hit.distance,
        "similarity": 1 - hit.distance / bits,
        "rank": hit.rank,
        "tie": tie,
        "text": item.text,
        "metadata": item.metadata,
    }
