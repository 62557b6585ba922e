"""What commands do with ``--url``: they ask a service in place of this machine's files, and tell the same."""

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, cast

import typer

from app.client import Client, ServiceError, ServiceUnreachable
from app.client_types import Answer, Encoded, EncodeOptions, Job, RebuildOptions, SearchOptions
from app.command_inputs import Input, inputs_of, json_object
from app.failures import RemoteFailed
from app.show import progress

KEY_VARIABLE = "CROSSBIT_API_KEY"  # of the service asked; on the command line every user of the machine could read it


@contextmanager
def connect(url: str) -> Iterator[Client]:
    """A client of the service at ``url``.

    Raises:
        RemoteFailed: it answered with a problem, or not at all.
    """
    try:
        with Client(url, key=os.environ.get(KEY_VARIABLE)) as client:
            yield client
    except ServiceError as error:
        hint = f"; set {KEY_VARIABLE} to one" if error.code in ("unauthorized", "forbidden") else ""
        raise RemoteFailed(f"{url} answered {error.code}: {error}{hint}") from error
    except ServiceUnreachable as error:
        raise RemoteFailed(str(error)) from error


def search(
    url: str, text: str | None, image: Path | None, where: str | None, options: dict[str, Any]
) -> dict[str, Any]:  # Any: JSON
    """The nearest items of one text, image or pair, told as `crossbit search` tells them without a service."""
    if text is None and image is None:
        raise typer.BadParameter("expected --text, --image, or both to fuse them")
    if where is not None:
        options["filter"] = json_object(where)
    with connect(url) as client:
        answer = _ask(client, Input(text, image), cast("SearchOptions", options))
    plan: dict[str, Any] = {"plan": answer["plan"]} if "plan" in answer else {}
    return plan | {
        "hits": [{"text": None, **hit} for hit in answer["hits"]],
        "index": answer["index"],
        "model": answer["model"],
        "total": answer.get("total_within_radius"),
        "more": answer["next_cursor"] is not None,
        "truncated_tokens": answer.get("truncated_tokens", 0),
    }


def encode(
    url: str, texts: Sequence[str], images: Sequence[Path], *, pair: bool, batch_size: int, options: EncodeOptions
) -> dict[str, Any]:  # Any: JSON
    """Codes of texts, image files or pairs, in the order given."""
    inputs = inputs_of(texts, images, pair=pair)
    parts: list[Encoded] = []
    with connect(url) as client, progress("encoding", len(inputs)) as advance:
        for start in range(0, len(inputs), batch_size):
            some = inputs[start : start + batch_size]
            parts.append(_encode(client, some, options))
            advance(len(some))
    return {
        "bits": parts[0]["bits"],
        "fingerprint": parts[0]["fingerprint"],
        "inputs": [str(one) for one in inputs],
        "codes": [code for part in parts for code in part["codes"]],
        "skipped": [],
        "truncated_tokens": sum(sum(part["truncated_tokens"]) for part in parts),
    }


def overview(url: str) -> list[dict[str, Any]]:  # Any: JSON
    """What the service tells of its indexes."""
    with connect(url) as client:
        return [dict(one) for one in client.indexes()]


def show(url: str, name: str) -> dict[str, Any]:  # Any: JSON
    """What the service tells of one index."""
    with connect(url) as client:
        return dict(client.index(name))


def rollback(url: str, name: str, generation: int | None) -> dict[str, Any]:  # Any: JSON
    """Make an earlier generation of the service's index the one that serves."""
    with connect(url) as client:
        return dict(client.rollback(name, generation))


def rebuild(url: str, name: str, options: dict[str, Any]) -> dict[str, Any]:  # Any: JSON
    """Rebuild an index of the service and watch it to its end; Ctrl-C stops watching alone.

    Raises:
        RemoteFailed: the rebuild did not get to its end.
    """
    with connect(url) as client:
        job = client.rebuild(name, **cast("RebuildOptions", options))
        with progress(f"rebuilding {name}", None) as advance:
            done = 0

            def watch(job: Job) -> None:
                nonlocal done
                advance(job["done"] - done)
                done = job["done"]

            job = client.wait(job["id"], watch=watch)
    if job["state"] != "done":
        raise RemoteFailed(f"job {job['id']} {job['state']}: {job.get('error', 'somebody stopped it')}")
    return dict(job)


def _ask(client: Client, asked: Input, options: SearchOptions) -> Answer:
    if asked.image is None:
        return client.search_text(asked.text or "", **options)
    image = _read(asked.image)
    if asked.text is None:
        return client.search_image(image, **options)
    return client.search_pair(image, asked.text, **options)


def _encode(client: Client, inputs: Sequence[Input], options: EncodeOptions) -> Encoded:
    texts = [one.text for one in inputs if one.text is not None]
    images = [_read(one.image) for one in inputs if one.image is not None]
    if not images:
        return client.encode_texts(texts, **options)
    return client.encode_pairs(images, texts, **options) if texts else client.encode_images(images, **options)


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise typer.BadParameter(f"cannot read {path}: {error.strerror}", param_hint="--image") from error
