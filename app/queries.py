"""The way of a query: decode, encode, search; each stage bounded, timed, under the deadline, and only for a caller."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Literal, TypeVar

from starlette.requests import ClientDisconnect
from starlette.types import Receive

from app.problems import Problem
from app.runtime import Runtime
from app.schemas.base import Took
from app.stages import Stage
from app.tracing import describe_request
from model.hasher import EncodedBatch, Hasher, Modality

if TYPE_CHECKING:
    from PIL.Image import Image

    from model.bulk import Encodable

T = TypeVar("T")


class Query:
    """One request's work and the time it took."""

    def __init__(self, runtime: Runtime, receive: Receive) -> None:
        """``receive`` tells that the caller left; the body has been read by the time that a deadline starts."""
        self.runtime = runtime
        self._receive = receive
        self._has_left = False
        self._started = time.perf_counter()
        self._seconds = {"queue": 0.0, "decode": 0.0, "encode": 0.0, "search": 0.0}

    @asynccontextmanager
    async def deadline(self) -> AsyncIterator[None]:
        """Give up what happens inside when the deadline has passed, or nobody waits for it any more.

        Raises:
            Problem: ``deadline_exceeded``.
            ClientDisconnect: the caller left.
        """
        deadline_s = self.runtime.settings.limits.deadline_s
        try:
            async with asyncio.timeout(deadline_s) as timeout:
                watch = asyncio.create_task(self._give_up_with_caller(timeout))
                try:
                    yield
                finally:
                    watch.cancel()
        except TimeoutError:
            if not timeout.expired():
                raise
            if self._has_left:
                raise ClientDisconnect from None
            detail = f"expected an answer within {deadline_s:g} s, found none; send less in one call or try again later"
            raise Problem("deadline_exceeded", detail) from None

    async def encode_texts(self, hasher: Hasher, texts: Sequence[str]) -> EncodedBatch:
        """Codes of texts."""
        return await self._encode(hasher, Modality.TEXT, texts)

    async def encode_images(self, hasher: Hasher, files: Sequence[bytes]) -> EncodedBatch:
        """Codes of image files."""
        return await self._encode(hasher, Modality.IMAGE, await self._decode(files))

    async def encode_pairs(self, hasher: Hasher, files: Sequence[bytes], texts: Sequence[str]) -> EncodedBatch:
        """Codes of image files, each fused with its text."""
        pairs = list(zip(await self._decode(files), texts, strict=True))
        return await self._encode(hasher, Modality.PAIR, pairs)

    async def load(self, call: Callable[[], Hasher]) -> Hasher:
        """Load a model in a thread."""
        return await self.runtime.loading.run(call)

    async def search(self, call: Callable[[], T]) -> T:
        """Run a search in a thread."""
        return await self._run(self.runtime.searching, "search", call)

    def took(self) -> Took:
        """Milliseconds until now."""
        seconds = self._seconds | {"total": time.perf_counter() - self._started}
        describe_request({f"{name}_ms": value * 1000 for name, value in seconds.items()})
        return Took(**{name: round(value * 1000, 3) for name, value in seconds.items()})

    async def _give_up_with_caller(self, timeout: asyncio.Timeout) -> None:
        while (await self._receive())["type"] != "http.disconnect":
            pass
        self._has_left = True
        timeout.reschedule(asyncio.get_running_loop().time())

    async def _encode(self, hasher: Hasher, modality: Modality, inputs: "Sequence[Encodable]") -> EncodedBatch:
        encoded = await self.runtime.encoding.encode(hasher, modality, inputs)
        self._record(queue=encoded.queue_s, encode=encoded.encode_s)
        return encoded.batch

    async def _decode(self, files: Sequence[bytes]) -> "list[Image]":
        runtime = self.runtime
        return await self._run(runtime.decoding, "decode", lambda: [runtime.decoders.decode(data) for data in files])

    async def _run(self, stage: Stage, name: Literal["decode", "search"], call: Callable[[], T]) -> T:
        submitted = time.perf_counter()

        def timed() -> tuple[T, float, float]:
            began = time.perf_counter()
            value = call()
            return value, began, time.perf_counter()

        value, began, ended = await stage.run(timed)
        self._record(queue=began - submitted, **{name: ended - began})
        return value

    def _record(self, **seconds: float) -> None:
        for stage, took in seconds.items():
            self._seconds[stage] += took
            self.runtime.metrics.record_stage(stage, took)
