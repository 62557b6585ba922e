"""Probes for whoever runs the service."""

import asyncio
from typing import Literal

from fastapi import APIRouter

from app.demo import describe_demo
from app.problems import Problem
from app.routes.dependencies import JobsOf, RuntimeOf
from app.routes.openapi import problems
from app.schemas.base import AnswerBody

router = APIRouter(tags=["probes"])


class Alive(AnswerBody):
    """The process answers."""

    status: Literal["alive"] = "alive"


class Ready(AnswerBody):
    """Every index on disk was opened or refused, that of the demo among them where it is wanted.

    The service is not about to end.
    """

    status: Literal["ready"] = "ready"


@router.get("/livez")
async def livez() -> Alive:
    """Whether the process answers at all."""
    return Alive()


@router.get("/readyz", responses=problems("not_ready"))
async def readyz(runtime: RuntimeOf, jobs: JobsOf) -> Ready:
    """Whether queries can be sent."""
    if runtime.draining:
        raise Problem("not_ready", "the service is about to end; send queries to another one")
    if not runtime.ready:
        raise Problem("not_ready", "models and indexes are being opened; try again in a few seconds")
    if runtime.awaits_demo:
        raise Problem("not_ready", describe_demo(await asyncio.to_thread(jobs.list)))
    return Ready()
