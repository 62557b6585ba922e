"""An index copied to a file or to Milvus and back."""

import uuid
from pathlib import Path

import pytest
from tiny_home import DATA, load_fake, make_home

from app.index_commands import build
from app.rebuild_steps import Request
from app.settings import Settings
from app.transfer_commands import export, import_index
from index.editing import editing
from index.errors import IndexCorrupt, IndexNotFound, InvalidItem, ModelMismatch
from index.generations import IndexDirectory
from index.snapshot import Snapshot
from index.transfer import checksums


def request(*, artifact: str = "first", bits: int = 32, name: str = "small") -> Request:
    return Request(name, DATA, artifact, bits, "first", reuse=True, dry_run=False)


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    made = Settings(home=make_home(tmp_path / "home", 10))
    build(made, request(), load_fake)
    return made


@pytest.fixture
def milvus(settings: Settings, milvus_url: str) -> Settings:
    """The same home, whose indexes Milvus searches."""
    server = {"url": milvus_url, "prefix": f"t{uuid.uuid4().hex[:12]}"}
    return Settings(home=settings.home, engine="milvus", milvus=server)


def columns_of(settings: Settings, name: str = "small") -> dict[str, str]:
    with Snapshot.open(settings.indexes_dir / name) as snapshot:
        return checksums(snapshot.written)


def test_a_file_makes_the_same_index_elsewhere(settings: Settings, tmp_path: Path) -> None:
    exported = export(settings, "small", str(tmp_path / "small.tar"))
    elsewhere = Settings(home=tmp_path / "elsewhere")
    imported = import_index(elsewhere, "copy", str(tmp_path / "small.tar"))
    assert exported["checksums"] == columns_of(elsewhere, "copy")
    assert imported["items"] == exported["items"] == 8
    with Snapshot.open(settings.indexes_dir / "small") as one, Snapshot.open(elsewhere.indexes_dir / "copy") as other:
        assert other.item("item-0003") == one.item("item-0003")
        assert other.thumbnail("item-0003") == one.thumbnail("item-0003")


def test_an_import_into_an_index_is_a_new_generation(settings: Settings, tmp_path: Path) -> None:
    export(settings, "small", str(tmp_path / "small.tar"))
    assert import_index(settings, "small", str(tmp_path / "small.tar"))["generation"] == 2
    assert IndexDirectory(settings.indexes_dir / "small").generations() == [1, 2]


def test_edits_are_merged_before_an_export(settings: Settings, tmp_path: Path) -> None:
    with editing(settings.indexes_dir / "small") as editor:
        editor.delete(["item-0001"])
    with pytest.raises(InvalidItem, match="found 1; run `crossbit index compact small` first"):
        export(settings, "small", str(tmp_path / "small.tar"))
    assert not (tmp_path / "small.tar").exists()


@pytest.mark.parametrize(
    ("other", "error", "message"),
    [
        (request(artifact="second"), ModelMismatch, "expected codes of the model that built the index"),
        (request(bits=64), InvalidItem, "expected codes of 64 bits as index 'small' has, found 32"),
    ],
)
def test_another_model_or_code_length_is_refused(
    settings: Settings, tmp_path: Path, other: Request, error: type[Exception], message: str
) -> None:
    export(settings, "small", str(tmp_path / "small.tar"))
    build(settings, other, load_fake)
    with pytest.raises(error, match=message):
        import_index(settings, "small", str(tmp_path / "small.tar"))
    assert IndexDirectory(settings.indexes_dir / "small").generations() == [1, 2]


def test_a_damaged_file_is_refused(settings: Settings, tmp_path: Path) -> None:
    file = tmp_path / "small.tar"
    export(settings, "small", str(file))
    content = bytearray(file.read_bytes())
    content[content.rindex(b"image.codes") + 512] ^= 1  # the first byte behind the header
    file.write_bytes(content)
    with pytest.raises(IndexCorrupt, match=r"image\.codes"):
        import_index(settings, "copy", str(file))
    file.write_bytes(b"something else")
    with pytest.raises(IndexCorrupt, match="not a file that `crossbit index export` wrote"):
        import_index(settings, "copy", str(file))
    assert not IndexDirectory(settings.indexes_dir / "copy").generations()


@pytest.mark.milvus
def test_milvus_and_back(milvus: Settings) -> None:
    expected = columns_of(milvus)
    assert export(milvus, "small", "milvus")["checksums"] == expected
    assert import_index(milvus, "small", "milvus")["generation"] == 2
    assert columns_of(milvus) == expected
    with Snapshot.open(milvus.indexes_dir / "small", 1) as one, Snapshot.open(milvus.indexes_dir / "small", 2) as other:
        assert other.item("item-0003") == one.item("item-0003")


@pytest.mark.milvus
def test_another_model_than_that_of_milvus_is_refused(milvus: Settings, settings: Settings) -> None:
    export(milvus, "small", "milvus")
    build(settings, request(artifact="second"), load_fake)
    with pytest.raises(ModelMismatch):
        import_index(milvus, "small", "milvus")


@pytest.mark.milvus
def test_what_milvus_does_not_hold_is_not_imported(milvus: Settings) -> None:
    with pytest.raises(IndexNotFound, match="export it first"):
        import_index(milvus, "other", "milvus")


@pytest.mark.milvus
def test_a_build_hands_its_generation_to_milvus_before_it_serves(milvus: Settings) -> None:
    from pymilvus import MilvusClient

    build(milvus, request(name="new"), load_fake)
    names = MilvusClient(milvus.milvus.url).list_collections()
    assert [name for name in names if name.startswith(f"{milvus.milvus.prefix}_new_image_000001_flat_")]
