"""Micro-batches: what callers want encoded gathers while the encoder is busy, and is then encoded together.

A call goes at once to an encoder that is idle. While all threads are busy calls gather in lanes, one for each hasher
and modality, so a batch never mixes two models, not even over a swap; a thread that gets free takes the lanes in
turn, so a text does not wait for every image before it. It takes a lane that fills a batch, or whose oldest call has
waited its time. A call with more inputs than a batch goes in several. Nobody's codes depend on whom they were encoded
with: that is the promise of every ``Hasher``.
"""

import asyncio
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

from app.lanes import Call, Encoded, Lane, Share, rows_of, tell_callers
from app.stages import overloaded
from model.bulk import encode_values
from model.hasher import EncodedBatch, Hasher, Modality

if TYPE_CHECKING:
    from model.bulk import Encodable

LaneKey = tuple[int, Modality]  # the id of a hasher that the lane keeps alive


class Batching:
    """Threads that encode what waits, with a bounded queue for each modality."""

    name = "encoding"

    def __init__(
        self,
        *,
        threads: int,
        queue: int,
        batch: int,
        wait_s: float,
        on_encoded: Callable[[Modality, EncodedBatch], None] = lambda modality, batch: None,
    ) -> None:
        self.queue = queue
        self._threads = threads
        self._batch = batch
        self._wait_s = wait_s
        self._on_encoded = on_encoded
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix=self.name)
        self._changed = threading.Condition()
        self._lanes: dict[LaneKey, Lane] = {}  # those with calls; the one whose turn it is comes first
        self._awake = 0  # threads that look after the lanes
        self._busy = 0  # those of them that encode

    def waiting(self, modality: Modality) -> int:
        """Calls with inputs of this modality that no thread has taken yet."""
        with self._changed:
            return self._waiting(modality)

    async def encode(self, hasher: Hasher, modality: Modality, inputs: "Sequence[Encodable]") -> Encoded:
        """Codes of at least one input; a caller that gives up takes what waits out of the queue.

        Raises:
            Problem: ``overloaded``, the queue of this modality is full.
        """
        key = id(hasher), modality
        with self._changed:
            if self._waiting(modality) >= self.queue + self._threads - self._busy:
                raise overloaded(f"{self.name} {modality}", self.queue)
            now, is_idle = time.monotonic(), self._awake < self._threads
            call = Call(asyncio.get_running_loop().create_future(), inputs, now if is_idle else now + self._wait_s)
            lane = self._lanes.setdefault(key, Lane(hasher, modality, self._most(hasher, modality)))
            lane.calls[call] = None
            if is_idle:
                self._awake += 1
                self._pool.submit(self._work)
            else:
                self._changed.notify()
        try:
            return await call.future
        finally:
            with self._changed:
                lane.calls.pop(call, None)
                if not lane.calls and self._lanes.get(key) is lane:
                    del self._lanes[key]

    def close(self) -> None:
        """Drop what waits and wait for what runs."""
        with self._changed:
            calls = [call for lane in self._lanes.values() for call in lane.calls]
            self._lanes.clear()
            self._changed.notify_all()
        for call in calls:
            call.outcome = asyncio.CancelledError()
        tell_callers(calls)
        self._pool.shutdown()

    def _most(self, hasher: Hasher, modality: Modality) -> int:
        # on a CPU only texts gain from company, and one image at a time lets texts in between
        return self._batch if modality is Modality.TEXT or hasher.device != "cpu" else 1

    def _waiting(self, modality: Modality) -> int:
        return sum(len(lane.calls) for lane in self._lanes.values() if lane.modality is modality)

    def _work(self) -> None:
        """Encode batch after batch until nothing waits."""
        while (taken := self._take()) is not None:
            lane, shares = taken
            self._encode(lane, shares)
            with self._changed:
                self._busy -= 1

    def _take(self) -> tuple[Lane, list[Share]] | None:
        """The next batch, as soon as one is due; None once nothing waits."""
        with self._changed:
            while self._lanes:
                now = time.monotonic()
                dues = {key: lane.due for key, lane in self._lanes.items()}
                due = next((key for key, at in dues.items() if at <= now), None)
                if due is not None:
                    self._busy += 1
                    return self._take_from(due)
                self._changed.wait(min(dues.values()) - now)
            self._awake -= 1
            return None

    def _take_from(self, key: LaneKey) -> tuple[Lane, list[Share]]:
        lane = self._lanes.pop(key)
        shares = lane.take()
        if lane.calls:
            self._lanes[key] = lane  # behind the others
        return lane, shares

    def _encode(self, lane: Lane, shares: list[Share]) -> None:
        started = time.perf_counter()
        try:
            batch = encode_values(lane.hasher, [one for share in shares for one in share.inputs])
            self._on_encoded(lane.modality, batch)
        except Exception as error:  # the caller's to deal with; of several only whose input it was may fail
            if len(shares) == 1:
                shares[0].call.outcome = error
                tell_callers([shares[0].call])
                return
            for share in shares:
                self._encode(lane, [share])
            return
        seconds = time.perf_counter() - started
        first = 0
        with self._changed:  # another thread may have a share of the same call
            for share in shares:
                share.call.add(share.start, rows_of(batch, first, first + len(share)), seconds)
                first += len(share)
        tell_callers([share.call for share in shares if share.call.outcome is not None])
