"""The service: ``create_app`` builds everything it holds and hands it down.

Routes and runtime bring in numpy, the index and the schemas; they are imported when an application is made, so that
importing this module costs next to nothing.
"""

import asyncio
import gc
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager, suppress
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING

from fastapi import FastAPI
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.middleware.cors import CORSMiddleware

from app.keys import load_keys
from app.logs import Log, configure_logs
from app.settings import Settings
from app.tracing import open_tracing, telemetry
from index.search import kernel_level

if TYPE_CHECKING:
    from opentelemetry.sdk.trace import TracerProvider

    from app.encoding import Encoders
    from app.models import LoadHasher
    from app.routes.dependencies import Jobs
    from app.runtime import Runtime
    from model.hasher import Hasher

log = Log(__name__)

DESCRIPTION = "Search images by text and texts by image through short binary codes, exactly and in a total order."

CORS_METHODS = ("DELETE", "GET", "HEAD", "POST")
CORS_SENT = ("Authorization", "Content-Type", "Idempotency-Key", "X-Request-Id")
CORS_SHOWN = ("ETag", "Location", "Retry-After", "X-Index-Generation", "X-Model-Fingerprint", "X-Request-Id")

OpenJobs = Callable[[Settings, "Runtime"], AbstractAsyncContextManager["Jobs"]]


def load_artifact(artifact_dir: Path, bits: int, device: str) -> "Hasher":
    """The trained model in ``artifact_dir``; brings in torch, so it is imported when the first model is needed."""
    from model.artifact import load_hasher

    return load_hasher(artifact_dir, bits, device)


def create_app(
    settings: Settings | None = None, *, load_hasher: "LoadHasher | None" = None, open_jobs: OpenJobs | None = None
) -> FastAPI:
    """The application; without settings, those of the environment.

    ``load_hasher`` and ``open_jobs`` replace the models, which otherwise live in processes of their own, and the job
    engine, for tests and for embedding.

    Raises:
        KeysFileError: the keys file is missing or malformed.
        ExtraMissing: traces are wanted, and the extra that sends them is not installed.
    """
    from app.encoding import Encoders
    from app.middleware import AnswerProblems, BodyLimit, HeadAsGet, RequestContext, RequireKey, SameSiteWrites
    from app.problems import answer_framework_error
    from app.routes import encode, indexes, items, jobs, metrics, models, page, probes, search
    from app.routes.openapi import DescribedAPI
    from app.runtime import Runtime

    settings = settings or Settings()
    configure_logs(settings)
    keys = load_keys(settings)
    if not keys:
        log.warning("keys_missing", open_to="whoever reaches the service")
    if settings.engine == "auto" and kernel_level() is None:
        log.warning("kernel_missing", engine="faiss", remedy="reinstall crossbit with a C compiler")
    # apart, so that no query waits for a batch of a rebuild
    encoders = Encoders(settings.encode_processes), Encoders.of_rebuilds(settings.threads)
    loads: list[LoadHasher] = [one.load for one in encoders]
    if load_hasher is not None or not settings.encode_processes:
        loads = 2 * [load_hasher or load_artifact]
    load_queried, load_rebuilt = loads
    runtime = Runtime(settings, load_queried)
    tracing = open_tracing(settings)

    app = DescribedAPI(
        title="Crossbit",
        summary="Cross-modal hashing and exact Hamming search",
        description=DESCRIPTION,
        version=version("crossbit"),
        docs_url=None,  # the interactive pages load their scripts from another host
        redoc_url=None,
        redirect_slashes=False,
        telemetry=telemetry(tracing),
        lifespan=_lifespan(runtime, encoders, open_jobs or _open_rebuilds(load_rebuilt, tracing), tracing),
        exception_handlers={
            HTTPException: answer_framework_error,
            RequestValidationError: answer_framework_error,
        },
    )
    app.state.runtime = runtime
    app.has_keys = bool(keys)
    # the last one added is the outermost
    app.add_middleware(BodyLimit, max_body_bytes=settings.limits.body_bytes, deadline_s=settings.limits.body_s)
    app.add_middleware(RequireKey, keys=keys)
    app.add_middleware(SameSiteWrites, origins=settings.cors_origins)
    app.add_middleware(HeadAsGet)
    app.add_middleware(AnswerProblems)
    if settings.cors_origins:
        app.add_middleware(
            CORSMiddleware,
            allow_origins=settings.cors_origins,
            allow_methods=CORS_METHODS,
            allow_headers=CORS_SENT,
            expose_headers=CORS_SHOWN,
        )
    app.add_middleware(RequestContext, runtime=runtime)
    for routes in (search, encode, items, indexes, jobs, models, metrics, probes, page):
        app.include_router(routes.router)
    app.mount("/ui", page.static_files)
    return app


def _lifespan(
    runtime: "Runtime", encoders: "Sequence[Encoders]", open_jobs: OpenJobs, tracing: "TracerProvider | None"
) -> Callable[[FastAPI], AbstractAsyncContextManager[None]]:
    """Answers probes at once and opens models and indexes meanwhile."""
    from app.job_events import Listeners

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        app.state.listeners = Listeners(runtime.settings.limits.listeners)
        stopping = asyncio.Event()
        opening = asyncio.create_task(_serve_indexes(runtime, stopping))
        try:
            async with open_jobs(runtime.settings, runtime) as app.state.jobs:
                yield
        finally:
            stopping.set()
            await opening
            await asyncio.to_thread(runtime.close)
            for one in encoders:
                await asyncio.to_thread(one.close)
            if tracing is not None:
                await asyncio.to_thread(tracing.shutdown)

    return lifespan


async def _serve_indexes(runtime: "Runtime", stopping: asyncio.Event) -> None:
    """Open the indexes, then follow what other processes make of them."""
    await asyncio.to_thread(runtime.open_all)
    gc.freeze()  # a collection that walks through all that stays anyway stops every request
    while not stopping.is_set():
        with suppress(TimeoutError):
            await asyncio.wait_for(stopping.wait(), runtime.settings.refresh_s)
            return
        await asyncio.to_thread(runtime.refresh)


def _open_rebuilds(load_hasher: "LoadHasher", tracing: "TracerProvider | None") -> OpenJobs:
    @asynccontextmanager
    async def open_jobs(settings: Settings, runtime: "Runtime") -> AsyncIterator["Jobs"]:
        from app.rebuild_queue import RebuildQueue

        queue = RebuildQueue(settings)
        await asyncio.to_thread(queue.open)
        try:
            if settings.worker == "none":
                yield queue
                return
            from app.demo import queue_demo
            from app.job_spans import JobSpans
            from app.rebuild import RebuildWorker

            worker = RebuildWorker(
                settings,
                queue,
                load_hasher=load_hasher,
                on_swap=runtime.reload,
                metrics=runtime.metrics,
                spans=JobSpans(tracing),
            )
            await asyncio.to_thread(worker.launch)
            try:
                await asyncio.to_thread(queue_demo, settings, queue)
                yield queue
            finally:
                await asyncio.to_thread(worker.close)
        finally:
            await asyncio.to_thread(queue.close)

    return open_jobs
