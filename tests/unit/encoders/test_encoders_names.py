"""Names of backbones and the licences they stand for."""

from pathlib import Path

import pytest

from encoders.errors import BackboneNotFound
from encoders.names import PRESETS, ClipName, licence_of, with_file


@pytest.mark.parametrize(
    ("name", "parts"),
    [
        ("clip:ViT-B-32:openai", ClipName("ViT-B-32", "openai", "")),
        ("clip:ViT-B-32:openai@head", ClipName("ViT-B-32", "openai", "", head=True)),
        ("clip:ViT-B-32:openai=/w/a=b.pt", ClipName("ViT-B-32", "openai", "/w/a=b.pt")),
        ("clip:ViT-B-32:/w/a=b/c.safetensors@head", ClipName("ViT-B-32", "", "/w/a=b/c.safetensors", head=True)),
        ("clip:ViT-B-32:mine.pt", ClipName("ViT-B-32", "", "mine.pt")),
        ("clip:ViT-B-32:random", ClipName("ViT-B-32", "random", "")),
        ("clip:ViT-B-32:", ClipName("ViT-B-32", "", "")),
    ],
)
def test_a_name_is_taken_apart_and_put_together(name: str, parts: ClipName) -> None:
    assert ClipName.parse(name) == parts
    assert str(parts) == name


@pytest.mark.parametrize(
    ("backbone", "licence", "commercial"),
    [
        ("effnet-lite0+minilm@head", "Apache-2.0", True),
        ("clip:ViT-B-32:openai", "MIT", True),
        ("clip:ViT-B-16-quickgelu:metaclip_fullcc=/w/b16.pt@head", "CC-BY-NC-4.0", False),
        ("clip:ViT-B-32:random", "none: random weights", True),
        ("clip:ViT-B-32:/w/mine.pt", "unknown: ask whoever made these weights", None),
    ],
)
def test_a_name_stands_for_a_licence(backbone: str, licence: str, commercial: bool | None) -> None:
    assert (licence_of(backbone).name, licence_of(backbone).commercial) == (licence, commercial)


def test_every_preset_has_a_known_licence() -> None:
    assert all(
        licence_of(name).commercial is not None and licence_of(name).source for name in PRESETS if "random" not in name
    )


def test_a_file_is_put_into_a_name(tmp_path: Path) -> None:
    path = tmp_path / "w.safetensors"
    path.touch()
    assert with_file("clip:ViT-B-32:openai@head", path) == f"clip:ViT-B-32:openai={path}@head"
    assert with_file("clip:ViT-B-32:openai=/old.pt", path) == f"clip:ViT-B-32:openai={path}"
    assert with_file("clip:ViT-B-32", path) == f"clip:ViT-B-32:{path}"


@pytest.mark.parametrize("backbone", ["effnet-lite0+minilm", "clip:ViT-B-32:random"])
def test_a_backbone_that_takes_no_file_is_named(tmp_path: Path, backbone: str) -> None:
    with pytest.raises(BackboneNotFound, match=f"found '{backbone.replace('+', '.')}'"):
        with_file(backbone, tmp_path / "w.pt")


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(BackboneNotFound, match=r"ends in \.safetensors.*gone\.pt"):
        with_file("clip:ViT-B-32:openai", tmp_path / "gone.pt")
