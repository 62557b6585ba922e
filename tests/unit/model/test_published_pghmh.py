"""PGHMH as released: one code of image, text and labels, out of reach of every service, and what labels do to it."""

from pathlib import Path

import numpy as np
import pytest
import tiny_clip
import torch
from numpy.typing import NDArray
from PIL.Image import Image

from model.artifact import load_hasher
from model.errors import ArtifactError, ModalityError
from model.evaluation.codes import Protocol
from model.evaluation.oracle import Prompts, encode_oracle_codes, load_oracle
from model.evaluation.published import pghmh
from model.evaluation.published.encoder import PublishedEncoder
from model.evaluation.results import evaluate_codes
from model.hasher import Modality
from model.images import decode_image
from model.items import ItemArchive, multi_hot
from model.methods.protocol import Features

SMALL = (*tiny_clip.SHARED, "config.positions=16", "config.tuned_rate=0.01")


@pytest.fixture(scope="module")
def folder(archive: ItemArchive, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folders = tiny_clip.folders_in(tmp_path_factory.mktemp("home"))
    tiny_clip.train_tiny(archive, "pghmh-published", SMALL, "released", folders)
    return folders.artifacts / "released"


@pytest.fixture(scope="module")
def encoder(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> PublishedEncoder:
    found = load_oracle(folder, 16, "cpu", tmp_path_factory.mktemp("cache"))
    assert isinstance(found, PublishedEncoder)
    return found


@pytest.fixture(scope="module")
def told(archive: ItemArchive) -> tuple[list[Image], list[str], NDArray[np.bool_]]:
    items = archive.items[:6]
    labels = multi_hot(items, archive.info.class_names).astype(np.bool_)
    return (
        [decode_image(archive.read_image(item)) for item in items],
        [item.texts["title"][0] for item in items],
        labels,
    )


def test_no_service_loads_it(folder: Path) -> None:
    with pytest.raises(ArtifactError, match="expected a method that encodes without labels"):
        load_hasher(folder, 16, "cpu")


def test_it_gives_one_code_a_pair_and_none_of_one_side(
    encoder: PublishedEncoder, told: tuple[list[Image], list[str], NDArray[np.bool_]]
) -> None:
    batches = encoder.encode_labelled(*told)
    assert set(batches) == {Modality.PAIR}
    assert batches[Modality.PAIR].codes.shape == (6, 2)
    with pytest.raises(ModalityError, match="no code of one side alone, found image"):
        encoder._network.image_logits(torch.zeros(1, 32), 16)


def test_its_codes_follow_the_labels_they_are_told(
    encoder: PublishedEncoder, told: tuple[list[Image], list[str], NDArray[np.bool_]]
) -> None:
    images, texts, labels = told
    own, other, none = (
        encoder.encode_labelled(images, texts, one)[Modality.PAIR].margins
        for one in (labels, np.roll(labels, 1, axis=0), np.zeros_like(labels))
    )
    changed = (labels != np.roll(labels, 1, axis=0)).any(1)
    assert (own != other).any(1)[changed].all()
    assert (own != none).any(1).all()


def test_an_item_has_its_code_in_any_company(
    encoder: PublishedEncoder, told: tuple[list[Image], list[str], NDArray[np.bool_]]
) -> None:
    """Fusion is item by item, unlike the parent method's."""
    images, texts, labels = told
    together = encoder.encode_labelled(images, texts, labels)[Modality.PAIR].margins
    for row in range(len(images)):
        part = slice(row, row + 1)
        alone = encoder.encode_labelled(images[part], texts[part], labels[part])[Modality.PAIR].margins
        assert np.allclose(alone[0], together[row], atol=1e-4)


def test_the_oracle_protocol_measures_pairs(encoder: PublishedEncoder, archive: ItemArchive) -> None:
    codes = encode_oracle_codes(encoder, archive, prompts=Prompts.OTHER)
    result = evaluate_codes(codes)
    assert codes.protocol is Protocol.ORACLE
    assert list(result.whole) == ["pair_to_pair"]


def test_prompts_keep_the_released_braces_and_one_lead_in_a_label_set(encoder: PublishedEncoder) -> None:
    network = encoder._network
    assert isinstance(network, pghmh.Network)
    prompts = network._prompts
    labels = torch.zeros(2, len(prompts._names))
    labels[:, 0] = 1
    rows = Features(torch.zeros(2, 1), torch.zeros(2, 1), labels)
    tokenize = network._backbone[0].tokenize
    name = prompts._names[0].replace("_", " ")
    possible = [list(tokenize(f"{lead_in} {{}} {name}").chunks[0]) for lead_in in pghmh.LEAD_INS]
    found = prompts.ids(rows, [0, 1]).tolist()
    assert found[0] in possible
    assert found[1] == found[0]


def test_context_learns_nothing_and_f_learns_slowly(encoder: PublishedEncoder) -> None:
    network = encoder._network
    assert "prompt.context" not in dict(network.named_parameters())
    rates = {group.rate for group in network.parameter_groups()}
    assert rates == {0.01, 0.1, 1.0}
