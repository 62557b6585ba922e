"""Predicted anchors on both kinds of text tower: what they read, and what they leave alone."""

import pytest
import tiny_clip
import torch
from torch import Tensor
from torch.nn.functional import pad

from encoders.names import DEFAULT
from encoders.protocol import Backbone
from encoders.registry import load_backbone
from model.anchors import AnchorReader, Anchors, Inputs

NAMES = ("dog", "tree")
WIDTH = 32


@pytest.fixture(scope="module", params=[DEFAULT, tiny_clip.BACKBONE])
def backbone(request: pytest.FixtureRequest) -> Backbone:
    return load_backbone(request.param, "cpu")


def made(backbone: Backbone, layers: int = 1, *, out_of_fold: bool = False) -> Anchors:
    torch.manual_seed(0)
    reader = AnchorReader(backbone, WIDTH, layers=layers, context=3, category=True, sample=True)
    return Anchors(backbone, NAMES, WIDTH, reader=reader, out_of_fold=out_of_fold).eval()


def entered(backbone: Backbone, padding: int = 0) -> tuple[Tensor, Tensor]:
    """States and ids of one text."""
    tokens = pad(torch.tensor([backbone.tokenize("a red apple").chunks[0]]), (0, padding))
    with torch.no_grad():
        return backbone.text_tower.prefix(tokens, 0), tokens


def inputs(backbone: Backbone, padding: int = 0, *, text: bool = True) -> Inputs:
    u = torch.randn(1, WIDTH, generator=torch.Generator().manual_seed(1))
    images = torch.randn(1, backbone.image_dim, generator=torch.Generator().manual_seed(2))
    states, tokens = entered(backbone, padding)
    features = torch.zeros(1, backbone.text_dim)
    return Inputs(u, images, features if text else None, states if text else None, tokens if text else None)


def test_an_untrained_anchor_leaves_the_text_as_it_is(backbone: Backbone) -> None:
    found = made(backbone)(inputs(backbone), None)
    assert found.text is not None
    assert torch.equal(found.text, torch.zeros(1, WIDTH))
    assert found.anchor.shape == (1, WIDTH)
    assert found.guess is not None
    assert found.guess.shape == (1, len(NAMES))


def test_padding_is_not_looked_at(backbone: Backbone) -> None:
    anchors = made(backbone)
    one, other = (anchors.reader(None, *_rest(inputs(backbone, padding))) for padding in (0, 4))
    for found, padded in zip(one, other, strict=True):
        assert torch.allclose(found, padded, atol=1e-5)


def _rest(given: Inputs) -> tuple[Tensor, Tensor | None, Tensor | None]:
    return given.u, given.states, given.tokens


def test_the_anchor_reads_the_text(backbone: Backbone) -> None:
    anchors = made(backbone)
    with_text, without = (anchors(inputs(backbone, text=text), None) for text in (True, False))
    assert without.text is None
    assert not torch.allclose(with_text.anchor, without.anchor)


def test_without_layers_nothing_is_read(backbone: Backbone) -> None:
    found, without = (made(backbone, layers=0)(inputs(backbone, text=text), None) for text in (True, False))
    assert found.text is None
    assert torch.equal(found.anchor, without.anchor)


def test_classes_that_are_given_stand_in_for_the_predicted_ones(backbone: Backbone) -> None:
    anchors, given = made(backbone, layers=0, out_of_fold=True), inputs(backbone)
    one, other = (anchors(given, torch.tensor([row])) for row in ([1.0, 0.0], [0.0, 1.0]))
    assert one.guess is None
    assert not torch.allclose(one.anchor, other.anchor)
    same = anchors(given, torch.tensor([[5.0, 0.0]]))  # weights, not sizes
    assert torch.allclose(one.anchor, same.anchor, atol=1e-6)
