"""The web page, as static files of the package."""

from pathlib import Path

from fastapi import APIRouter
from fastapi.responses import FileResponse
from fastapi.staticfiles import StaticFiles

UI = Path(__file__).parents[1] / "ui"

router = APIRouter(include_in_schema=False)
static_files = StaticFiles(directory=UI)


@router.get("/")
async def page() -> FileResponse:
    """The page; browsers ask again each time, so that an upgrade shows at once."""
    return FileResponse(UI / "index.html", headers={"Cache-Control": "no-cache"})
