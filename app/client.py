"""A client of the HTTP API, to be called or awaited. It needs httpx2 and nothing else that Crossbit is made of.

    with Client("http://127.0.0.1:8000") as client:
        answer = client.search_text("a slice of pizza", limit=5)

``Client`` and ``AsyncClient`` have the same calls. Where the service is full (429) they wait as it says and ask again.
Every call raises ``ServiceError`` where the service answers with a problem, and ``ServiceUnreachable`` where nothing
answers. Calls that change something need a key with the role admin.
"""

import asyncio
import time
from collections.abc import Callable, Sequence
from types import TracebackType
from typing import Self, Unpack

import httpx2

from app import client_calls as calls
from app.client_calls import Call, Image, ServiceError, ServiceUnreachable, T
from app.client_types import (
    Answer,
    Appended,
    Deleted,
    Draft,
    Encoded,
    EncodeOptions,
    IndexBody,
    IndexSummary,
    Item,
    Job,
    Modality,
    Model,
    Pointer,
    RebuildOptions,
    SearchOptions,
)

__all__ = ["AsyncClient", "Client", "ServiceError", "ServiceUnreachable"]

FINAL = ("done", "failed", "cancelled")
Watch = Callable[[Job], None]
RETRIES = 5  # of a call that finds the service full
TIMEOUT_S = 60.0


def unwatched(job: Job) -> None:
    """For those who wait for a job and do not look."""


class Client:
    """Calls that wait for the answer. Safe for many threads."""

    def __init__(
        self,
        url: str,
        *,
        key: str | None = None,
        timeout_s: float = TIMEOUT_S,
        retries: int = RETRIES,
        transport: httpx2.BaseTransport | None = None,
    ) -> None:
        """``key`` is an API key of the service."""
        self._retries = retries
        self._http = httpx2.Client(base_url=url, headers=calls.headers(key), timeout=timeout_s, transport=transport)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Let go of the connections."""
        self._http.close()

    def search_text(self, text: str, **options: Unpack[SearchOptions]) -> Answer:
        """Items near a text; images, where no target is named."""
        return self._run(calls.search("text", {"query": text}, options))

    def search_texts(self, texts: Sequence[str], **options: Unpack[SearchOptions]) -> list[Answer]:
        """As ``search_text`` for each of several texts, in one request."""
        return self._run(calls.search_several("text", {"queries": list(texts)}, options))

    def search_image(self, image: Image, **options: Unpack[SearchOptions]) -> Answer:
        """Items near an image; texts, where no target is named."""
        return (self._run(calls.search_files("image", [image], options)))[0]

    def search_images(self, images: Sequence[Image], **options: Unpack[SearchOptions]) -> list[Answer]:
        """As ``search_image`` for each of several images, in one request."""
        return self._run(calls.search_files("image", images, options))

    def search_pair(self, image: Image, text: str, **options: Unpack[SearchOptions]) -> Answer:
        """Items near an image with words that refine it, for models that fuse."""
        return (self._run(calls.search_files("pair", [image], {"text": text, **options})))[0]

    def search_code(self, code: str, fingerprint: str | None = None, **options: Unpack[SearchOptions]) -> Answer:
        """Items near a code (hex); with ``fingerprint`` an index of another model refuses it."""
        return self._run(calls.search("code", {"codes": [code], **calls.given(fingerprint=fingerprint)}, options))

    def search_item(self, item_id: str, column: Modality = "image", **options: Unpack[SearchOptions]) -> Answer:
        """Items like a stored one, by its code of a column."""
        return self._run(calls.search("item", {"item_id": item_id, "column": column}, options))

    def encode_texts(self, texts: Sequence[str], **options: Unpack[EncodeOptions]) -> Encoded:
        """Codes of texts."""
        return self._run(calls.encode_texts(texts, options))

    def encode_images(self, images: Sequence[Image], **options: Unpack[EncodeOptions]) -> Encoded:
        """Codes of images."""
        return self._run(calls.encode_files("image", images, options))

    def encode_pairs(self, images: Sequence[Image], texts: Sequence[str], **options: Unpack[EncodeOptions]) -> Encoded:
        """Codes of images fused with a text each, or with one for all of them."""
        return self._run(calls.encode_files("pair", images, {"text": list(texts), **options}))

    def indexes(self) -> list[IndexSummary]:
        """What is served."""
        return self._run(calls.listed(IndexSummary, "indexes"))

    def index(self, name: str) -> IndexBody:
        """One index in full."""
        return self._run(calls.one(IndexBody, "indexes", name))

    def item(self, index: str, item_id: str) -> Item:
        """One stored item."""
        return self._run(calls.one(Item, "indexes", index, "items", item_id))

    def thumbnail(self, index: str, item_id: str) -> bytes:
        """The stored picture of an item, WebP."""
        return self._run(calls.picture(index, item_id))

    def append(self, index: str, items: Sequence[Draft]) -> Appended:
        """Add items, each in the place of the one that has its id: all or none, and on disk before the answer."""
        return self._run(calls.append(index, items))

    def delete(self, index: str, item_id: str) -> Deleted:
        """Delete an item, on disk before the answer."""
        return self._run(calls.delete(index, item_id))

    def models(self) -> list[Model]:
        """What encodes."""
        return self._run(calls.listed(Model, "models"))

    def rebuild(self, index: str, *, idempotency_key: str | None = None, **options: Unpack[RebuildOptions]) -> Job:
        """Start a rebuild; the same key gives the same job."""
        return self._run(
            calls.change(Job, "indexes", index, "rebuild", options=options, idempotency_key=idempotency_key)
        )

    def rollback(self, index: str, generation: int | None = None) -> Pointer:
        """Serve an earlier generation, by default the newest one below the current."""
        return self._run(
            calls.change(Pointer, "indexes", index, "rollback", options=calls.given(generation=generation))
        )

    def jobs(self) -> list[Job]:
        """Rebuilds, newest first."""
        return self._run(calls.listed(Job, "jobs"))

    def job(self, job_id: str) -> Job:
        """One rebuild as it stands."""
        return self._run(calls.one(Job, "jobs", job_id))

    def cancel(self, job_id: str) -> Job:
        """Stop a rebuild."""
        return self._run(calls.change(Job, "jobs", job_id, "cancel"))

    def wait(self, job_id: str, *, poll_s: float = 0.5, watch: Watch = unwatched) -> Job:
        """The rebuild once it is done, failed or cancelled; ``watch`` hears how it stands each time it is asked."""
        while True:
            job = self.job(job_id)
            watch(job)
            if job["state"] in FINAL:
                return job
            time.sleep(poll_s)

    def _run(self, call: Call[T]) -> T:
        for attempt in range(self._retries + 1):
            try:
                response = self._http.request(call.method, call.path, **call.arguments())
            except httpx2.TransportError as error:
                raise calls.unreachable(self._http.base_url, error) from error
            pause_s = calls.pause_s(response, attempt)
            if pause_s is None or attempt == self._retries:
                break
            time.sleep(pause_s)
        return call.read(calls.checked(response))


class AsyncClient:
    """Calls that are awaited."""

    def __init__(
        self,
        url: str,
        *,
        key: str | None = None,
        timeout_s: float = TIMEOUT_S,
        retries: int = RETRIES,
        transport: httpx2.AsyncBaseTransport | None = None,
    ) -> None:
        """``key`` is an API key of the service."""
        self._retries = retries
        self._http = httpx2.AsyncClient(
            base_url=url, headers=calls.headers(key), timeout=timeout_s, transport=transport
        )

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Let go of the connections."""
        await self._http.aclose()

    async def search_text(self, text: str, **options: Unpack[SearchOptions]) -> Answer:
        """Items near a text; images, where no target is named."""
        return await self._run(calls.search("text", {"query": text}, options))

    async def search_texts(self, texts: Sequence[str], **options: Unpack[SearchOptions]) -> list[Answer]:
        """As ``search_text`` for each of several texts, in one request."""
        return await self._run(calls.search_several("text", {"queries": list(texts)}, options))

    async def search_image(self, image: Image, **options: Unpack[SearchOptions]) -> Answer:
        """Items near an image; texts, where no target is named."""
        return (await self._run(calls.search_files("image", [image], options)))[0]

    async def search_images(self, images: Sequence[Image], **options: Unpack[SearchOptions]) -> list[Answer]:
        """As ``search_image`` for each of several images, in one request."""
        return await self._run(calls.search_files("image", images, options))

    async def search_pair(self, image: Image, text: str, **options: Unpack[SearchOptions]) -> Answer:
        """Items near an image with words that refine it, for models that fuse."""
        return (await self._run(calls.search_files("pair", [image], {"text": text, **options})))[0]

    async def search_code(self, code: str, fingerprint: str | None = None, **options: Unpack[SearchOptions]) -> Answer:
        """Items near a code (hex); with ``fingerprint`` an index of another model refuses it."""
        return await self._run(calls.search("code", {"codes": [code], **calls.given(fingerprint=fingerprint)}, options))

    async def search_item(self, item_id: str, column: Modality = "image", **options: Unpack[SearchOptions]) -> Answer:
        """Items like a stored one, by its code of a column."""
        return await self._run(calls.search("item", {"item_id": item_id, "column": column}, options))

    async def encode_texts(self, texts: Sequence[str], **options: Unpack[EncodeOptions]) -> Encoded:
        """Codes of texts."""
        return await self._run(calls.encode_texts(texts, options))

    async def encode_images(self, images: Sequence[Image], **options: Unpack[EncodeOptions]) -> Encoded:
        """Codes of images."""
        return await self._run(calls.encode_files("image", images, options))

    async def encode_pairs(
        self, images: Sequence[Image], texts: Sequence[str], **options: Unpack[EncodeOptions]
    ) -> Encoded:
        """Codes of images fused with a text each, or with one for all of them."""
        return await self._run(calls.encode_files("pair", images, {"text": list(texts), **options}))

    async def indexes(self) -> list[IndexSummary]:
        """What is served."""
        return await self._run(calls.listed(IndexSummary, "indexes"))

    async def index(self, name: str) -> IndexBody:
        """One index in full."""
        return await self._run(calls.one(IndexBody, "indexes", name))

    async def item(self, index: str, item_id: str) -> Item:
        """One stored item."""
        return await self._run(calls.one(Item, "indexes", index, "items", item_id))

    async def thumbnail(self, index: str, item_id: str) -> bytes:
        """The stored picture of an item, WebP."""
        return await self._run(calls.picture(index, item_id))

    async def append(self, index: str, items: Sequence[Draft]) -> Appended:
        """Add items, each in the place of the one that has its id: all or none, and on disk before the answer."""
        return await self._run(calls.append(index, items))

    async def delete(self, index: str, item_id: str) -> Deleted:
        """Delete an item, on disk before the answer."""
        return await self._run(calls.delete(index, item_id))

    async def models(self) -> list[Model]:
        """What encodes."""
        return await self._run(calls.listed(Model, "models"))

    async def rebuild(
        self, index: str, *, idempotency_key: str | None = None, **options: Unpack[RebuildOptions]
    ) -> Job:
        """Start a rebuild; the same key gives the same job."""
        return await self._run(
            calls.change(Job, "indexes", index, "rebuild", options=options, idempotency_key=idempotency_key)
        )

    async def rollback(self, index: str, generation: int | None = None) -> Pointer:
        """Serve an earlier generation, by default the newest one below the current."""
        return await self._run(
            calls.change(Pointer, "indexes", index, "rollback", options=calls.given(generation=generation))
        )

    async def jobs(self) -> list[Job]:
        """Rebuilds, newest first."""
        return await self._run(calls.listed(Job, "jobs"))

    async def job(self, job_id: str) -> Job:
        """One rebuild as it stands."""
        return await self._run(calls.one(Job, "jobs", job_id))

    async def cancel(self, job_id: str) -> Job:
        """Stop a rebuild."""
        return await self._run(calls.change(Job, "jobs", job_id, "cancel"))

    async def wait(self, job_id: str, *, poll_s: float = 0.5, watch: Watch = unwatched) -> Job:
        """The rebuild once it is done, failed or cancelled; ``watch`` hears how it stands each time it is asked."""
        while True:
            job = await self.job(job_id)
            watch(job)
            if job["state"] in FINAL:
                return job
            await asyncio.sleep(poll_s)

    async def _run(self, call: Call[T]) -> T:
        for attempt in range(self._retries + 1):
            try:
                response = await self._http.request(call.method, call.path, **call.arguments())
            except httpx2.TransportError as error:
                raise calls.unreachable(self._http.base_url, error) from error
            pause_s = calls.pause_s(response, attempt)
            if pause_s is None or attempt == self._retries:
                break
            await asyncio.sleep(pause_s)
        return call.read(calls.checked(response))
