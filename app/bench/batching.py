"""What micro-batches gain: text searches of a saturated service beside the bare encoder and a service without them.

All three take turns in each round, and shares are taken within a round, so that a machine that is busy with other
work slows them alike.
"""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import cycle, islice
from statistics import median
from typing import TYPE_CHECKING, Any

from app.bench.load import Measurement, measure
from app.bench.queries import Query
from model.hasher import Hasher

if TYPE_CHECKING:
    from aiohttp import ClientSession

ROUNDS = 3
SIZES = (1, 4, 16, 32, 64)  # texts of one call of the bare encoder
BARE = 3  # times as many texts as requests one at a time
SATURATED = 16  # times as many requests: the first and the last of them do not find a full house
SERVICES = {  # environment variables of each
    "batched": {"CROSSBIT_LIMITS__QUEUE": "256"},
    "unbatched": {"CROSSBIT_ENCODE_BATCH": "1", "CROSSBIT_LIMITS__QUEUE": "256"},
}
SATURATING = 192  # requests at once: a batch that is encoded, one that waits and one that is answered; none refused


@dataclass(frozen=True, slots=True)
class Round:
    """One turn of all three."""

    bare_per_s: Mapping[int, float]  # texts, by the size of a call
    saturated: Mapping[str, Measurement]  # by service
    alone: Mapping[str, Measurement]  # one request at a time


async def compare_batching(
    clients: "Mapping[str, ClientSession]",
    hasher: Hasher,
    queries: Sequence[Query],
    requests: int,
    advance: Callable[[int], None],
) -> list[Round]:
    """Measure each of ``SERVICES`` and the bare encoder over the texts of the queries.

    Raises:
        MeasurementFailed: a service answered with an error.
    """
    texts = list(islice(cycle([query.body["json"]["query"] for query in queries]), BARE * requests))
    for size in SIZES:  # shapes of forwards are tried at first sight
        _texts_per_s(hasher, texts[:size], size)
    for client in clients.values():
        await measure(client, "text", queries, concurrency=SATURATING, requests=min(SATURATING, SATURATED * requests))
    rounds = []
    for _ in range(ROUNDS):
        bare, saturated, alone = {}, {}, {}
        for size in SIZES:
            bare[size] = _texts_per_s(hasher, texts, size)
            advance(len(texts))
        for name, client in clients.items():
            saturated[name] = await measure(
                client, "text", queries, concurrency=SATURATING, requests=SATURATED * requests, advance=advance
            )
            alone[name] = await measure(client, "text", queries, concurrency=1, requests=requests, advance=advance)
        rounds.append(Round(bare, saturated, alone))
    return rounds


def work_of(requests: int) -> int:
    """How often ``compare_batching`` will advance."""
    return ROUNDS * requests * (BARE * len(SIZES) + (SATURATED + 1) * len(SERVICES))


def tell(rounds: Sequence[Round]) -> dict[str, Any]:  # Any: JSON
    """Medians over the rounds; a share is that of the bare encoder at its best size in the same round."""
    return {
        "rounds": len(rounds),
        "bare_per_s": {str(size): median([one.bare_per_s[size] for one in rounds]) for size in SIZES},
        "services": {name: _tell_service(name, rounds) for name in SERVICES},
    }


def _tell_service(name: str, rounds: Sequence[Round]) -> dict[str, float]:
    return {
        "saturated_per_s": median([one.saturated[name].per_s for one in rounds]),
        "share_of_bare": median([one.saturated[name].per_s / max(one.bare_per_s.values()) for one in rounds]),
        "saturated_p50_ms": median([one.saturated[name].p50_ms for one in rounds]),
        "alone_p50_ms": median([one.alone[name].p50_ms for one in rounds]),
        "alone_added_ms": median([one.alone[name].added_ms for one in rounds]),
    }


def _texts_per_s(hasher: Hasher, texts: Sequence[str], size: int) -> float:
    started = time.perf_counter()
    for start in range(0, len(texts), size):
        hasher.encode_texts(texts[start : start + size])
    return len(texts) / (time.perf_counter() - started)


def as_notes(told: Mapping[str, Any]) -> list[str]:  # Any: JSON
    """The figures as lines for people."""
    bare = ", ".join(f"{rate:.0f} in calls of {size}" for size, rate in told["bare_per_s"].items())
    lines = [f"texts per second, medians of {told['rounds']} rounds: the bare encoder {bare}"]
    for name, one in told["services"].items():
        lines.append(
            f"text searches, {name}, {SATURATING} at once: {one['saturated_per_s']:.0f} per second, "
            f"{one['share_of_bare']:.2f} of the bare encoder at its best; one at a time: "
            f"{one['alone_added_ms']:.1f} ms beside encoding and searching"
        )
    return lines
