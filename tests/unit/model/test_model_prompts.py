"""Prompts of class names, and texts that are read beside one, on both kinds of text tower."""

from typing import TYPE_CHECKING

import pytest
import torch
from torch import Tensor

from encoders.registry import load_backbone
from model.prompts import AffinityPrompt, class_bank, class_prompt, class_words, prompt_tokens, weighted_mean

if TYPE_CHECKING:
    from encoders.protocol import Backbone

CLIP, BUNDLED = "clip:crossbit-tiny:random", "effnet-lite0+minilm"
NAMES = ("dog", "red apple", "fruit_veg")
TEXTS = ["a dog", "two dogs in the snow", "snow"]
TOLERANCE = 1e-5


@pytest.fixture(scope="module")
def clip() -> "Backbone":
    return load_backbone(CLIP, "cpu")


def prompt(backbone: "Backbone", layers: int = 2, *, gate: float = 0.0) -> AffinityPrompt:
    """In evaluation mode."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        module = AffinityPrompt(backbone, NAMES, layers)
    torch.nn.init.constant_(module.gate, gate)
    return module.eval()


def texts(backbone: "Backbone") -> tuple[Tensor, Tensor]:
    """States after the whole tower, and ids."""
    tokens = prompt_tokens(backbone, TEXTS).to(backbone.device)
    return backbone.text_tower.prefix(tokens, 0), tokens


def classes() -> Tensor:
    return torch.tensor([[1.0, 0, 0], [0.2, 0.5, 0], [0, 0, 1]])


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        ((), "This is an image containing"),
        (("dog",), "This is an image containing dog."),
        (("dog", "cat"), "This is an image containing dog and cat."),
        (("dog", "cat", "tree"), "This is an image containing dog, cat and tree."),
        (("fruit_veg", "red_apple_pie"), "This is an image containing fruit veg and red apple pie."),
    ],
)
def test_a_prompt_names_the_classes_in_one_sentence(names: tuple[str, ...], expected: str) -> None:
    assert class_prompt(names) == expected


def test_tokens_of_prompts_are_padded_to_the_longest(clip: "Backbone") -> None:
    short, long = class_prompt([]), class_prompt(["dog", "cat"])
    tokens = prompt_tokens(clip, [short, long])
    ids = [list(clip.tokenize(text).chunks[0]) for text in (short, long)]
    missing = len(ids[1]) - len(ids[0])
    assert missing > 0
    assert tokens.tolist() == [ids[0] + missing * [0], ids[1]]


def test_of_a_prompt_beyond_the_context_the_first_chunk_is_kept(clip: "Backbone") -> None:
    chunks = clip.tokenize(class_prompt(["dog"] * 20)).chunks
    assert len(chunks) > 1
    assert prompt_tokens(clip, [class_prompt(["dog"] * 20)]).tolist() == [list(chunks[0])]


@pytest.mark.parametrize("name", [CLIP, BUNDLED])
def test_the_word_of_a_class_is_the_mean_of_its_words(name: str) -> None:
    backbone = load_backbone(name, "cpu")
    words = class_words(backbone, NAMES)
    assert words.shape == (3, backbone.text_tower.width)
    for row, text in zip(words, ("dog", "red apple", "fruit veg"), strict=True):
        first, *ids, last = backbone.tokenize(text).chunks[0]
        assert first != last
        expected = backbone.text_tower.words(torch.tensor([ids]))[0].mean(0)
        assert torch.allclose(row, expected, atol=1e-6)


def test_the_bank_holds_the_features_of_each_class_prompt(clip: "Backbone") -> None:
    bank = class_bank(clip, NAMES)
    assert bank.shape == (3, clip.text_dim)
    own = clip.text_features(prompt_tokens(clip, ["This is an image containing fruit veg."]))
    assert torch.allclose(bank[2:], own, atol=1e-6)
    assert torch.allclose(class_bank(clip, NAMES[2:]), bank[2:], atol=1e-6)  # whatever the other classes are


def test_a_weighted_mean_is_that_of_its_formula() -> None:
    vectors = torch.tensor([[1.0, 0], [0, 1], [4, 4]])
    weights = torch.tensor([[1.0, 0, 0], [1, 1, 0], [0.25, 0, 0.75], [0, 0, 0]])
    assert torch.allclose(
        weighted_mean(weights, vectors), torch.tensor([[1.0, 0], [0.5, 0.5], [3.25, 3], [0, 0]]), atol=1e-6
    )


def test_with_its_gate_closed_the_prompt_does_not_multiply_the_text(clip: "Backbone") -> None:
    """At the start: the vector is the text's own state, projected."""
    module, (states, tokens) = prompt(clip), texts(clip)
    tower, count = clip.text_tower, tokens.shape[1]
    with torch.no_grad():
        text, _ = module(states, tokens, None)
        words, ids = module.words.expand(3, -1, -1), module.ids.expand(3, -1)
        both = torch.cat([states, words + module.context[: words.shape[1]]], dim=1)
        visible = torch.cat([tokens, ids], dim=1) != 0
        read = tower.tokens(module.transformer.run(both, tower.sees(visible, both)))
        expected = tower.project(tower.read(read[:, :count], tokens))
    assert torch.allclose(text, expected, atol=TOLERANCE)


def test_without_layers_an_untrained_prompt_leaves_the_text_as_the_tower_read_it(clip: "Backbone") -> None:
    states, tokens = texts(clip)
    with torch.no_grad():
        text, _ = prompt(clip, layers=0)(states, tokens, classes())
    assert torch.allclose(text, clip.text_tower.whole(tokens).pooled, atol=TOLERANCE)


def test_an_open_gate_lets_the_product_with_the_prompt_in(clip: "Backbone") -> None:
    states, tokens = texts(clip)
    with torch.no_grad():
        closed, own = prompt(clip)(states, tokens, None)
        opened, same = prompt(clip, gate=1)(states, tokens, None)
    assert torch.equal(own, same)
    assert (closed - opened).abs().max() > 1e-3


@pytest.mark.parametrize("name", [CLIP, BUNDLED])
@pytest.mark.parametrize("given", [True, False])
def test_padding_of_the_text_changes_nothing(name: str, given: bool) -> None:
    backbone = load_backbone(name, "cpu")
    module, (states, tokens) = prompt(backbone, layers=1, gate=0.5), texts(backbone)
    weights = classes() if given else None
    wider = torch.cat([tokens, torch.zeros(3, 5, dtype=tokens.dtype)], dim=1)
    garbage = torch.cat([states, 30 * torch.randn(3, 5, states.shape[2])], dim=1)
    with torch.no_grad():
        found = module(garbage, wider, weights)
        for one, expected in zip(found, module(states, tokens, weights), strict=True):
            assert torch.allclose(one, expected, atol=TOLERANCE)


def test_a_text_does_not_see_the_others_of_its_batch(clip: "Backbone") -> None:
    module, (states, tokens) = prompt(clip, gate=0.5), texts(clip)
    with torch.no_grad():
        together = module(states, tokens, classes())
        for row, text in enumerate(TEXTS):
            alone = prompt_tokens(clip, [text])
            found = module(clip.text_tower.prefix(alone, 0), alone, classes()[row : row + 1])
            assert all(torch.allclose(a[row], b[0], atol=TOLERANCE) for a, b in zip(together, found, strict=True))


@pytest.mark.parametrize("name", [CLIP, BUNDLED])
def test_the_soft_word_of_the_classes_enters(name: str) -> None:
    backbone = load_backbone(name, "cpu")
    module, (states, tokens) = prompt(backbone, layers=1, gate=0.5), texts(backbone)
    with torch.no_grad():
        found = [module(states, tokens, weights) for weights in (None, classes(), classes().roll(1, 1))]
    for one in range(3):
        for other in range(one):
            for a, b in zip(found[one], found[other], strict=True):
                assert ((a - b).abs().amax(1) > 1e-6).all()


def test_a_prompt_for_one_class_holds_that_word_before_its_last_token(clip: "Backbone") -> None:
    module = prompt(clip)
    words, ids = module._prompt(1, torch.tensor([[0.0, 0.7, 0]]))
    bare, _ = module._prompt(1, None)
    assert torch.allclose(words[0, -2], class_words(clip, NAMES)[1], atol=1e-6)
    assert torch.equal(words[0, -1], bare[0, -1])
    assert torch.equal(words[0, :-2], bare[0, :-1])
    assert ids.shape[1] == words.shape[1] == module.ids.shape[1] + 1 == len(module.context)
    assert (ids != 0).all()


def test_context_gate_and_layers_learn_and_the_tower_does_not(clip: "Backbone") -> None:
    module, (states, tokens) = prompt(clip), texts(clip)
    text, _ = module(states, tokens, classes())
    (text * torch.randn(text.shape, generator=torch.Generator().manual_seed(0))).sum().backward()
    for name, parameter in module.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.abs().max() > 0, name
    assert isinstance(clip, torch.nn.Module)
    for name, parameter in clip.named_parameters():
        assert not parameter.requires_grad, name
        assert parameter.grad is None, name


@pytest.mark.parametrize("layers", [0, 1, 2])
def test_its_layers_start_as_copies_of_the_last_ones_of_the_tower(clip: "Backbone", layers: int) -> None:
    module = prompt(clip, layers)
    assert len(module.transformer.blocks) == layers
    own = [tensor for block in module.transformer.blocks for tensor in block.parameters()]
    towers = [tensor for block in list(clip.text_tower.blocks)[2 - layers :] for tensor in block.parameters()]
    for mine, theirs in zip(own, towers, strict=True):
        assert torch.equal(mine, theirs)
        assert mine.data_ptr() != theirs.data_ptr()
        assert mine.requires_grad


def test_its_state_holds_nothing_of_the_tower(clip: "Backbone") -> None:
    names = {name.split(".")[0] for name in prompt(clip).state_dict()}
    assert names == {"ids", "words", "class_words", "context", "gate", "transformer"}


def test_a_data_set_without_classes_has_a_prompt_all_the_same(clip: "Backbone") -> None:
    module, (states, tokens) = AffinityPrompt(clip, (), 1).eval(), texts(clip)
    assert module.class_words.shape == (0, clip.text_tower.width)
    assert module(states, tokens, None)[0].shape == (3, clip.text_dim)


def test_a_mark_that_has_the_id_of_padding_is_seen(clip: "Backbone") -> None:
    """CLIP's vocabulary begins with the exclamation mark: its id is 0, with which rows are padded."""
    module = prompt(clip, gate=0.5)
    tokens = prompt_tokens(clip, ["a !$ b"])
    assert (tokens == 0).any()
    other = tokens.masked_fill(tokens == 0, int(prompt_tokens(clip, ["dog"])[0, 1]))
    tower = clip.text_tower
    states = tower.prefix(tokens, 0)
    with torch.no_grad():
        assert torch.allclose(module(states, tokens, None)[0], module(states, other, None)[0], atol=TOLERANCE)
