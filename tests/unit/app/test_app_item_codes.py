"""In which columns an item has codes, and what each is made from."""

import numpy as np
import pytest
from PIL import Image

from app.item_codes import Parts, encode_parts, modalities_of, presence_of
from index.presence import Presence
from model.fake import FakeHasher, FusingFakeHasher
from model.hasher import Modality

FUSING = FusingFakeHasher(64)
RED, BLUE = (Image.new("RGB", (4, 3), color) for color in ("red", "blue"))
WHOLE = Parts(RED, ("a red square",))
DRAWN = Parts(BLUE, ())
WRITTEN = Parts(None, ("some words", "more words"))
DESCRIBED = Parts(BLUE, ("one", "two"))


def test_a_model_that_does_not_fuse_makes_no_pairs() -> None:
    codes = encode_parts(FakeHasher(64), [WHOLE, DRAWN, WRITTEN])
    assert [set(one) for one in codes] == [{"image", "text"}, {"image"}, {"text"}]


def test_an_item_with_both_has_the_fused_code() -> None:
    (codes,) = encode_parts(FUSING, [WHOLE])
    assert np.array_equal(codes["pair"], FUSING.encode_pairs([RED], ["a red square"]).codes)
    assert set(codes) == {"image", "text", "pair"}


def test_an_item_with_one_part_has_the_code_of_that() -> None:
    drawn, written = encode_parts(FUSING, [DRAWN, WRITTEN])
    assert np.array_equal(drawn["pair"], FUSING.encode_images([BLUE]).codes)
    assert np.array_equal(written["pair"], FUSING.encode_texts(WRITTEN.texts).codes)


def test_each_of_several_texts_is_fused_with_the_image() -> None:
    (codes,) = encode_parts(FUSING, [DESCRIBED])
    assert np.array_equal(codes["pair"], FUSING.encode_pairs([BLUE, BLUE], ["one", "two"]).codes)


def test_codes_do_not_depend_on_the_other_items() -> None:
    items = [DRAWN, DESCRIBED, WRITTEN, WHOLE]
    for one, codes in zip(items, encode_parts(FUSING, items), strict=True):
        (alone,) = encode_parts(FUSING, [one])
        assert alone.keys() == codes.keys()
        assert all(np.array_equal(alone[name], codes[name]) for name in alone)


def test_no_items_have_no_codes() -> None:
    assert encode_parts(FUSING, []) == []


@pytest.mark.parametrize("known", [{"image", "text"}, {"image"}, {"text"}, set(Modality), {"image", "pair"}, {"pair"}])
@pytest.mark.parametrize("item", [WHOLE, DRAWN, WRITTEN])
def test_the_columns_of_an_item_are_known_before_it_is_encoded(known: set[str], item: Parts) -> None:
    hasher = FusingFakeHasher(64)
    hasher.modalities = frozenset(map(Modality, known))
    (codes,) = encode_parts(hasher, [item])
    assert modalities_of(hasher.modalities, image=item.image is not None, text=bool(item.texts)) == set(codes)


def test_presence_is_that_of_the_parts_where_there_is_a_pair_code() -> None:
    (codes,) = encode_parts(FUSING, [WHOLE])
    assert presence_of(codes, image=True, text=True) is Presence.BOTH
    assert presence_of(codes, image=False, text=True) is Presence.TEXT
    (plain,) = encode_parts(FakeHasher(64), [WHOLE])
    assert presence_of(plain, image=True, text=True) is Presence.NONE
