"""Model selection reads train and validation rows alone: the test rows wait for the evaluation."""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import SupportsIndex

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL.Image import Image

from encoders.encode import TextFeatures
from model.evaluation.codes import encode_codes
from model.fake import FakeHasher
from model.items import Item, ItemArchive
from model.training import pipeline
from model.training.recipe import load_recipe

SMALL = ["config.bits=[16]", "selection.bits=16", "config.width=32", "optimiser.batch=50", "optimiser.epochs=2"]


class Texts(tuple[str, ...]):
    """Texts that say when one is taken out; asking whether there are any is no reading."""

    archive: "Recording"
    item: str

    def __getitem__(self, place: SupportsIndex | slice) -> str:  # type: ignore[override]  # taken out one by one
        self.archive.read.add((self.item, "text"))
        return super().__getitem__(place)  # type: ignore[return-value]


class Labels(tuple[str, ...]):
    """Labels that say when they are gone through."""

    archive: "Recording"
    item: str

    def __iter__(self) -> Iterator[str]:
        self.archive.read.add((self.item, "labels"))
        return super().__iter__()


class Recording(ItemArchive):
    """Knows which content of which item was read."""

    read: set[tuple[str, str]]

    def watch(self) -> None:
        self.read = set()
        self.items = tuple(map(self._watched, self.items))

    def read_image(self, item: Item) -> bytes:
        self.read.add((item.id, "image"))
        return super().read_image(item)

    def of(self, *splits: str) -> set[tuple[str, str]]:
        return {(item.id, what) for item in self.select(splits) for what in ("image", "text", "labels")}

    def _watched(self, item: Item) -> Item:
        texts, labels = {variant: Texts(own) for variant, own in item.texts.items()}, Labels(item.labels)
        for one in (*texts.values(), labels):
            one.archive, one.item = self, item.id
        return replace(item, texts=texts, labels=labels)


class Encoder:
    """Stands in for the towers, which take most of a training's time: what is read before them is looked at here."""

    fingerprint = "random"

    def __init__(self, *_: object) -> None:
        self._generator = np.random.default_rng(0)

    def encode_images(self, images: Sequence[Image]) -> NDArray[np.float32]:
        return self._generator.random((len(images), 24), np.float32)

    def encode_texts(self, texts: Sequence[str]) -> TextFeatures:
        features = self._generator.random((len(texts), 24), np.float32)
        return TextFeatures(features, np.zeros(len(texts), np.int64))


@pytest.mark.parametrize(("recipe", "overrides"), [("baseline", SMALL), ("itq", ["config.bits=[16]"])])
def test_test_rows_are_not_read_before_the_final_evaluation(
    archive: ItemArchive, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, recipe: str, overrides: list[str]
) -> None:
    backbone = SimpleNamespace(image_dim=24, text_dim=24, licences={}, device=torch.device("cpu"))
    monkeypatch.setattr(pipeline, "load_backbone", lambda *_: backbone)
    monkeypatch.setattr(pipeline, "FeatureEncoder", Encoder)
    watched = Recording.open(archive.path)
    watched.watch()
    folders = pipeline.Folders(tmp_path / "runs", tmp_path / "artifacts", tmp_path / "cache")
    pipeline.train_artifact(load_recipe(recipe, overrides), watched, "one", folders, device="cpu")
    assert watched.read == watched.of("train", "validation")
    encode_codes(FakeHasher(16), watched)
    assert watched.read == watched.of("train", "validation", "query", "unseen")
