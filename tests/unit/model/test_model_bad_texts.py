"""Texts as anybody may send them: each has a code or a named error."""

import numpy as np
import pytest

from encoders.encode import FeatureEncoder
from encoders.errors import TextError
from encoders.registry import load_backbone
from encoders.texts import check_text, is_visible


@pytest.fixture(scope="module")
def encoder() -> FeatureEncoder:
    return FeatureEncoder(load_backbone(device="cpu"))


@pytest.mark.parametrize(
    "text",
    [
        "\U0001f34e\U0001f34f",
        "\U0001f468\u200d\U0001f469\u200d\U0001f467",
        "\u05ea\u05e4\u05d5\u05d7",
        "\u202ered",
        "a\x00b\x07",
    ],
    ids=["emoji", "joined emoji", "right to left", "turned around", "control characters inside"],
)
def test_a_strange_text_has_features_of_its_own_alone_and_among_others(encoder: FeatureEncoder, text: str) -> None:
    alone = encoder.encode_texts([text]).features
    assert np.isfinite(alone).all()
    assert np.array_equal(encoder.encode_texts(["red apple", text, "x"]).features[1:2], alone)


def test_control_characters_do_not_change_a_text(encoder: FeatureEncoder) -> None:
    plain, controlled = encoder.encode_texts(["red apple", "red\x07 app\x00le"]).features
    assert np.array_equal(plain, controlled)


def test_ten_thousand_characters_are_read_to_the_last_chunk_and_the_rest_is_counted(encoder: FeatureEncoder) -> None:
    encoded = encoder.encode_texts(["flower tree " * 833, "x" * 10_000, "ab " * 3334])
    assert np.isfinite(encoded.features).all()
    assert encoded.truncated_tokens.tolist()[0] == 0
    assert encoded.truncated_tokens.tolist()[2] == 3334 - 8 * 254


@pytest.mark.parametrize("text", ["", " \t\n", "\u200b\ufeff", "\x00\x07", "\u00a0\u3000"])
def test_a_text_with_nothing_to_see_is_refused(encoder: FeatureEncoder, text: str) -> None:
    assert not is_visible(text)
    with pytest.raises(TextError, match="at least one visible character"):
        encoder.encode_texts([text])


def test_half_of_a_surrogate_pair_is_refused(encoder: FeatureEncoder) -> None:
    with pytest.raises(TextError, match="half of a surrogate pair"):
        encoder.encode_texts(["a \ud83c"])


@pytest.mark.parametrize("text", ["a", "\u200bx", "\U0001f34e", "\u05d0", "."])
def test_a_text_with_something_to_see_comes_back_as_it_is(text: str) -> None:
    assert check_text(text) == text
