"""PGHMH's network and losses on features of a tiny CLIP: what its switches change, and what labels may do."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import tiny_clip
import torch

from encoders.protocol import Backbone
from encoders.registry import load_backbone
from model.anchors import LEAD_INS, TrueAnchors, class_sentences, spoken
from model.banks import PairBank
from model.errors import RecipeError
from model.hasher import Modality
from model.losses import Attraction, overlap_contrast
from model.masks import MaskedCodes, contrast_masks, draw_masks, partial_consistency
from model.methods import pghmh
from model.methods.protocol import Features
from model.training.recipe import Recipe, load_recipe
from model.training.run import EpochReport, Trained, new_network, train

NAMES = ("red_apple", "dog", "tree")
SMALL = (*tiny_clip.SERVED, "config.prompt_layers=0", "optimiser.batch=16", "optimiser.epochs=3")


@pytest.fixture(scope="module")
def backbone() -> Backbone:
    return load_backbone(tiny_clip.BACKBONE, "cpu")


def rows(count: int, seed: int, *, labels: bool = True) -> Features:
    """Three classes; features are noisy class vectors."""
    generator = torch.Generator().manual_seed(seed)
    classes = torch.arange(count) % len(NAMES)
    centres = torch.randn(len(NAMES), 32, generator=torch.Generator().manual_seed(99))
    images, texts = (centres[classes] + 0.5 * torch.randn(count, 32, generator=generator) for _ in range(2))
    return Features(images, texts, torch.nn.functional.one_hot(classes, len(NAMES)).float() if labels else None)


def objective(backbone: Backbone, overrides: Sequence[str] = (), *, labels: bool = True) -> pghmh.Objective:
    recipe = load_recipe("pghmh", [*SMALL, *overrides])
    network = new_network(recipe, backbone, NAMES if labels else ())
    assert isinstance(network, pghmh.Network)
    made = pghmh.Objective(recipe.config, network.eval(), rows(48, 0, labels=labels))
    made.begin()
    return made


def terms(made: pghmh.Objective) -> dict[str, torch.Tensor]:
    return made.losses(torch.arange(16), torch.Generator().manual_seed(0))


def run(folder: Path, recipe: Recipe, backbone: Backbone, *, labels: bool = True) -> tuple[Trained, list[EpochReport]]:
    reports: list[EpochReport] = []
    trained = train(
        recipe,
        folder,
        new_network(recipe, backbone, NAMES if labels else ()),
        rows(48, 0, labels=labels),
        rows(18, 1, labels=labels),
        identity={},
        device=torch.device("cpu"),
        report=reports.append,
    )
    return trained, reports


@pytest.mark.parametrize("recipe", ["pghmh", "pghmh-lite"])
def test_it_learns_three_classes_under_every_mask(tmp_path: Path, backbone: Backbone, recipe: str) -> None:
    _, reports = run(tmp_path, load_recipe(recipe, [*SMALL, "optimiser.epochs=15"]), backbone)
    assert reports[-1].validation is not None
    scores = reports[-1].validation.directions
    assert set(scores) == {"pair_to_pair", "image_to_pair", "text_to_pair", "image_to_text", "text_to_image"}
    assert min(seen for seen, _ in scores.values()) > 0.8


def test_every_published_level_has_its_term(backbone: Backbone) -> None:
    both = {"contrast", "quantisation", "consistency", "reconstruction", "likelihood", "align", "anchor"}
    assert set(terms(objective(backbone))) == both
    assert set(terms(objective(backbone, ["config.out_of_fold=false"]))) == both | {"classes"}
    assert set(terms(objective(backbone, ["config.predicted_anchors=false"]))) == both


def test_without_labels_every_mask_of_an_item_teaches(tmp_path: Path, backbone: Backbone) -> None:
    assert set(terms(objective(backbone, labels=False))) == {
        "contrast",
        "quantisation",
        "consistency",
        "reconstruction",
    }
    _, reports = run(tmp_path, load_recipe("pghmh", [*SMALL, "optimiser.epochs=15"]), backbone, labels=False)
    assert reports[-1].losses["contrast"] < reports[0].losses["contrast"]
    assert reports[-1].validation is not None
    assert "pair_to_pair" not in reports[-1].validation.directions  # a code's distance to itself says nothing


def test_each_item_is_drawn_under_one_mask_by_the_shares() -> None:
    drawn = draw_masks(torch.arange(2000), (0.6, 0.2, 0.2), torch.Generator().manual_seed(0))
    assert torch.equal(torch.cat(list(drawn.values())).sort().values, torch.arange(2000))
    assert [len(drawn[mask]) / 2000 for mask in (Modality.PAIR, Modality.IMAGE, Modality.TEXT)] == pytest.approx(
        [0.6, 0.2, 0.2], abs=0.04
    )
    assert set(draw_masks(torch.arange(5), (1.0, 0.0, 0.0), torch.Generator())) == {Modality.PAIR}


def test_a_partial_code_moves_toward_its_pair_and_not_the_other_way() -> None:
    bank, rows_of = PairBank(8, [16]), torch.arange(8)
    pair, image = (torch.randn(8, 16, requires_grad=True) for _ in range(2))
    bank.write(rows_of, {16: pair})
    masked = [MaskedCodes(Modality.PAIR, rows_of, {16: pair}), MaskedCodes(Modality.IMAGE, rows_of, {16: image})]
    apart = partial_consistency(masked, bank)
    assert apart is not None
    assert torch.allclose(apart, (pair - image).square().mean())
    apart.backward()
    assert image.grad is not None
    assert pair.grad is None
    assert partial_consistency(masked[:1], bank) is None


def test_the_contrast_acts_across_masks_and_within_each() -> None:
    alike = torch.eye(4)
    codes = [torch.eye(4)[order].requires_grad_() for order in ([0, 1, 2, 3], [1, 0, 3, 2])]
    one, other = (
        MaskedCodes(mask, torch.arange(4), {8: own})
        for mask, own in zip((Modality.PAIR, Modality.TEXT), codes, strict=True)
    )
    lone, both = (contrast_masks(masked, lambda a, b: alike, 0.2, 0.5) for masked in ([one], [one, other]))
    assert torch.allclose(lone, overlap_contrast(codes[0], codes[0], Attraction.of(alike), 0.2))
    assert torch.allclose(both, lone + overlap_contrast(codes[0], codes[1], Attraction.of(alike), 0.2))


def test_fresh_codes_of_any_mask_are_compared_with_the_pairs_of_the_bank(backbone: Backbone) -> None:
    made = objective(backbone, ["config.every_mask=true", "config.likelihood=1.0"])
    before = made.bank.of(16).clone()
    found = made.losses(torch.arange(16), torch.Generator().manual_seed(0))
    assert set(found) >= {"likelihood"}
    with torch.no_grad():
        fresh = made._codes(made._look(Modality.PAIR, torch.arange(16)))[16]
    assert torch.allclose(made.bank.of(16)[:16], fresh, atol=1e-6)
    assert torch.equal(made.bank.of(16)[16:], before[16:])


def test_f_has_one_scale_whatever_the_mask(backbone: Backbone) -> None:
    made = objective(backbone)
    norms = [made._look(mask, torch.arange(48)).fused.norm(dim=1).mean().item() for mask in Modality]
    assert max(norms) < 1.6 * min(norms)


def test_training_predictions_are_out_of_fold_and_serving_ones_are_not(backbone: Backbone) -> None:
    made = objective(backbone)
    network, train_rows = made._borrowed
    served = network.anchors.image_classes(train_rows.images)
    assert not torch.allclose(made.guesses[0], served)
    assert made._guessed(Modality.IMAGE, torch.arange(3)) is not None
    pair = made._guessed(Modality.PAIR, torch.arange(3))
    assert pair is not None
    assert torch.allclose(pair, made.guesses[:, :3].mean(0))


def test_switches_leave_their_part_out(backbone: Backbone) -> None:
    def parts(*overrides: str) -> set[str]:
        names = dict(new_network(load_recipe("pghmh", [*SMALL, *overrides]), backbone, NAMES).named_parameters())
        return {name.split(".weight")[0] for name in names}

    assert "anchors.reader.category" not in parts("config.class_bank=false")
    assert "anchors.reader.sample" not in parts("config.sample_token=false")
    assert not any(name.startswith("anchors.") for name in parts("config.predicted_anchors=false"))
    assert any(name.startswith("fusion.map.") for name in parts("config.token_attention=false"))
    assert "anchors.reader.context" in parts("config.prompt_layers=1")
    assert not any(name.startswith("gate.") for name in parts())


def test_a_gate_of_sides_weighs_those_of_a_pair_alone(backbone: Backbone) -> None:
    network = new_network(load_recipe("pghmh", [*SMALL, "config.item_gate=true"]), backbone, NAMES).eval()
    assert isinstance(network, pghmh.Network)
    torch.nn.init.constant_(network.gate.weigh.bias, 100.0)  # the image alone counts
    some = rows(4, 0)
    with torch.no_grad():
        pair, image = network.look(some.images, some.texts, None), network.look(some.images, None, None)
    assert pair.image is not None
    assert torch.allclose(pair.fused, 2 * pair.image, atol=1e-5)
    assert image.image is not None
    assert torch.allclose(image.fused, 2 * image.image)


def test_shuffled_names_give_every_class_the_name_of_another(backbone: Backbone) -> None:
    network = new_network(load_recipe("pghmh", [*SMALL, "config.shuffled_names=true"]), backbone, NAMES)
    assert isinstance(network, pghmh.Network)
    assert sorted(network.names) == sorted(NAMES)
    assert all(one != other for one, other in zip(network.names, NAMES, strict=True))


def test_a_sentence_names_its_classes_under_every_lead_in(backbone: Backbone) -> None:
    assert spoken(["red_apple"]) == "red apple"
    assert spoken(NAMES) == "red apple, dog and tree"
    [found] = class_sentences(backbone, [["dog"]])
    singles = [backbone.text_features(torch.tensor([backbone.tokenize(f"{one} dog").chunks[0]])) for one in LEAD_INS]
    mean = torch.cat(singles).mean(0)
    assert torch.allclose(found, mean / mean.norm(), atol=1e-6)


def test_true_anchors_are_read_once_a_label_set_and_empty_for_none(backbone: Backbone) -> None:
    labels = torch.tensor([[1.0, 0, 1], [0, 0, 0], [1, 0, 1]])
    anchors = TrueAnchors(backbone, NAMES, labels)
    assert len(anchors.sentences) == 2
    found = anchors(torch.arange(3))
    assert torch.equal(found[0], found[2])
    assert torch.equal(found[1], torch.zeros(32))
    assert torch.allclose(found[0], class_sentences(backbone, [["red_apple", "tree"]])[0])


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("config.bits=[12]", "multiples of 8"),
        ("config.pair_share=0.0", "more for the pair"),
        ("config.tuned_blocks=1", "out_of_fold: expected frozen towers"),
        ("config.image_views=2", "image_views: expected tuned_blocks"),
        ("config.fusion_heads=5", "fusion_heads: expected a divisor of width 32, found 5"),
        ("config.temperature=0.0", "temperature and feature_temperature"),
    ],
)
def test_a_contradiction_is_named(override: str, message: str) -> None:
    with pytest.raises(RecipeError, match=message):
        load_recipe("pghmh", [*SMALL, override])


def test_anchors_must_be_made_of_something() -> None:
    with pytest.raises(RecipeError, match="class_bank or sample_token"):
        load_recipe("pghmh", [*SMALL, "config.class_bank=false", "config.sample_token=false"])


def test_the_long_code_may_be_one_that_is_served(backbone: Backbone) -> None:
    made = objective(backbone)
    assert made.bank.lengths == (16, 64)
    assert made.decoders.lengths == (16,)
    assert np.isfinite(sum(term.item() for term in terms(made).values()))
