"""The acceptance tests of PGHMH's specification (6.3) on what is served: three masks, one space, no label."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import tiny_clip
from numpy.typing import NDArray
from PIL.Image import Image

from encoders.errors import TextError
from model.artifact import load_hasher
from model.errors import ModalityError
from model.evaluation.codes import CodeSet, encode_codes
from model.evaluation.compare import measure_label_only
from model.evaluation.report import build_report, inspect
from model.evaluation.report_page import report_page
from model.evaluation.results import as_json, as_table, evaluate_codes
from model.hasher import EncodedBatch, Hasher, Modality
from model.images import decode_image
from model.items import ItemArchive
from model.manifest import read_manifest
from model.training.pipeline import Folders

BITS = 64
RECIPES = {
    "anchors": ("pghmh", tiny_clip.SERVED),
    "lite": ("pghmh-lite", tiny_clip.SERVED),
    "tuned": ("pghmh", (*tiny_clip.SERVED, "config.tuned_blocks=1", "config.out_of_fold=false")),
    "late": ("baseline-pair", (*tiny_clip.SHARED[:2], *tiny_clip.SHARED[5:], "config.hidden=32", "config.width=32")),
}


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> Folders:
    return tiny_clip.folders_in(tmp_path_factory.mktemp("home"))


@pytest.fixture(scope="module", params=list(RECIPES))
def artifact(request: pytest.FixtureRequest, archive: ItemArchive, folders: Folders) -> Path:
    recipe, overrides = RECIPES[request.param]
    tiny_clip.train_tiny(archive, recipe, overrides, request.param, folders)
    return folders.artifacts / request.param


@pytest.fixture(scope="module")
def hasher(artifact: Path) -> Hasher:
    return load_hasher(artifact, BITS, "cpu")


@pytest.fixture(scope="module")
def codes(artifact: Path, archive: ItemArchive, folders: Folders) -> CodeSet:
    return encode_codes(load_hasher(artifact, BITS, "cpu", folders.cache), archive)


@pytest.fixture(scope="module")
def pictures(archive: ItemArchive) -> list[Image]:
    return [decode_image(archive.read_image(item)) for item in archive.items[:4]]


TEXTS = ["a red apple", "flag", "two small trees by a house, " * 8, "a dog"]  # the third is cut into chunks


def bits_of(batch: EncodedBatch) -> tuple[bytes, bytes]:
    return batch.codes.tobytes(), batch.margins.tobytes()


def test_it_is_served_three_ways(hasher: Hasher, pictures: list[Image]) -> None:
    assert isinstance(hasher, Hasher)
    assert hasher.modalities == set(Modality)
    batch = hasher.encode_pairs(pictures, TEXTS)
    assert batch.codes.shape == (4, BITS // 8)
    assert (batch.margins >= 0).all()
    assert hasher.encode_pairs([], []).codes.shape == (0, BITS // 8)


def test_codes_are_the_same_alone_and_in_any_batch_and_order(hasher: Hasher, pictures: list[Image]) -> None:
    together = hasher.encode_pairs(pictures, TEXTS)
    backwards = hasher.encode_pairs(pictures[::-1], TEXTS[::-1])
    alone = [hasher.encode_pairs([picture], [text]) for picture, text in zip(pictures, TEXTS, strict=True)]
    assert bits_of(together) == (
        np.concatenate([one.codes for one in alone]).tobytes(),
        np.concatenate([one.margins for one in alone]).tobytes(),
    )
    assert np.array_equal(together.margins, backwards.margins[::-1])
    for encode, inputs in ((hasher.encode_images, pictures), (hasher.encode_texts, TEXTS)):
        single = [encode([value]) for value in inputs]
        assert np.array_equal(encode(inputs).margins, np.concatenate([one.margins for one in single]))


def test_codes_are_the_same_with_and_without_the_cache(
    artifact: Path, folders: Folders, hasher: Hasher, pictures: list[Image]
) -> None:
    cached = load_hasher(artifact, BITS, "cpu", folders.cache)
    for _ in range(2):  # the second time from what the first left
        assert bits_of(cached.encode_pairs(pictures, TEXTS)) == bits_of(hasher.encode_pairs(pictures, TEXTS))


def test_either_side_of_a_pair_matters(hasher: Hasher, pictures: list[Image]) -> None:
    first = hasher.encode_pairs([pictures[0]], ["a dog"])
    assert not np.array_equal(first.margins, hasher.encode_pairs([pictures[1]], ["a dog"]).margins)
    assert not np.array_equal(first.margins, hasher.encode_pairs([pictures[0]], ["a flag"]).margins)


def test_a_pair_needs_a_text_to_see_and_as_many_texts_as_images(hasher: Hasher, pictures: list[Image]) -> None:
    with pytest.raises(TextError):
        hasher.encode_pairs(pictures[:1], [" "])
    with pytest.raises(ValueError, match="shorter"):
        hasher.encode_pairs(pictures[:2], ["one"])


def test_labels_reach_no_code_of_any_mask(artifact: Path, archive: ItemArchive, folders: Folders) -> None:
    """True, permuted and no labels at hand (6.3 a): what the hasher gives is the same, bit for bit."""
    cached = load_hasher(artifact, BITS, "cpu", folders.cache)
    some = archive.items[::4]
    held = [item.labels for item in some]
    found = []
    for labels in (held, held[7:] + held[:7], [("flag",)] * len(held)):
        other = ItemArchive.open(archive.path)
        other.items = tuple(dataclasses.replace(item, labels=own) for item, own in zip(some, labels, strict=True))
        found.append(encode_codes(cached, other))
    for one in found[1:]:
        for side in ("queries", "database", "query_margins", "database_margins"):
            for mask in Modality:
                assert np.array_equal(getattr(one, side)[mask], getattr(found[0], side)[mask])
        assert not np.array_equal(one.query_labels, found[0].query_labels)


def test_an_image_alone_has_no_text_to_change(hasher: Hasher, pictures: list[Image]) -> None:
    """6.3 d: there is no such argument."""
    with pytest.raises(TypeError):
        hasher.encode_images(pictures, TEXTS)  # type: ignore[call-arg]
    assert not np.array_equal(hasher.encode_images(pictures).margins, hasher.encode_pairs(pictures, TEXTS).margins)


def test_figures_name_the_mask_of_either_side_and_average_none(codes: CodeSet) -> None:
    lone, paired = evaluate_codes(codes), evaluate_codes(codes.paired())
    shown = as_json([lone, paired])["paired"]
    assert shown["image_to_pair"][str(BITS)]["masks"] == {"query": ["image"], "database": ["image", "text"]}
    assert shown["pair_to_pair"][str(BITS)]["masks"] == {"query": ["image", "text"], "database": ["image", "text"]}
    headings, rows = as_table([paired])
    saw = [headings.index("query saw"), headings.index("database saw")]
    cells = {row[headings.index("direction")]: [row[place] for place in saw] for row in rows}
    assert cells["text_to_pair"] == ["text", "image + text"]
    assert set(cells) == set(paired.whole)  # a row each, and no mean of them


def test_labels_alone_reach_more_than_codes_of_content(codes: CodeSet, archive: ItemArchive) -> None:
    """6.3 f: a pair code as good as the label-only control on unseen items would be suspect."""
    control = next(
        score for score in measure_label_only(archive, BITS, 0, "title").scores if score.direction == "text_to_text"
    )
    found = evaluate_codes(codes.paired()).unseen["pair_to_pair"].map_all.expected
    assert control.unseen is not None
    assert found < control.unseen - 0.1


def test_agreement_within_label_sets_is_looked_at_for_every_mask(codes: CodeSet) -> None:
    """6.3 g."""
    leaks = inspect(codes).leaks
    assert set(leaks) == set(Modality)
    assert not any(check.alarm for check in leaks.values())


def test_the_report_has_a_table_for_each_protocol(artifact: Path, codes: CodeSet, archive: ItemArchive) -> None:
    if artifact.name != "lite":  # one page says it
        return
    evaluated = [(one, evaluate_codes(one)) for one in (codes, codes.paired())]
    page = report_page(build_report(evaluated, archive, read_manifest(artifact), 1.0))
    assert "lone protocol: mAP@all" in page
    paired = page[page.index("paired protocol: mAP@all") :]
    assert "<td>image_to_pair</td>" in paired
    assert "<td>image + text</td>" in paired
    assert "pair codes of 64 bits" in page  # the leak check of fused codes


def test_one_that_does_not_fuse_still_refuses(archive: ItemArchive, folders: Folders) -> None:
    plain = (*tiny_clip.SHARED[:1], "config.bits=[64]", "config.width=32", "optimiser.epochs=1")
    tiny_clip.train_tiny(archive, "baseline", plain, "plain", folders)
    with pytest.raises(ModalityError, match="expected a method that fuses"):
        load_hasher(folders.artifacts / "plain", 64, "cpu").encode_pairs([], [])


def late_fusion(hasher: Hasher, pictures: Sequence[Image]) -> NDArray[np.float32]:
    """Mean of the logits of both sides, from codes and margins."""

    def logits(batch: EncodedBatch) -> NDArray[np.float32]:
        signs = np.unpackbits(batch.codes, axis=1, bitorder="little").astype(np.float32) * 2 - 1
        return signs * batch.margins

    return (logits(hasher.encode_images(pictures)) + logits(hasher.encode_texts(TEXTS))) / 2


def test_late_fusion_is_the_sign_of_the_mean_of_both_logits(folders: Folders, pictures: list[Image]) -> None:
    late = load_hasher(folders.artifacts / "late", BITS, "cpu")
    mean, batch = late_fusion(late, pictures), late.encode_pairs(pictures, TEXTS)
    assert np.allclose(np.abs(mean), batch.margins, atol=1e-5)
    clear = np.abs(mean) > 1e-5
    found = np.unpackbits(batch.codes, axis=1, bitorder="little").astype(bool)
    assert np.array_equal(found[clear], mean[clear] > 0)


def test_late_fusion_is_the_training_of_the_baseline(archive: ItemArchive, folders: Folders) -> None:
    recipe, overrides = RECIPES["late"]
    for name, method in (("late", recipe), ("lone", "baseline")):
        tiny_clip.train_tiny(archive, method, overrides, name, folders)
    one, other = ((folders.artifacts / name / "weights.safetensors").read_bytes() for name in ("late", "lone"))
    assert one == other
