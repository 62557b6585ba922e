"""The page of ``crossbit data check --html``: one file with charts and the pictures that cross the split."""

import base64
import io
from pathlib import Path

from model.data.report import LENGTH_EDGES, Level, Report
from model.durable import replacing
from model.errors import ArchiveError, ImageError
from model.evaluation.page import chart, render
from model.evaluation.plots import steps
from model.images import decode_image
from model.items import Item, ItemArchive

THUMBNAIL_PX = 160


def write_page(path: Path, report: Report, archive: ItemArchive) -> None:
    """Write the page; every word of the data is escaped, and nothing is fetched when it is opened."""
    wanted = {item_id for twin in report.twins for item_id in (twin.first, twin.second)}
    items = {item.id: item for item in archive.items if item.id in wanted} if wanted else {}
    twins = [
        {
            "verdict": "the same image file" if twin.equal else "alike",
            "sides": [
                {"id": item_id, "split": split, "picture": _thumbnail(archive, items.get(item_id))}
                for item_id, split in ((twin.first, twin.first_split), (twin.second, twin.second_split))
            ],
        }
        for twin in report.twins
    ]
    page = render(
        "check.html.j2",
        report=report,
        twins=twins,
        errors=[one for one in report.findings if one.level is Level.ERROR],
        warnings=[one for one in report.findings if one.level is Level.WARNING],
        balance=_balance(report),
        lengths={variant: _lengths(report, variant) for variant in report.lengths},
    )
    with replacing(path) as temporary:
        temporary.write_text(page, encoding="utf-8")


def _balance(report: Report) -> str:
    counts = sorted(report.classes.values(), reverse=True)
    if not counts:
        return ""
    return chart(steps({"items": counts}, x="class, by size", y="items", edges=range(len(counts) + 1)))


def _lengths(report: Report, variant: str) -> str:
    one = report.lengths[variant]
    if not one.texts:
        return ""
    edges = [*LENGTH_EDGES, max(one.longest, LENGTH_EDGES[-1]) + 1]
    return chart(steps({"texts": one.histogram}, x="word pieces", y="texts", edges=edges, log=True))


def _thumbnail(archive: ItemArchive, item: Item | None) -> str:
    """A data address; empty where the picture cannot be read."""
    if item is None:
        return ""
    try:
        image = decode_image(archive.read_image(item))
    except (ArchiveError, ImageError):
        return ""
    image.thumbnail((THUMBNAIL_PX, THUMBNAIL_PX))
    buffer = io.BytesIO()
    image.save(buffer, "WEBP", quality=70)
    return f"data:image/webp;base64,{base64.b64encode(buffer.getvalue()).decode()}"
