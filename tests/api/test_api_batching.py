"""Micro-batches: who is encoded with whom and when, and that nobody's codes show it."""

import asyncio
import threading
import time
from collections.abc import Awaitable, Callable, Sequence

import numpy as np
import pytest
from api_home import wait_until
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from app.batching import Batching
from app.lanes import Encoded
from app.problems import Problem
from model.errors import ModelError
from model.fake import FakeHasher
from model.hasher import EncodedBatch, Modality

TEXT, IMAGE = Modality.TEXT, Modality.IMAGE
PICTURE = Image.new("RGB", (4, 4), "red")
LONG_S = 60.0  # a wait that no test sees the end of
BAD = "bad"


class RecordingHasher(FakeHasher):
    """Keeps the inputs of each batch, which it encodes while its gate is open; refuses the text ``BAD``."""

    def __init__(self, seed: str = "demo", *, device: str = "cpu", is_open: bool = True) -> None:
        super().__init__(64, seed=seed)
        self.device = device
        self.batches: list[list[object]] = []
        self.gate = threading.Event()
        if is_open:
            self.gate.set()

    def encode_texts(self, texts: Sequence[str]) -> EncodedBatch:
        self._record(texts)
        if BAD in texts:
            raise ModelError("expected another text")
        return super().encode_texts(texts)

    def encode_images(self, images: Sequence[Image.Image]) -> EncodedBatch:
        self._record(images)
        return super().encode_images(images)

    def _record(self, inputs: Sequence[object]) -> None:
        self.batches.append(list(inputs))
        assert self.gate.wait(10)


def open_batching(*, threads: int = 1, queue: int = 64, batch: int = 32, wait_s: float = 0.0) -> Batching:
    return Batching(threads=threads, queue=queue, batch=batch, wait_s=wait_s)


def run(scene: Callable[[Batching], Awaitable[None]], batching: Batching) -> None:
    """Play the scene, then close."""

    async def play() -> None:
        await asyncio.wait_for(scene(batching), 10)

    try:
        asyncio.run(play())
    finally:
        batching.close()


def encode(
    batching: Batching, hasher: FakeHasher, *texts: str, images: Sequence[Image.Image] = ()
) -> "asyncio.Task[Encoded]":
    call = batching.encode(hasher, IMAGE, images) if images else batching.encode(hasher, TEXT, texts)
    return asyncio.create_task(call)


async def until(condition: Callable[[], bool]) -> None:
    await asyncio.to_thread(wait_until, condition)


async def busy_with(batching: Batching, hasher: RecordingHasher) -> "asyncio.Task[Encoded]":
    """A call that the hasher is at work on, until its gate opens."""
    first = encode(batching, hasher, "first")
    await until(lambda: hasher.batches == [["first"]])
    return first


def test_an_idle_encoder_starts_at_once() -> None:
    hasher = RecordingHasher()

    async def scene(batching: Batching) -> None:
        for _ in range(3):
            assert (await encode(batching, hasher, "a")).queue_s < LONG_S
            await until(lambda: not batching._awake)

    run(scene, open_batching(wait_s=LONG_S))
    assert hasher.batches == [["a"]] * 3


def test_calls_that_come_while_the_encoder_is_busy_share_a_batch() -> None:
    hasher = RecordingHasher(is_open=False)

    async def scene(batching: Batching) -> None:
        calls = [await busy_with(batching, hasher), *(encode(batching, hasher, text) for text in "abc")]
        await until(lambda: batching.waiting(TEXT) == 3)
        hasher.gate.set()
        found = [(await call).batch.codes for call in calls]
        lone = FakeHasher(seed="demo")
        for codes, text in zip(found, ("first", "a", "b", "c"), strict=True):
            np.testing.assert_array_equal(codes, lone.encode_texts([text]).codes)

    run(scene, open_batching())
    assert hasher.batches == [["first"], ["a", "b", "c"]]


def test_a_call_waits_for_company_until_a_batch_is_full() -> None:
    hasher = RecordingHasher(is_open=False)

    async def scene(batching: Batching) -> None:
        calls = [await busy_with(batching, hasher), encode(batching, hasher, "a")]
        await until(lambda: batching.waiting(TEXT) == 1)
        hasher.gate.set()
        await calls[0]
        assert batching.waiting(TEXT) == 1
        await asyncio.gather(*calls, encode(batching, hasher, "b"))

    run(scene, open_batching(batch=2, wait_s=LONG_S))
    assert hasher.batches == [["first"], ["a", "b"]]


def test_a_call_waits_for_company_no_longer_than_its_time() -> None:
    hasher = RecordingHasher(is_open=False)

    async def scene(batching: Batching) -> None:
        first = await busy_with(batching, hasher)
        came = time.monotonic()
        second = encode(batching, hasher, "a")
        await until(lambda: batching.waiting(TEXT) == 1)
        hasher.gate.set()
        await asyncio.gather(first, second)
        assert time.monotonic() - came >= 0.03

    run(scene, open_batching(wait_s=0.03))
    assert hasher.batches == [["first"], ["a"]]


def test_two_models_never_share_a_batch() -> None:
    old, new = RecordingHasher("old", is_open=False), RecordingHasher("new")

    async def scene(batching: Batching) -> None:
        calls = [await busy_with(batching, old)]
        for number in range(3):
            calls += [encode(batching, hasher, f"{number}") for hasher in (old, new)]
        await until(lambda: batching.waiting(TEXT) == 6)
        old.gate.set()
        found = [(await call).batch.codes for call in calls]
        for number in range(3):
            for codes, seed in zip(found[1 + 2 * number :], ("old", "new"), strict=False):
                np.testing.assert_array_equal(codes, FakeHasher(seed=seed).encode_texts([f"{number}"]).codes)

    run(scene, open_batching())
    assert (old.batches, new.batches) == ([["first"], ["0", "1", "2"]], [["0", "1", "2"]])


def test_a_call_with_more_inputs_than_a_batch_goes_in_several() -> None:
    hasher = RecordingHasher()
    texts = [f"{number}" for number in range(7)]

    async def scene(batching: Batching) -> None:
        found = await encode(batching, hasher, *texts)
        np.testing.assert_array_equal(found.batch.codes, FakeHasher(seed="demo").encode_texts(texts).codes)

    run(scene, open_batching(batch=3))
    assert hasher.batches == [texts[:3], texts[3:6], texts[6:]]


def test_a_text_does_not_wait_for_all_images_before_it() -> None:
    hasher = RecordingHasher(is_open=False)

    async def scene(batching: Batching) -> None:
        calls = [await busy_with(batching, hasher), encode(batching, hasher, images=[PICTURE] * 3)]
        await until(lambda: batching.waiting(IMAGE) == 1)
        calls.append(encode(batching, hasher, "a"))
        await until(lambda: batching.waiting(TEXT) == 1)
        hasher.gate.set()
        await asyncio.gather(*calls)

    run(scene, open_batching())
    assert hasher.batches == [["first"], [PICTURE], ["a"], [PICTURE], [PICTURE]]


@pytest.mark.parametrize(("device", "sizes"), [("cpu", [1, 1, 1]), ("cuda", [3])])
def test_images_go_together_where_that_is_quicker(device: str, sizes: list[int]) -> None:
    hasher = RecordingHasher(device=device)

    async def scene(batching: Batching) -> None:
        await encode(batching, hasher, images=[PICTURE] * 3)

    run(scene, open_batching())
    assert [len(batch) for batch in hasher.batches] == sizes


def test_a_bad_input_fails_its_own_call_alone() -> None:
    hasher = RecordingHasher(is_open=False)

    async def scene(batching: Batching) -> None:
        calls = [await busy_with(batching, hasher), *(encode(batching, hasher, text) for text in ("a", BAD, "b"))]
        await until(lambda: batching.waiting(TEXT) == 3)
        hasher.gate.set()
        first, a, bad, b = await asyncio.gather(*calls, return_exceptions=True)
        assert isinstance(bad, ModelError)
        assert all(isinstance(one, Encoded) for one in (first, a, b))

    run(scene, open_batching())
    assert hasher.batches == [["first"], ["a", BAD, "b"], ["a"], [BAD], ["b"]]


def test_a_call_of_which_one_part_fails_fails_once() -> None:
    hasher = RecordingHasher()

    async def scene(batching: Batching) -> None:
        with pytest.raises(ModelError):
            await encode(batching, hasher, "a", BAD, "b", BAD)
        await encode(batching, hasher, "c")

    run(scene, open_batching(batch=1))


def test_what_nobody_waits_for_is_not_encoded() -> None:
    hasher = RecordingHasher(is_open=False)

    async def scene(batching: Batching) -> None:
        first = await busy_with(batching, hasher)
        left, stays = encode(batching, hasher, "left"), encode(batching, hasher, "stays")
        await until(lambda: batching.waiting(TEXT) == 2)
        for call in (left, first):  # also one that is being encoded
            call.cancel()
            with pytest.raises(asyncio.CancelledError):
                await call
        assert batching.waiting(TEXT) == 1
        hasher.gate.set()
        await stays

    run(scene, open_batching())
    assert hasher.batches == [["first"], ["stays"]]


def test_the_rest_of_a_call_that_nobody_waits_for_is_not_encoded() -> None:
    hasher = RecordingHasher(is_open=False)

    async def scene(batching: Batching) -> None:
        left = encode(batching, hasher, "a", "b")
        await until(lambda: hasher.batches == [["a"]])
        left.cancel()
        with pytest.raises(asyncio.CancelledError):
            await left
        hasher.gate.set()
        await encode(batching, hasher, "c")

    run(scene, open_batching(batch=1))
    assert hasher.batches == [["a"], ["c"]]


def test_each_modality_has_a_queue_of_its_own() -> None:
    hasher = RecordingHasher(is_open=False)

    async def scene(batching: Batching) -> None:
        calls = [await busy_with(batching, hasher), encode(batching, hasher, "a")]
        await until(lambda: batching.waiting(TEXT) == 1)
        with pytest.raises(Problem, match="1 calls are already waiting for encoding text") as refused:
            await encode(batching, hasher, "b")
        assert (refused.value.code, refused.value.headers) == ("overloaded", {"Retry-After": "1"})
        calls.append(encode(batching, hasher, images=[PICTURE]))
        await until(lambda: batching.waiting(IMAGE) == 1)
        hasher.gate.set()
        await asyncio.gather(*calls)

    run(scene, open_batching(queue=1))


def test_without_a_queue_idle_threads_still_take_calls() -> None:
    hasher = RecordingHasher(is_open=False)

    async def scene(batching: Batching) -> None:
        calls = [encode(batching, hasher, text) for text in "abc"]
        await asyncio.wait([calls[2]])
        assert isinstance(calls[2].exception(), Problem)
        hasher.gate.set()
        await asyncio.gather(*calls[:2])

    run(scene, open_batching(threads=2, queue=0, batch=1))


def test_closing_drops_what_waits() -> None:
    hasher = RecordingHasher(is_open=False)

    async def scene(batching: Batching) -> None:
        first = await busy_with(batching, hasher)
        second = encode(batching, hasher, "second")
        await until(lambda: batching.waiting(TEXT) == 1)
        closing = asyncio.create_task(asyncio.to_thread(batching.close))
        with pytest.raises(asyncio.CancelledError):
            await second
        hasher.gate.set()
        await closing
        assert len((await first).batch) == 1

    run(scene, open_batching())
    assert hasher.batches == [["first"]]


CALLS = st.lists(
    st.tuples(st.sampled_from(["old", "new"]), st.sampled_from([TEXT, IMAGE]), st.integers(1, 6)), max_size=12
)


@settings(deadline=None)
@given(CALLS, st.integers(1, 5), st.integers(1, 3), st.sampled_from([0.0, 0.001]))
def test_everybody_gets_the_codes_of_their_own_inputs(
    calls: list[tuple[str, Modality, int]], batch: int, threads: int, wait_s: float
) -> None:
    hashers = {seed: RecordingHasher(seed, device="cuda") for seed in ("old", "new")}
    inputs = {
        TEXT: lambda call, count: [f"{call} {one}" for one in range(count)],
        IMAGE: lambda call, count: [Image.new("RGB", (1 + call, 1 + one)) for one in range(count)],
    }
    wanted = [(seed, kind, inputs[kind](number, count)) for number, (seed, kind, count) in enumerate(calls)]

    async def scene(batching: Batching) -> None:
        found = await asyncio.gather(*(batching.encode(hashers[seed], kind, some) for seed, kind, some in wanted))
        for (seed, kind, some), one in zip(wanted, found, strict=True):
            lone = FakeHasher(seed=seed)
            expected = lone.encode_texts(some) if kind is TEXT else lone.encode_images(some)
            np.testing.assert_array_equal(one.batch.codes, expected.codes)
            np.testing.assert_array_equal(one.batch.margins, expected.margins)

    run(scene, open_batching(batch=batch, threads=threads, wait_s=wait_s))
    taken = [one for hasher in hashers.values() for some in hasher.batches for one in some]
    assert len(taken) == sum(count for _, _, count in calls)
    assert max((len(some) for hasher in hashers.values() for some in hasher.batches), default=0) <= batch
