"""Bounded stages."""

import asyncio
import threading

import pytest

from app.problems import Problem
from app.stages import Stage


def test_a_stage_gives_back_what_the_call_gives() -> None:
    stage = Stage("test", threads=1, queue=0)
    assert asyncio.run(stage.run(lambda: 7)) == 7
    stage.close()


def test_a_stage_passes_errors_on_and_frees_its_place() -> None:
    stage = Stage("test", threads=1, queue=0)

    async def twice() -> None:
        for _ in range(2):
            with pytest.raises(ZeroDivisionError):
                await stage.run(lambda: 1 // 0)

    asyncio.run(twice())
    stage.close()


def test_a_caller_that_gives_up_frees_its_place_in_the_queue() -> None:
    stage = Stage("test", threads=1, queue=1)
    gate = threading.Event()
    ran: list[str] = []

    async def scene() -> None:
        first = asyncio.create_task(stage.run(lambda: gate.wait(10)))
        second = asyncio.create_task(stage.run(lambda: ran.append("second")))
        await asyncio.sleep(0)
        assert stage.waiting == 1
        with pytest.raises(Problem, match="already waiting"):
            await stage.run(lambda: ran.append("third"))
        second.cancel()
        with pytest.raises(asyncio.CancelledError):
            await second
        assert stage.waiting == 0
        fourth = asyncio.create_task(stage.run(lambda: ran.append("fourth")))
        await asyncio.sleep(0)
        gate.set()
        await asyncio.gather(first, fourth)

    asyncio.run(scene())
    stage.close()
    assert ran == ["fourth"]


def test_closing_a_stage_drops_what_waits() -> None:
    stage = Stage("test", threads=1, queue=1)
    gate = threading.Event()
    ran: list[str] = []

    async def scene() -> None:
        first = asyncio.create_task(stage.run(lambda: gate.wait(10)))
        second = asyncio.create_task(stage.run(lambda: ran.append("second")))
        await asyncio.sleep(0)
        closing = asyncio.create_task(asyncio.to_thread(stage.close))
        await asyncio.sleep(0.02)
        gate.set()
        await closing
        assert await first is True
        with pytest.raises(asyncio.CancelledError):
            await second

    asyncio.run(scene())
    assert ran == []
