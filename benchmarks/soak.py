"""A service under mixed load for a quarter of an hour: memory, errors, and whether anything was lost.

    python benchmarks/soak.py HOME [--minutes 15] [--index demo]

Texts and images are searched and encoded, items appended and deleted, the index rebuilt again and again, and what is
wrong is sent as well. Prints the answers by kind and code, those that the contract does not have (500, a broken
connection, an acknowledged item that is missing), and the memory of the service with its decoding processes: after the
first minute, at the end, and the most.
"""

import argparse
import asyncio
import io
import json
import random
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from pathlib import Path

from own_service import OwnService, own_service
from PIL import Image

from app.client import AsyncClient, ServiceError, ServiceUnreachable
from app.show import progress

WORDS = ("red", "blue", "flag", "star", "cat", "dog", "boat", "tree", "music", "food", "house", "sun", "fish", "car")
COMMON = {"overloaded", "rebuild_running", "cursor_expired"}  # a busy service may always say these
SETTLED_S = 60.0
PAUSE_S = 0.05  # of each caller between two calls: the load of a busy site, not of a flood


class Soak:
    """The callers, and what they heard."""

    def __init__(self, client: AsyncClient, index: str, until: float) -> None:
        self.client, self.index, self._until = client, index, until
        self.heard: Counter[str] = Counter()
        self.outside: list[str] = []
        self.appended: dict[str, bool] = {}  # acknowledged: is there, or is deleted
        self._random = random.Random(0)  # noqa: S311 - no secret

    async def caller(self, kind: str, call: Callable[[], Awaitable[object]], allowed: set[str], pause_s: float) -> None:
        """Call until the end."""
        while time.monotonic() < self._until:
            try:
                await call()
                self.heard[f"{kind}: answered"] += 1
            except ServiceError as error:
                self.heard[f"{kind}: {error.code}"] += 1
                if error.status >= 500 or error.code not in allowed | COMMON:
                    self.outside.append(f"{kind}: {error.code} {error}")
            except ServiceUnreachable as error:
                self.outside.append(f"{kind}: {error}")
            await asyncio.sleep(pause_s)

    def text(self) -> str:
        """A few words."""
        return " ".join(self._random.choices(WORDS, k=self._random.randint(1, 6)))

    def image(self) -> bytes:
        """A small picture."""
        buffer = io.BytesIO()
        colour = tuple(self._random.randrange(256) for _ in range(3))
        Image.new("RGB", (self._random.randint(8, 400), self._random.randint(8, 400)), colour).save(buffer, "PNG")
        return buffer.getvalue()

    async def page_on(self) -> None:
        """A search and its next page."""
        text = self.text()
        first = await self.client.search_text(text, index=self.index, limit=20)
        if first["next_cursor"]:
            await self.client.search_text(text, index=self.index, limit=20, cursor=first["next_cursor"])

    async def edit(self) -> None:
        """Append a few items and delete an earlier one."""
        names = [f"soak/{len(self.appended) + number}" for number in range(3)]
        await self.client.append(
            self.index, [{"id": name, "image": self.image(), "text": self.text()} for name in names]
        )
        self.appended |= dict.fromkeys(names, True)
        there = [name for name, is_there in self.appended.items() if is_there]
        if len(there) > 60:
            gone = self._random.choice(there)
            await self.client.delete(self.index, gone)
            self.appended[gone] = False

    async def rebuild(self) -> None:
        """One rebuild, to its end."""
        job = await self.client.rebuild(self.index, reuse=self._random.random() < 0.8)
        job = await self.client.wait(job["id"])
        if job["state"] != "done":
            self.outside.append(f"rebuild: {job['state']} {job.get('error')}")

    async def bad(self) -> None:
        """What no service takes."""
        wrong: list[Callable[[], Awaitable[object]]] = [
            lambda: self.client.search_image(b"\x89PNG\r\n\x1a\n" + bytes(50), index=self.index),
            lambda: self.client.search_text("a", index="nowhere"),
            lambda: self.client.search_text(" ", index=self.index),
            lambda: self.client.search_text("a", index=self.index, filter={"nothing": 1}),
            lambda: self.client.search_code("00", index=self.index),
        ]
        await self._random.choice(wrong)()

    async def missing(self) -> list[str]:
        """Acknowledged appends that are not there, and deletes that are."""
        found = []
        for name, is_there in self.appended.items():
            try:
                await self.client.item(self.index, name)
                seen = True
            except ServiceError:
                seen = False
            if seen != is_there:
                found.append(name)
        return found


async def run(service: OwnService, index: str, seconds: float) -> dict[str, object]:
    """All callers at once -> the report."""
    memory: list[tuple[float, float]] = []
    began = time.monotonic()
    async with AsyncClient(service.url, key=service.key) as client:
        soak = Soak(client, index, began + seconds)

        async def watch() -> None:
            with progress("soaking, seconds", int(seconds)) as advance:
                while (now := time.monotonic() - began) < seconds:
                    memory.append((now, service.resident_mib()))
                    await asyncio.sleep(1)
                    advance(1)

        refused = {"unsupported_image", "index_not_found", "empty_input", "invalid_request"}
        await asyncio.gather(
            watch(),
            *(soak.caller("text", soak.page_on, set(), PAUSE_S) for _ in range(2)),
            soak.caller("image", lambda: client.search_image(soak.image(), index=index), set(), PAUSE_S),
            soak.caller("encode", lambda: client.encode_texts([soak.text(), soak.text()]), set(), PAUSE_S),
            soak.caller("show", lambda: client.index(index), set(), 1.0),
            soak.caller("edit", soak.edit, set(), 1.0),
            soak.caller("rebuild", soak.rebuild, set(), 20.0),
            soak.caller("wrong", soak.bad, refused, PAUSE_S),
        )
        missing = await soak.missing()
    settled = [mib for at, mib in memory if at >= min(SETTLED_S, seconds / 2)]
    return {
        "minutes": seconds / 60,
        "heard": dict(sorted(soak.heard.items())),
        "outside_the_contract": soak.outside[:20],
        "outside": len(soak.outside),
        "appended": len(soak.appended),
        "lost": missing,
        "memory_mib": {"after_first_minute": settled[0], "end": settled[-1], "most": max(settled)},
        "growth": settled[-1] / settled[0] - 1,
    }


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("home", type=Path)
    parser.add_argument("--minutes", type=float, default=15.0)
    parser.add_argument("--index", default="demo")
    asked = parser.parse_args()
    with own_service(asked.home) as service:
        print(json.dumps(asyncio.run(run(service, asked.index, 60 * asked.minutes)), indent=2))


if __name__ == "__main__":
    main()
