"""The web page, as static files of the package.

The page names its files under a folder that is called after their contents (``/ui/3f2a…/main.js``), so browsers keep
them for good, and an upgrade never mixes old modules with new ones.
"""

import hashlib
from pathlib import Path

from fastapi import APIRouter
from fastapi.responses import HTMLResponse
from fastapi.staticfiles import StaticFiles
from starlette.responses import Response
from starlette.types import Scope

UI = Path(__file__).parents[1] / "ui"
FOREVER = "public, max-age=31536000, immutable"

router = APIRouter(include_in_schema=False)


def version_of(folder: Path) -> str:
    """A name for what the files of a folder hold now."""
    digest = hashlib.sha256()
    for path in sorted(folder.iterdir()):
        digest.update(hashlib.sha256(path.name.encode()).digest() + hashlib.sha256(path.read_bytes()).digest())
    return digest.hexdigest()[:16]


VERSION = version_of(UI)
PAGE = (UI / "index.html").read_text(encoding="utf-8").replace("/ui/", f"/ui/{VERSION}/")


class PageFiles(StaticFiles):
    """The page's own files, under their version or plainly."""

    async def get_response(self, path: str, scope: Scope) -> Response:
        """The file, or 304 where the browser has it."""
        folder, _, name = path.rpartition("/")
        response = await super().get_response(name if folder == VERSION else path, scope)
        response.headers["Cache-Control"] = FOREVER if folder == VERSION else "no-cache"
        return response


static_files = PageFiles(directory=UI)


@router.get("/")
async def page() -> HTMLResponse:
    """The page; browsers ask for it each time."""
    return HTMLResponse(PAGE, headers={"Cache-Control": "no-cache"})
