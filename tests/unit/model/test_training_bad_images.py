"""Pictures that go missing after an import: training skips, counts and names them, and never ends for a few."""

from pathlib import Path

import pytest

from model.data.archive import ArchiveWriter
from model.errors import ArchiveError
from model.items import ItemArchive
from model.skipped import Skipped
from model.training.pipeline import Folders, train_artifact
from model.training.recipe import load_recipe


@pytest.fixture
def linked(tmp_path: Path, archive: ItemArchive) -> ItemArchive:
    """Twelve training items of the fixture whose pictures lie in a folder."""
    root = tmp_path / "photos"
    with ArchiveWriter(tmp_path / "linked" / "archive.sqlite", root) as writer:
        for item in archive.select(("train",))[:12]:
            path = root / str(item.image)
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(archive.read_image(item))
            writer.add(item)
        writer.finish(archive.info)
    return ItemArchive.open(tmp_path / "linked" / "archive.sqlite")


def test_missing_and_broken_pictures_are_skipped_and_named(linked: ItemArchive, tmp_path: Path) -> None:
    missing, broken = linked.items[2], linked.items[7]
    (tmp_path / "photos" / str(missing.image)).unlink()
    (tmp_path / "photos" / str(broken.image)).write_bytes(b"no picture")
    heard: list[tuple[str, str]] = []
    folders = Folders(tmp_path / "runs", tmp_path / "artifacts", tmp_path / "cache")
    recipe = load_recipe("itq", ["config.bits=[8]"])

    def hear(skipped: tuple[Skipped, ...]) -> None:
        heard.extend((one.id, one.reason) for one in skipped)

    manifest = train_artifact(recipe, linked, "small", folders, device="cpu", skip=hear)
    assert manifest.data["train"] == 10
    assert [item_id for item_id, _ in heard] == [missing.id, broken.id]
    assert str(tmp_path / "photos") in heard[0][1]
    assert "expected a whole image" in heard[1][1]


def test_without_a_picture_left_the_first_reason_is_given(linked: ItemArchive, tmp_path: Path) -> None:
    (tmp_path / "photos").rename(tmp_path / "elsewhere")
    folders = Folders(tmp_path / "runs", tmp_path / "artifacts", tmp_path / "cache")
    with pytest.raises(ArchiveError, match="none of 12 images can be read; the first, "):
        train_artifact(load_recipe("itq", ["config.bits=[8]"]), linked, "small", folders, device="cpu")
