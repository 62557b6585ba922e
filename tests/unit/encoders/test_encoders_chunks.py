"""How long texts enter a tower: chunks by default, the head alone by name."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from encoders.chunks import MAX_CHUNKS, cut, split_name
from encoders.encode import FeatureEncoder
from encoders.registry import load_backbone

TOWERS = ["effnet-lite0+minilm", "clip:crossbit-tiny:random"]


@given(st.lists(st.integers(1, 9), max_size=60), st.integers(3, 12), st.integers(1, 5))
def test_chunks_and_what_is_left_out_make_up_the_text(ids: list[int], context: int, max_chunks: int) -> None:
    tokens = cut(ids, 100, 200, context=context, max_chunks=max_chunks)
    assert 1 <= len(tokens.chunks) <= max_chunks
    assert all(len(chunk) <= context and chunk[0] == 100 and chunk[-1] == 200 for chunk in tokens.chunks)
    assert [token for chunk in tokens.chunks for token in chunk[1:-1]] == ids[: len(ids) - tokens.truncated]


def test_a_name_says_how_much_of_a_text_is_read() -> None:
    assert split_name("clip:a:b") == ("clip:a:b", MAX_CHUNKS)
    assert split_name("clip:a:b@head") == ("clip:a:b", 1)


@pytest.mark.parametrize("towers", TOWERS)
def test_the_head_variant_reads_the_first_chunk_alone(towers: str) -> None:
    whole, head = load_backbone(towers, "cpu"), load_backbone(f"{towers}@head", "cpu")
    text = "flower " * 300
    chunks, first = whole.tokenize(text), head.tokenize(text)
    assert len(chunks.chunks) > 1
    assert first.chunks == chunks.chunks[:1]
    assert first.truncated > chunks.truncated
    with torch.inference_mode():
        expected = head.text_features(torch.tensor(first.chunks)).numpy()
    assert np.array_equal(FeatureEncoder(head).encode_texts([text]).features, expected)


@pytest.mark.parametrize("towers", TOWERS)
def test_the_head_variant_has_its_own_name_and_fingerprint(towers: str) -> None:
    whole, head = load_backbone(towers, "cpu"), load_backbone(f"{towers}@head", "cpu")
    assert (whole.name, head.name) == (towers, f"{towers}@head")
    assert whole.fingerprint != head.fingerprint


def test_the_default_backbone_is_still_the_one_that_artifacts_were_trained_on() -> None:
    fingerprint = load_backbone(device="cpu").fingerprint
    assert fingerprint == "f1fb2176b2298b7a4b79d6577c7d026b4a0dfd6b3a88041877b9f828488f9eca"
