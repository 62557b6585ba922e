"""The service: ``create_app`` builds everything it holds and hands it down."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from importlib.metadata import version
from pathlib import Path

from fastapi import FastAPI
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException

from app.logs import configure_logs
from app.middleware import BodyLimit, RequestContext, SameSiteWrites
from app.models import LoadHasher
from app.problems import answer_framework_error
from app.routes import encode, indexes, jobs, models, page, probes, search
from app.routes.dependencies import Jobs
from app.routes.openapi import PROBLEM_RESPONSES
from app.runtime import Runtime
from app.settings import Settings
from index.generations import list_indexes
from model.hasher import Hasher

DESCRIPTION = "Search images by text and texts by image through short binary codes, exactly and in a total order."

OpenJobs = Callable[[Settings, Runtime], AbstractAsyncContextManager[Jobs]]


def load_artifact(artifact_dir: Path, bits: int, device: str) -> Hasher:
    """The trained model in ``artifact_dir``; brings in torch, so it is imported when the first model is needed."""
    from model.artifact import load_hasher

    return load_hasher(artifact_dir, bits, device)


def create_app(
    settings: Settings | None = None, *, load_hasher: LoadHasher = load_artifact, open_jobs: OpenJobs | None = None
) -> FastAPI:
    """The application; without settings, those of the environment.

    ``load_hasher`` and ``open_jobs`` replace the models and the job engine, for tests and for embedding.
    """
    settings = settings or Settings()
    configure_logs(settings)
    runtime = Runtime(settings, load_hasher)

    app = FastAPI(
        title="Crossbit",
        summary="Cross-modal hashing and exact Hamming search",
        description=DESCRIPTION,
        version=version("crossbit"),
        docs_url=None,  # the interactive pages load their scripts from another host
        redoc_url=None,
        redirect_slashes=False,
        lifespan=_lifespan(runtime, open_jobs or _open_rebuilds(load_hasher)),
        responses=PROBLEM_RESPONSES,
        exception_handlers={
            HTTPException: answer_framework_error,
            RequestValidationError: answer_framework_error,
        },
    )
    # the last one added is the outermost
    app.add_middleware(BodyLimit, max_body_bytes=settings.limits.body_bytes)
    app.add_middleware(SameSiteWrites)
    app.add_middleware(RequestContext)
    for routes in (search, encode, indexes, jobs, models, probes, page):
        app.include_router(routes.router)
    app.mount("/ui", page.static_files)
    return app


def _lifespan(runtime: Runtime, open_jobs: OpenJobs) -> Callable[[FastAPI], AbstractAsyncContextManager[None]]:
    """Answers probes at once and opens models and indexes meanwhile."""

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        app.state.runtime = runtime
        names = list_indexes(runtime.settings.indexes_dir)
        opening = asyncio.create_task(asyncio.to_thread(runtime.open_all, names))
        try:
            async with open_jobs(runtime.settings, runtime) as app.state.jobs:
                yield
        finally:
            await opening
            await asyncio.to_thread(runtime.close)

    return lifespan


def _open_rebuilds(load_hasher: LoadHasher) -> OpenJobs:
    @asynccontextmanager
    async def open_jobs(settings: Settings, runtime: Runtime) -> AsyncIterator[Jobs]:
        from app.rebuild import Rebuilds

        rebuilds = Rebuilds(settings, load_hasher=load_hasher, on_swap=runtime.reload)
        await asyncio.to_thread(rebuilds.launch)
        try:
            yield rebuilds
        finally:
            await asyncio.to_thread(rebuilds.close)

    return open_jobs
