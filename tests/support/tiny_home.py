"""A small home on disk: a data set of coloured squares, and artifacts that ``FakeHasher`` stands in for."""

import io
from collections.abc import Collection
from pathlib import Path

from fake_artifact import write_fake_artifact
from PIL import Image

from model.data.archive import write_archive
from model.fake import FakeHasher, FusingFakeHasher
from model.items import ArchiveInfo, Item

DATA = "tiny"
FUSING = "fusing"  # name of an artifact


def png(number: int) -> bytes:
    """A picture that no other number has."""
    image = Image.new("RGB", (8, 8), (number % 256, number // 256, 77))
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    return buffer.getvalue()


def make_item(number: int) -> Item:
    """Every fifth item is a query, and so outside the database."""
    return Item(
        id=f"item-{number:04d}",
        image=f"images/{number:04d}.png",
        texts={"title": (f"title {number}", f"other title {number}"), "full": (f"full {number}",)},
        labels=("even",) if number % 2 == 0 else ("odd", "strange"),
        group=str(number),
        split="query" if number % 5 == 4 else "train",
        order=number,
        metadata={"number": number},
    )


def make_archive(
    path: Path, items: int, *, bad: Collection[int] = (), changed: Collection[int] = (), name: str = DATA
) -> None:
    """Write a data set; ``bad`` items have a picture that does not decode, ``changed`` ones another picture."""
    info = ArchiveInfo(
        name=name,
        title="Tiny",
        source="made by the tests",
        revision="1",
        licence="public domain",
        captions=("title", "full"),
        class_names=("even", "odd", "strange"),
        split_seed=1,
        split_hash="",
        notes={},
    )

    def read_image(item: Item) -> bytes:
        if item.order in bad:
            return b"not a picture"
        return png(item.order + (10_000 if item.order in changed else 0))

    write_archive(path, info, [make_item(number) for number in range(items)], read_image)


def make_home(home: Path, items: int, *, bad: Collection[int] = ()) -> Path:
    """A home with the data set and the artifacts ``first`` and ``second``, without an index."""
    make_archive(home / "data" / DATA / "archive.zip", items, bad=bad)
    for artifact in ("first", "second"):
        write_fake_artifact(home / "artifacts" / artifact)
    return home


def load_fake(artifact_dir: Path, bits: int, device: str) -> FakeHasher:
    """Another model for each artifact name; the one named ``FUSING`` fuses."""
    kind = FusingFakeHasher if artifact_dir.name == FUSING else FakeHasher
    return kind(bits, seed=artifact_dir.name)
