"""Vectors of a network that reads: the same bits in any company when served, and what training reads of its rows."""

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from encoders.encode import FeatureEncoder
from encoders.prefix import PrefixCache
from encoders.protocol import Backbone
from encoders.registry import load_backbone
from model.hasher import Modality
from model.methods.prompthash import Config, Network
from model.methods.protocol import Features
from model.states import States, TextBatch
from model.vectors import VectorEncoder

NAMES = ("dog", "snow", "fruit_veg")
TEXTS = [
    "a dog",
    "two dogs in the snow",
    "snow",
    "dog " * 20,
    "a red hat and a blue hat on a hat rack",
    "wow!",
    "x",
    "a",
]
SHAPE = {"bits": (16,), "auxiliary_bits": 0, "width": 16, "hidden": 16, "fusion_hidden": 16, "prompt_layers": 1}
KINDS = {
    "features": {"taap": False, "agsf": False},
    "taap and agsf": {},
    "taap, agsf and predicted classes": {"predicted_prompt": True},
    "tuned": {"tuned_blocks": 1},
    "tuned without taap": {"tuned_blocks": 1, "taap": False},
}
Pair = tuple[NDArray[np.float32], NDArray[np.float32]]  # vectors of images and of texts
HALF = 2e-2  # what states in float16 may move a vector by


@pytest.fixture(scope="module")
def backbone() -> Backbone:
    return load_backbone("clip:crossbit-tiny:random", "cpu")


@pytest.fixture(scope="module", params=KINDS)
def network(request: pytest.FixtureRequest, backbone: Backbone) -> Network:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        built = Network.build(Config(**SHAPE, **KINDS[request.param]), backbone, NAMES)  # type: ignore[arg-type]
    if built.config.taap:
        torch.nn.init.constant_(built.prompt.gate, 0.5)
    return built.eval().requires_grad_(False)


@pytest.fixture(scope="module")
def images() -> list[Image.Image]:
    rng = np.random.default_rng(0)
    return [Image.fromarray(rng.integers(0, 256, (40, 32 + 8 * n, 3), dtype=np.uint8)) for n in range(6)]


@pytest.fixture(scope="module")
def encoder(network: Network, backbone: Backbone) -> VectorEncoder:
    return VectorEncoder(network, backbone, None)


@pytest.fixture(scope="module")
def alone(encoder: VectorEncoder, images: list[Image.Image]) -> Pair:
    """Vectors of each image and of each text, one a call."""
    return (
        np.concatenate([encoder.encode_images([image]) for image in images]),
        np.concatenate([encoder.encode_texts([text]).features for text in TEXTS]),
    )


def lone_vectors(network: Network, rows: Features) -> tuple[Tensor, Tensor]:
    """Of images and of texts."""
    vectors = network.vectors(rows)
    return vectors[Modality.IMAGE], vectors[Modality.TEXT]


def rows_of(backbone: Backbone, network: Network, images: list[Image.Image], texts: list[str], cache: Path) -> Features:
    encoder = FeatureEncoder(backbone, None)
    prefix = PrefixCache(backbone, cache, image_tail=network.image_tail or 0, text_tail=network.text_tail or 0)
    states = States(prefix, prefix.add_images(images), prefix.add_texts(texts))
    features = encoder.encode_images(images), encoder.encode_texts(texts).features
    return Features(*map(torch.from_numpy, features), None, states)


@settings(max_examples=8)
@given(st.lists(st.integers(0, len(TEXTS) - 1), min_size=1, max_size=12))
def test_texts_have_the_same_vectors_alone_and_in_any_company(
    encoder: VectorEncoder, alone: Pair, chosen: list[int]
) -> None:
    assert np.array_equal(encoder.encode_texts([TEXTS[row] for row in chosen]).features, alone[1][chosen])


@settings(max_examples=5)
@given(st.lists(st.integers(0, 5), min_size=1, max_size=8))
def test_images_have_the_same_vectors_alone_and_in_any_company(
    encoder: VectorEncoder, images: list[Image.Image], alone: Pair, chosen: list[int]
) -> None:
    assert np.array_equal(encoder.encode_images([images[row] for row in chosen]), alone[0][chosen])


def test_many_texts_of_one_length_have_the_vectors_of_each(encoder: VectorEncoder) -> None:
    """Enough of them for the larger forwards, half of them padded and half of them not."""
    words = ["dog", "cat", "tree", "flag", "map", "sun", "sea", "hat", "cup", "car", "pen", "box"]
    texts = [text for word in words for text in (f"a {word}", f"a {word} in the snow")]
    lengths = {len(encoder.backbone.tokenize(text).chunks[0]) for text in texts}
    assert len({-(-length // 8) for length in lengths}) == 1
    found = encoder.encode_texts(texts).features
    for text, row in zip(texts, found, strict=True):
        assert np.array_equal(encoder.encode_texts([text]).features[0], row)


def test_the_cache_gives_the_same_bits(
    network: Network,
    backbone: Backbone,
    images: list[Image.Image],
    alone: Pair,
    tmp_path: Path,
) -> None:
    for order in (slice(None, None, -1), slice(None)):  # the second reads what the first wrote
        encoder = VectorEncoder(network, backbone, tmp_path)
        assert np.array_equal(encoder.encode_images(images[order]), alone[0][order])
        assert np.array_equal(encoder.encode_texts(TEXTS[order]).features, alone[1][order])
    assert list(tmp_path.rglob("*.npy"))


def test_another_network_does_not_read_this_ones_vectors(
    network: Network, backbone: Backbone, images: list[Image.Image], tmp_path: Path
) -> None:
    before = VectorEncoder(network, backbone, tmp_path)
    texts, pictures = before.encode_texts(TEXTS).features, before.encode_images(images)
    other = Network.build(network.config, backbone, NAMES).eval().requires_grad_(False)
    after = VectorEncoder(other, backbone, tmp_path)
    assert after.fingerprint != before.fingerprint
    assert not np.array_equal(after.encode_texts(TEXTS).features, texts)
    assert not np.array_equal(after.encode_images(images), pictures)


def test_a_text_of_several_chunks_is_the_mean_of_its_chunks(
    network: Network, backbone: Backbone, encoder: VectorEncoder
) -> None:
    long = "dog in the snow " * 12
    chunks = backbone.tokenize(long).chunks
    assert len(chunks) > 2
    found = torch.from_numpy(encoder.encode_texts([long]).features[0])
    vectors = []
    for ids in chunks:
        tokens = torch.tensor([[*ids, *[0] * (-len(ids) % 8)]])
        if network.text_tail is None:
            vectors.append(backbone.text_features(tokens)[0])
        else:
            vectors.append(network.read_texts(backbone.text_tower.prefix(tokens, network.text_tail), tokens)[0])
    mean = torch.stack(vectors).mean(0)
    if network.text_tail is None:  # of features, before the layers
        mean = network.read_texts(mean[None], None)[0]
    assert torch.allclose(found, mean, atol=1e-5)


def test_tokens_that_are_lost_are_told(encoder: VectorEncoder) -> None:
    assert encoder.encode_texts(["dog", "dog " * 200]).truncated_tokens.tolist() == [0, 200 - 8 * 14]


def test_no_inputs_give_no_vectors(encoder: VectorEncoder) -> None:
    assert encoder.encode_images([]).shape == (0, 16)
    assert encoder.encode_texts([]).features.shape == (0, 16)


def test_training_reads_what_serving_makes(
    network: Network,
    backbone: Backbone,
    images: list[Image.Image],
    alone: Pair,
    tmp_path: Path,
) -> None:
    rows = rows_of(backbone, network, images, TEXTS[: len(images)], tmp_path)
    found = lone_vectors(network, rows)
    for side, expected in zip(found, alone, strict=True):
        assert np.abs(side.numpy() - expected[: len(images)]).max() < HALF


def test_what_training_reads_of_a_row_does_not_depend_on_the_others(
    network: Network, backbone: Backbone, images: list[Image.Image], tmp_path: Path
) -> None:
    rows = rows_of(backbone, network, images, TEXTS[: len(images)], tmp_path)
    for together, read in zip(lone_vectors(network, rows), (network.image_vectors, network.text_vectors), strict=True):
        for row in range(len(images)):
            assert torch.allclose(read(rows, [row])[0], together[row], atol=1e-4)
        order = [3, 0, 5]
        assert torch.allclose(read(rows, order), together[order], atol=1e-4)


def test_training_reads_a_text_with_the_id_of_padding_to_its_end(
    network: Network, backbone: Backbone, images: list[Image.Image], encoder: VectorEncoder, tmp_path: Path
) -> None:
    """CLIP's vocabulary begins with the exclamation mark: its id is 0, with which rows are padded."""
    text = "a !$ b"
    assert 0 in backbone.tokenize(text).chunks[0]
    rows = rows_of(backbone, network, images[:1], [text], tmp_path)
    expected = encoder.encode_texts([text]).features
    assert np.abs(lone_vectors(network, rows)[1].numpy() - expected).max() < HALF


def batch(counts: list[int], lengths: list[int]) -> TextBatch:
    """A text for each count, of so many chunks; states are their ids, twice."""
    width = max(lengths)
    tokens = torch.zeros(len(lengths), width, dtype=torch.long)
    for row, length in enumerate(lengths):
        tokens[row, :length] = torch.arange(1, length + 1) + 10 * row
    owner = torch.tensor([place for place, count in enumerate(counts) for _ in range(count)])
    return TextBatch(tokens[..., None].repeat(1, 1, 2).float(), tokens, owner, len(counts))


def summed(states: Tensor, tokens: Tensor, owner: Tensor) -> Tensor:
    """What is seen of a chunk: its ids and its owner."""
    assert torch.equal(states[..., 0].long(), tokens)
    return torch.stack([tokens.sum(1), (tokens != 0).sum(1), owner], dim=1).float()


@given(st.data(), st.lists(st.integers(1, 4), min_size=1, max_size=60))
def test_the_vector_of_a_text_is_the_mean_of_those_of_its_chunks(data: st.DataObject, counts: list[int]) -> None:
    total = sum(counts)
    lengths = data.draw(st.lists(st.integers(1, 6), min_size=total, max_size=total))
    found = batch(counts, lengths).vectors(summed)
    assert found.shape == (len(counts), 3)
    start = 0
    for text, count in enumerate(counts):
        own = range(start, start + count)
        ids = [sum(range(1, lengths[row] + 1)) + 10 * row * lengths[row] for row in own]
        assert found[text, 0].item() == pytest.approx(sum(ids) / count, rel=1e-5)
        assert found[text, 1].item() == pytest.approx(sum(lengths[row] for row in own) / count)
        assert found[text, 2].item() == text
        start += count


def test_gradients_of_a_text_are_shared_by_its_chunks() -> None:
    own = batch([1, 2], [3, 2, 4])
    states = own.states.clone().requires_grad_()
    sides = TextBatch(states, own.tokens, own.owner, own.texts)
    sides.vectors(lambda states, tokens, owner: states.sum(1)).sum().backward()
    assert states.grad is not None
    assert torch.equal(states.grad.amax((1, 2)), torch.tensor([1.0, 0.5, 0.5]))


def test_a_part_of_the_states_is_of_those_items(backbone: Backbone, images: list[Image.Image], tmp_path: Path) -> None:
    cache = PrefixCache(backbone, tmp_path, image_tail=1, text_tail=1)
    states = States(cache, cache.add_images(images, views=2), cache.add_texts(TEXTS[: len(images)]), 2)
    part = states.part(slice(2, 5))
    assert part.views == 2
    assert torch.equal(part.image_batch([0, 2]), states.image_batch([2, 4]))
    assert torch.equal(part.image_batch([1], view=1), states.image_batch([3], view=1))
    assert not torch.equal(states.image_batch([3], view=1), states.image_batch([3]))
    assert torch.equal(part.text_batch([1]).states, states.text_batch([3]).states)
    assert states.text_batch([0, 3, 1]).owner.tolist() == [0, 1, 1, 2]  # the second has two chunks
