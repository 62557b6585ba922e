"""The web page, as static files of the package."""

from pathlib import Path

from fastapi import APIRouter
from fastapi.responses import FileResponse
from fastapi.staticfiles import StaticFiles
from starlette.responses import Response
from starlette.types import Scope

UI = Path(__file__).parents[1] / "ui"
REVALIDATE = {"Cache-Control": "no-cache"}  # browsers ask each time, so an upgrade never mixes old modules with new

router = APIRouter(include_in_schema=False)


class PageFiles(StaticFiles):
    """The page's own files."""

    async def get_response(self, path: str, scope: Scope) -> Response:
        """The file, or 304 where the browser has it."""
        response = await super().get_response(path, scope)
        response.headers.update(REVALIDATE)
        return response


static_files = PageFiles(directory=UI)


@router.get("/")
async def page() -> FileResponse:
    """The page."""
    return FileResponse(UI / "index.html", headers=REVALIDATE)
