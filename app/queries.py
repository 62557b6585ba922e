"""The way of a query: decode, encode, search; each stage bounded, timed and under the deadline."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Literal, TypeVar

import numpy as np
from numpy.typing import NDArray

from app.batching import Stage
from app.problems import Problem
from app.runtime import Runtime
from app.schemas.base import Took
from app.tracing import describe_request
from model.hasher import EncodedBatch, Hasher, Modality

if TYPE_CHECKING:
    from PIL.Image import Image

T = TypeVar("T")

NEAR_ZERO = 1e-3  # of a code's mean margin


class Query:
    """One request's work and the time it took."""

    def __init__(self, runtime: Runtime) -> None:
        self._runtime = runtime
        self._started = time.perf_counter()
        self._seconds = {"queue": 0.0, "decode": 0.0, "encode": 0.0, "search": 0.0}

    @asynccontextmanager
    async def deadline(self) -> AsyncIterator[None]:
        """Give up what happens inside when the deadline has passed.

        Raises:
            Problem: ``deadline_exceeded``.
        """
        deadline_s = self._runtime.settings.limits.deadline_s
        try:
            async with asyncio.timeout(deadline_s) as timeout:
                yield
        except TimeoutError:
            if not timeout.expired():
                raise
            detail = f"expected an answer within {deadline_s:g} s, found none; send less in one call or try again later"
            raise Problem("deadline_exceeded", detail) from None

    async def encode_texts(self, hasher: Hasher, texts: Sequence[str]) -> EncodedBatch:
        """Codes of texts."""
        return await self._encode(Modality.TEXT, lambda: hasher.encode_texts(texts))

    async def encode_images(self, hasher: Hasher, files: Sequence[bytes]) -> EncodedBatch:
        """Codes of image files."""
        images = await self._run(self._runtime.searching, "decode", lambda: self._decode(files))
        return await self._encode(Modality.IMAGE, lambda: hasher.encode_images(images))

    async def encode_pairs(self, hasher: Hasher, files: Sequence[bytes], texts: Sequence[str]) -> EncodedBatch:
        """Codes of image files, each fused with its text."""
        images = await self._run(self._runtime.searching, "decode", lambda: self._decode(files))
        return await self._encode(Modality.PAIR, lambda: hasher.encode_pairs(images, texts))

    async def load(self, call: Callable[[], Hasher]) -> Hasher:
        """Load a model in a thread that encodes: it waits in the same queue as what needs it."""
        return await self._runtime.encoding.run(call)

    async def search(self, call: Callable[[], T]) -> T:
        """Run a search in a thread."""
        return await self._run(self._runtime.searching, "search", call)

    def took(self) -> Took:
        """Milliseconds until now."""
        seconds = self._seconds | {"total": time.perf_counter() - self._started}
        describe_request({f"{name}_ms": value * 1000 for name, value in seconds.items()})
        return Took(**{name: round(value * 1000, 3) for name, value in seconds.items()})

    async def _encode(self, modality: Modality, call: Callable[[], EncodedBatch]) -> EncodedBatch:
        batch = await self._run(self._runtime.encoding, "encode", call, kind=modality.value)
        self._runtime.metrics.record_encoded(modality, len(batch), int(near_zero_bits(batch).sum()))
        return batch

    def _decode(self, files: Sequence[bytes]) -> "list[Image]":
        from model.images import decode_image  # brings in pillow

        max_pixels = self._runtime.settings.limits.image_pixels
        return [decode_image(data, max_pixels=max_pixels) for data in files]

    async def _run(
        self, stage: Stage, name: Literal["decode", "encode", "search"], call: Callable[[], T], *, kind: str = ""
    ) -> T:
        submitted = time.perf_counter()

        def timed() -> tuple[T, float, float]:
            began = time.perf_counter()
            value = call()
            return value, began, time.perf_counter()

        value, began, ended = await stage.run(timed, kind=kind)
        for part, seconds in (("queue", began - submitted), (name, ended - began)):
            self._seconds[part] += seconds
            self._runtime.metrics.record_stage(part, seconds)
        return value


def near_zero_bits(batch: EncodedBatch) -> NDArray[np.int64]:
    """Bits of each code, (B,), that another machine might set otherwise: their margin is next to nothing."""
    means = batch.margins.mean(axis=1, keepdims=True)
    count: NDArray[np.int64] = (batch.margins < NEAR_ZERO * means).sum(axis=1)
    return count
