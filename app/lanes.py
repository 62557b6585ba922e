"""What waits to be encoded: calls, in lanes of one hasher and modality, and their shares of a batch."""

import asyncio
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from model.hasher import EncodedBatch, Hasher, Modality

if TYPE_CHECKING:
    from model.bulk import Encodable


@dataclass(frozen=True, slots=True)
class Encoded:
    """A caller's codes and how long they took."""

    batch: EncodedBatch
    queue_s: float
    encode_s: float  # of the batches that held the inputs, company included


@dataclass(slots=True, eq=False)
class Call:
    """What one caller wants encoded, in one batch or in several; its future belongs to the caller's event loop."""

    future: "asyncio.Future[Encoded]"
    inputs: "Sequence[Encodable]"
    due: float  # on the monotonic clock; from then on it waits for no company
    arrived: float = field(default_factory=time.perf_counter)
    taken: int = 0  # inputs that a thread has taken
    encode_s: float = 0.0
    parts: dict[int, EncodedBatch] = field(default_factory=dict)  # by the position of their first input
    outcome: Encoded | BaseException | None = None

    def add(self, start: int, part: EncodedBatch, seconds: float) -> None:
        """Add the codes from the input at ``start`` on; the last ones make the outcome."""
        self.parts[start] = part
        self.encode_s += seconds
        if sum(map(len, self.parts.values())) == len(self.inputs):
            batch = EncodedBatch.joined([self.parts[position] for position in sorted(self.parts)])
            waited = time.perf_counter() - self.arrived - self.encode_s
            self.outcome = Encoded(batch, max(0.0, waited), self.encode_s)

    def tell(self) -> None:
        """Hand the outcome, if there is one, to a caller that is still there; for the event loop's own thread."""
        if self.future.done():  # the caller left, or another part failed first
            return
        if isinstance(self.outcome, BaseException):
            self.future.set_exception(self.outcome)
        elif self.outcome is not None:
            self.future.set_result(self.outcome)


def tell_callers(calls: Sequence[Call]) -> None:
    """Wake the callers of a batch at once: waking an event loop costs a system call, and each answer was one."""
    loops = {call.future.get_loop() for call in calls}
    for loop in loops:
        with suppress(RuntimeError):  # the loop is closed, and with it whoever waited
            loop.call_soon_threadsafe(_tell_all, [call for call in calls if call.future.get_loop() is loop])


def _tell_all(calls: Sequence[Call]) -> None:
    for call in calls:
        call.tell()


@dataclass(frozen=True, slots=True)
class Share:
    """The inputs of a call that are in one batch."""

    call: Call
    start: int
    stop: int

    def __len__(self) -> int:
        return self.stop - self.start

    @property
    def inputs(self) -> "Sequence[Encodable]":
        """Its inputs, in order."""
        return self.call.inputs[self.start : self.stop]


@dataclass(slots=True)
class Lane:
    """Calls for one hasher and modality with inputs that no thread has taken, oldest first."""

    hasher: Hasher
    modality: Modality
    most: int  # inputs of a batch
    calls: dict[Call, None] = field(default_factory=dict)

    @property
    def due(self) -> float:
        """When it waits for no company any longer; in the past where it fills a batch."""
        if sum(len(call.inputs) - call.taken for call in self.calls) >= self.most:
            return 0.0
        return min(call.due for call in self.calls)

    def take(self) -> list[Share]:
        """The next batch; calls of which nothing is left leave the lane."""
        shares, room = [], self.most
        for call in list(self.calls):
            share = Share(call, call.taken, min(len(call.inputs), call.taken + room))
            shares.append(share)
            call.taken, room = share.stop, room - len(share)
            if call.taken == len(call.inputs):
                del self.calls[call]
            if not room:
                break
        return shares


def rows_of(batch: EncodedBatch, start: int, stop: int) -> EncodedBatch:
    """The codes of some of its inputs."""
    rows = slice(start, stop)
    return EncodedBatch(batch.codes[rows], batch.margins[rows], batch.truncated_tokens[rows])
