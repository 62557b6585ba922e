"""Label prompts: golden sentences, and training rows turned into what they say."""

import pytest
import tiny_clip
import torch
from torch.nn.functional import normalize

from encoders.protocol import Backbone
from encoders.registry import load_backbone
from model.label_prompts import FORMS, TrainingPrompts, fitting_sentences, label_sentences, sentence_features

NAMES = ("dog", "plant_life", "Tree")
LABELS = torch.tensor([[1.0, 0, 0], [1, 1, 1], [0, 0, 0], [1, 0, 0], [0, 1, 1]])


@pytest.fixture(scope="module")
def backbone() -> Backbone:
    return load_backbone(tiny_clip.BACKBONE, "cpu")


@pytest.mark.parametrize(
    ("form", "expected"),
    [
        ("joined", ["a photo of dog, plant life and tree."]),
        ("image_containing", ["an image containing dog, plant life and tree."]),
        ("bare", ["dog, plant life and tree"]),
        ("per_class", ["a photo of dog.", "a photo of plant life.", "a photo of tree."]),
        ("learned", ["a photo of dog.", "a photo of plant life.", "a photo of tree."]),
    ],
)
def test_golden_sentences(form: str, expected: list[str]) -> None:
    """Acceptance test 11."""
    assert label_sentences(NAMES, form) == expected


def test_every_form_has_its_golden_sentence() -> None:
    assert set(FORMS) == {"joined", "image_containing", "bare", "per_class", "learned"}
    assert label_sentences(["dog"], "joined") == ["a photo of dog."]
    assert label_sentences(["sea", "sky"], "joined") == ["a photo of sea and sky."]


@pytest.mark.parametrize("form", ["joined", "image_containing", "bare", "per_class"])
def test_a_row_is_the_mean_of_its_sentences(backbone: Backbone, form: str) -> None:
    prompts = TrainingPrompts(backbone, NAMES, LABELS, form)
    found = prompts(torch.arange(5))
    for row, labels in zip(found, LABELS, strict=True):
        names = [name for name, on in zip(NAMES, labels, strict=True) if on]
        if not names:
            assert not row.any()
            continue
        expected = sentence_features(backbone, label_sentences(names, form)).sum(0)
        assert torch.allclose(row, normalize(expected, dim=0), atol=1e-6)
    assert torch.equal(found[0], found[3])


MANY = [f"strange_animal_of_kind_{number}" for number in range(12)]


def test_a_sentence_beyond_the_context_becomes_one_for_each_class(backbone: Backbone) -> None:
    assert len(backbone.tokenize(label_sentences(MANY, "joined")[0]).chunks) > 1
    assert fitting_sentences(backbone, MANY, "joined") == label_sentences(MANY, "per_class")
    prompts = TrainingPrompts(backbone, MANY, torch.ones(1, 12), "joined")
    assert torch.allclose(prompts(torch.zeros(1, dtype=torch.long)).norm(dim=1), torch.ones(1))


def test_the_log_tells_how_many_label_sets_did_not_fit(backbone: Backbone, caplog: pytest.LogCaptureFixture) -> None:
    labels = torch.ones(3, len(MANY))
    labels[0, 1:] = 0
    TrainingPrompts(backbone, MANY, labels, "joined")
    assert "1 of 2 label sets do not fit" in caplog.text
    caplog.clear()
    TrainingPrompts(backbone, MANY, labels, "per_class")
    assert not caplog.text


@pytest.mark.parametrize("form", ["joined", "per_class"])
def test_through_untuned_blocks_a_prompt_is_what_the_frozen_tower_reads(backbone: Backbone, form: str) -> None:
    prompts = TrainingPrompts(backbone, NAMES, LABELS, form, tail=1)
    blocks = backbone.text_tower.tail(1)
    batch = torch.tensor([4, 0, 1])
    with torch.no_grad():
        found = prompts(batch, lambda states, tokens: blocks(states, tokens).features)
    assert torch.allclose(found, prompts(batch), atol=1e-5)


def test_nothing_of_the_prompts_is_part_of_a_checkpoint(backbone: Backbone) -> None:
    assert not TrainingPrompts(backbone, NAMES, LABELS, "joined", tail=1).state_dict()
