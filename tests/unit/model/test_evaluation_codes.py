"""Code sets of the small data set of coloured squares, and the protocols over them."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL.Image import Image
from tiny_home import make_archive

from model.errors import ArchiveError, ModalityError, OracleError
from model.evaluation import oracle
from model.evaluation.codes import CodeSet, Protocol, encode_codes, encode_lengths, evaluated_captions, evaluated_items
from model.evaluation.oracle import encode_oracle_codes, load_oracle
from model.evaluation.results import as_json, as_table, evaluate_codes, rankings
from model.fake import FakeHasher
from model.hasher import EncodedBatch, Modality
from model.items import Item, ItemArchive

LONE = ["image_to_image", "image_to_text", "text_to_image", "text_to_text"]
PAIRED = ["image_to_pair", "pair_to_image", "pair_to_pair", "pair_to_text", "text_to_pair"]


class FusingHasher(FakeHasher):
    """Fuses by taking the text's code."""

    def __init__(self) -> None:
        super().__init__(16)
        self.modalities = frozenset(Modality)

    def encode_pairs(self, images: Sequence[Image], texts: Sequence[str]) -> EncodedBatch:
        return self.encode_texts(texts)


class LabelEncoder:
    """As published code does: the code is the label set."""

    bits = 8
    company = 64

    def encode_labelled(
        self, images: Sequence[Image], texts: Sequence[str], labels: NDArray[np.bool_]
    ) -> Mapping[Modality, EncodedBatch]:
        codes = np.packbits(labels, axis=1, bitorder="little")
        return {Modality.PAIR: EncodedBatch(codes, np.ones((len(codes), 8), np.float32), np.zeros(len(codes), int))}


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> ItemArchive:
    path = tmp_path_factory.mktemp("tiny") / "archive.zip"
    make_archive(path, 50)
    return ItemArchive.open(path)


@pytest.fixture(scope="module")
def codes(tiny: ItemArchive) -> CodeSet:
    return encode_codes(FakeHasher(16), tiny)


def test_codes_come_from_the_hasher_row_for_row(codes: CodeSet, tiny: ItemArchive) -> None:
    texts = [item.texts["title"][0] for item in tiny.select(("query",))]
    assert np.array_equal(codes.queries[Modality.TEXT], FakeHasher(16).encode_texts(texts).codes)
    assert np.array_equal(codes.query_margins[Modality.TEXT], FakeHasher(16).encode_texts(texts).margins)
    assert codes.query_ids == tuple(item.id for item in tiny.select(("query",)))
    assert codes.database_ids == tuple(item.id for item in tiny.database())
    assert codes.order.tolist() == [item.order for item in tiny.database()]
    assert (codes.protocol, codes.captions, codes.skipped) == (Protocol.LONE, "title", ())
    assert codes.database[Modality.IMAGE].shape == (40, 2)
    assert codes.database_labels.shape == (40, 3)


def test_several_lengths_are_the_codes_of_each_alone(tiny: ItemArchive) -> None:
    hashers = [FakeHasher(bits) for bits in (16, 64)]
    for several, alone in zip(
        encode_lengths(hashers, tiny), [encode_codes(hasher, tiny) for hasher in hashers], strict=True
    ):
        assert several.bits == alone.bits
        for side in (Modality.IMAGE, Modality.TEXT):
            assert np.array_equal(several.queries[side], alone.queries[side])
            assert np.array_equal(several.database[side], alone.database[side])
            assert np.array_equal(several.database_margins[side], alone.database_margins[side])


def test_an_item_is_read_once_for_all_lengths(tiny: ItemArchive, monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[str] = []
    real = ItemArchive.read_image

    def recorded(archive: ItemArchive, item: Item) -> bytes:
        read.append(item.id)
        return real(archive, item)

    monkeypatch.setattr(ItemArchive, "read_image", recorded)
    queries, database = evaluated_items(tiny, "title")
    encode_lengths([FakeHasher(16), FakeHasher(64)], tiny)
    assert sorted(read) == sorted(item.id for item in (*queries, *database))


def test_captions_choose_the_text(tiny: ItemArchive) -> None:
    full = encode_codes(FakeHasher(16), tiny, captions="full")
    texts = [item.texts["full"][0] for item in tiny.select(("query",))]
    assert np.array_equal(full.queries[Modality.TEXT], FakeHasher(16).encode_texts(texts).codes)


def test_items_that_do_not_decode_are_left_out_and_named(tmp_path: Path) -> None:
    make_archive(tmp_path / "bad.zip", 50, bad=(4, 10))  # a query and a database item
    codes = encode_codes(FakeHasher(16), ItemArchive.open(tmp_path / "bad.zip"))
    assert [one.id for one in codes.skipped] == ["item-0004", "item-0010"]
    assert all("expected a whole image" in one.reason for one in codes.skipped)
    assert (len(codes.query_ids), len(codes.database_ids), len(codes.unseen)) == (9, 39, 39)
    assert evaluate_codes(codes).skipped == 2


def test_nothing_that_decodes_is_an_error(tmp_path: Path) -> None:
    make_archive(tmp_path / "bad.zip", 20, bad=range(20))
    with pytest.raises(ArchiveError, match="found 20 that cannot; the first, item-0004: expected a whole image"):
        encode_codes(FakeHasher(16), ItemArchive.open(tmp_path / "bad.zip"))


def test_lone_directions_never_hold_a_pair(codes: CodeSet, tiny: ItemArchive) -> None:
    assert list(codes.directions) == LONE
    assert list(encode_codes(FusingHasher(), tiny).directions) == LONE


def test_paired_directions_always_hold_a_pair(tiny: ItemArchive) -> None:
    paired = encode_codes(FusingHasher(), tiny).paired()
    assert list(paired.directions) == PAIRED
    result = evaluate_codes(paired)
    assert set(as_json([result])) == {"paired"}
    assert result.whole["pair_to_pair"].map_all == result.whole["text_to_pair"].map_all


def test_a_method_that_does_not_fuse_has_no_paired_protocol(codes: CodeSet) -> None:
    with pytest.raises(ModalityError, match=r"expected a method that fuses .* found codes of image, text"):
        codes.paired()


def test_the_oracle_sees_labels_and_is_named(tiny: ItemArchive) -> None:
    codes = encode_oracle_codes(LabelEncoder(), tiny)
    result = evaluate_codes(codes)
    assert codes.protocol is Protocol.ORACLE
    assert result.whole["pair_to_pair"].map_all.worst == 1
    assert set(as_json([result])) == {"oracle"}


def test_an_oracle_is_found_by_the_artifacts_method(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    manifest = {name: {} for name in ("config", "fingerprints", "licences", "data", "training")}
    manifest |= {"name": "x", "method": "leaky", "backbone": "b", "image_dim": 1, "text_dim": 1, "format": 1}
    (tmp_path / "manifest.json").write_text(str(manifest).replace("'", '"'))
    with pytest.raises(OracleError, match=r"found 'leaky', which takes none; leave out --oracle.*not a retrieval res"):
        load_oracle(tmp_path, 8, "cpu")
    monkeypatch.setitem(oracle.LOADERS, "leaky", lambda *_: LabelEncoder())
    assert load_oracle(tmp_path, 8, "cpu").bits == 8


def test_the_unseen_database_is_what_was_not_trained_on(codes: CodeSet) -> None:
    assert not codes.unseen.any()
    assert not evaluate_codes(codes).unseen
    assert rankings(codes) == 10 * 4


def test_other_captions_stand_beside_the_headline_and_are_marked(tiny: ItemArchive) -> None:
    assert evaluated_captions(tiny) == ("title", "full")
    results = [evaluate_codes(encode_codes(FakeHasher(16), tiny, captions=name)) for name in ("title", "full")]
    shown = as_json(results)["lone"]["image_to_text"]["16"]
    assert shown["captions"] == "title"
    assert shown["other_captions"]["full"]["map_all"] != shown["map_all"]
    _, rows = as_table(results)
    assert [row[1] for row in rows] == ["title"] * 5 + ["full (not the headline)"] * 5


def test_stable_ties_follow_the_shuffled_order_and_not_the_ids(codes: CodeSet) -> None:
    collapsed = replace(codes, database={side: np.zeros_like(rows) for side, rows in codes.database.items()})
    one, other = (
        evaluate_codes(replace(collapsed, order=order)).whole["image_to_text"].map_all
        for order in (np.arange(40), np.argsort(collapsed.database_labels[:, 0], kind="stable").argsort())
    )
    assert one.expected == other.expected
    assert one.stable != other.stable
