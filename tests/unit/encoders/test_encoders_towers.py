"""Inside the towers: prefix and tail are the whole forward bit for bit, and only the tail's blocks are tuned."""

import copy
from typing import TYPE_CHECKING, cast

import pytest
import torch
from torch import Tensor

from encoders.clip import ClipBackbone
from encoders.errors import NoTowerAccess
from encoders.protocol import Backbone
from encoders.registry import load_backbone
from encoders.towers import Tail, TextTower, Tower

if TYPE_CHECKING:
    from encoders.bundled import BundledBackbone

CLIP, BUNDLED = "clip:crossbit-tiny:random", "effnet-lite0+minilm"
TOWERS = [(name, modality) for name in (CLIP, BUNDLED) for modality in ("image", "text")]


@pytest.fixture(params=TOWERS, ids=lambda one: f"{one[0]}-{one[1]}", scope="module")
def split(request: pytest.FixtureRequest) -> tuple[Tower, Tensor, Tensor]:
    """A tower, inputs for it, and the backbone's features of them."""
    name, modality = request.param
    backbone = load_backbone(name, "cpu")
    if modality == "image":
        side = 32 if name == CLIP else 224
        pixels = torch.rand(2, 3, side, side, generator=torch.Generator().manual_seed(0)) * 2 - 1
        return backbone.image_tower, pixels, backbone.image_features(pixels)
    tokens = padded(backbone, ["a dog", "two dogs in the snow"])
    return backbone.text_tower, tokens, backbone.text_features(tokens)


def padded(backbone: Backbone, texts: list[str]) -> Tensor:
    rows = [torch.tensor(backbone.tokenize(text).chunks[0]) for text in texts]
    return torch.nn.utils.rnn.pad_sequence(rows, batch_first=True)


def test_prefix_and_tail_are_the_whole_forward_bit_for_bit(split: tuple[Tower, Tensor, Tensor]) -> None:
    tower, inputs, features = split
    for blocks in range(len(tower.blocks) + 1):
        tail = tower.tail(blocks).eval().requires_grad_(False)
        assert torch.equal(tail(tower.prefix(inputs, blocks), inputs).features, features)


def test_shapes_are_as_the_tower_says(split: tuple[Tower, Tensor, Tensor]) -> None:
    tower, inputs, features = split
    output = tower.whole(inputs)
    assert output.features.shape == features.shape
    assert output.pooled.shape == (2, tower.pooled_dim)
    assert output.tokens.shape[0] == 2
    assert output.tokens.shape[2] == tower.width


def test_only_the_last_blocks_are_tuned_and_the_tower_stays(split: tuple[Tower, Tensor, Tensor]) -> None:
    tower, inputs, features = split
    tail = tower.tail(1).eval()
    assert sum(p.numel() for p in tail.parameters()) == sum(p.numel() for p in tower.blocks[-1].parameters())
    optimiser = torch.optim.SGD(tail.parameters(), lr=10.0)
    state = tower.prefix(inputs, 1)
    weights = torch.linspace(-1, 1, features.shape[1])
    (tail(state, inputs).features @ weights).sum().backward()
    assert all(parameter.grad is not None for parameter in tail.parameters())
    optimiser.step()
    assert not torch.equal(tail(state, inputs).features, features)
    assert torch.equal(tower.whole(inputs).features, features)


def test_checkpointing_changes_no_gradient(split: tuple[Tower, Tensor, Tensor]) -> None:
    tower, inputs, _ = split
    state = tower.prefix(inputs, 1)
    gradients = []
    for checkpointing in (False, True):
        tail = tower.tail(1, checkpointing=checkpointing).eval()
        tail(state, inputs).tokens.square().mean().backward()
        gradients.append([parameter.grad for parameter in tail.parameters()])
    assert all(torch.equal(cast("Tensor", a), cast("Tensor", b)) for a, b in zip(*gradients, strict=True))


def test_a_copied_tail_shares_the_frozen_tower(split: tuple[Tower, Tensor, Tensor]) -> None:
    tower, inputs, _ = split
    tail = tower.tail(1).eval()
    copied: Tail = copy.deepcopy(tail)
    assert copied._tower is tail._tower
    state = tower.prefix(inputs, 1)
    assert torch.equal(copied(state, inputs).features, tail(state, inputs).features)
    assert next(copied.parameters()) is not next(tail.parameters())


def test_an_image_is_in_its_state(split: tuple[Tower, Tensor, Tensor]) -> None:
    tower, inputs, features = split
    if not isinstance(tower, TextTower):
        tail = tower.tail(1).eval().requires_grad_(False)
        assert torch.equal(tail(tower.prefix(inputs, 1)).features, features)


def test_more_blocks_than_there_are_is_refused(split: tuple[Tower, Tensor, Tensor]) -> None:
    tower, inputs, _ = split
    with pytest.raises(ValueError, match=f"expected 0 to {len(tower.blocks)} blocks"):
        tower.prefix(inputs, len(tower.blocks) + 1)


@pytest.mark.parametrize("name", [CLIP, BUNDLED])
def test_padding_is_not_seen(name: str) -> None:
    backbone = load_backbone(name, "cpu")
    alone = padded(backbone, ["a dog"])
    wide = torch.nn.functional.pad(alone, (0, 5))
    tower = backbone.text_tower
    assert torch.allclose(tower.whole(wide).features, tower.whole(alone).features, atol=1e-5)
    assert tower.visible(wide).sum() == alone.shape[1]


@pytest.mark.parametrize("name", [CLIP, BUNDLED])
def test_prompts_see_both_ways_but_no_padding(name: str) -> None:
    """A prompt transformer: copies of the last layers over states and own vectors, under a mask of its own."""
    tower = load_backbone(name, "cpu").text_tower
    tokens = padded(load_backbone(name, "cpu"), ["a dog", "two dogs in the snow"])
    own = tower.words(tokens[:1, 1:3]).expand(2, -1, -1)
    states = torch.cat([tower.prefix(tokens, 0), own], dim=1)
    visible = torch.cat([tower.visible(tokens), torch.ones(2, 2, dtype=torch.bool)], dim=1)
    prompt = tower.tail(1).eval()
    out = prompt.run(states, tower.sees(visible, states))
    other = states.clone()
    other[0, ~visible[0]] = 7.0  # padding may hold anything
    assert torch.allclose(prompt.run(other, tower.sees(visible, other))[visible], out[visible], atol=1e-5)
    other = states.clone()
    other[:, -1] = -other[:, -1]  # a later position reaches an earlier one
    assert not torch.allclose(prompt.run(other, tower.sees(visible, other))[:, 0], out[:, 0], atol=1e-5)


def test_clip_towers_are_those_of_open_clip() -> None:
    backbone = cast("ClipBackbone", load_backbone(CLIP, "cpu"))
    pixels = torch.rand(2, 3, 32, 32, generator=torch.Generator().manual_seed(1))
    assert torch.allclose(backbone.image_tower.whole(pixels).pooled, backbone.model.encode_image(pixels), atol=1e-6)
    tokens = backbone.tokenizer(["a dog", "two dogs in the snow"], context_length=16)
    assert torch.allclose(backbone.text_tower.whole(tokens).pooled, backbone.model.encode_text(tokens), atol=1e-6)


def test_the_text_tower_of_the_default_is_minilm() -> None:
    backbone = cast("BundledBackbone", load_backbone(BUNDLED, "cpu"))
    tokens = padded(backbone, ["a dog", "two dogs in the snow"])
    expected = backbone.minilm.bert(input_ids=tokens, attention_mask=(tokens != 0).long()).last_hidden_state
    assert torch.equal(backbone.text_tower.whole(tokens).tokens, expected)
    assert torch.equal(
        torch.nn.functional.normalize(backbone.text_tower.whole(tokens).pooled, dim=1), backbone.minilm(tokens)
    )


def test_the_image_tower_of_the_default_has_a_token_for_each_place() -> None:
    tower = load_backbone(BUNDLED, "cpu").image_tower
    assert (len(tower.blocks), tower.width) == (7, 1280)
    assert tower.whole(torch.zeros(1, 3, 224, 224)).tokens.shape == (1, 49, 1280)


def test_an_architecture_of_another_kind_gives_pooled_features_alone() -> None:
    backbone = ClipBackbone("clip:crossbit-tiny:random")
    backbone.model.visual.pool_type = "avg"
    backbone.model.text_pool_type = "last"
    with pytest.raises(NoTowerAccess, match="pools by its class token"):
        _ = backbone.image_tower
    with pytest.raises(NoTowerAccess, match="causal text tower"):
        _ = backbone.text_tower
    assert backbone.text_features(torch.tensor(backbone.tokenize("a dog").chunks)).shape == (1, 32)
