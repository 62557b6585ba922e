"""DCMH's loss, DSPH, DCHMT and CMCL's global branch: what their specification says of them, and what all keep to."""

import dataclasses
from collections.abc import Mapping
from pathlib import Path

import pytest
import tiny_clip
import torch
from tiny_losses import BENCHMARKS, NAMES, SMALL, check_alone, rows, run
from torch import Tensor

from encoders.protocol import Backbone
from encoders.registry import load_backbone
from model.artifact import load_hasher
from model.errors import ModalityError, RecipeError
from model.hasher import Hasher
from model.images import decode_image
from model.items import ItemArchive
from model.methods import cmcl, dchmt, dcmh, dsph
from model.methods.protocol import Features, Network, Objective
from model.training.methods import trained_module
from model.training.optimiser import make_optimiser, set_rate
from model.training.recipe import Optimiser, Recipe, load_recipe
from model.training.run import EpochReport, new_network, train

METHODS = ("dcmh-loss", "dsph", "dchmt", "cmcl-global")
SHARED = ("config.hidden=32", "config.auxiliary_bits=24")  # of the one that has a shared network


@pytest.fixture(scope="module")
def backbone() -> Backbone:
    return load_backbone(tiny_clip.BACKBONE, "cpu")


def without_labels(features: Features) -> Features:
    return dataclasses.replace(features, labels=None)


def small(method: str, *overrides: str) -> Recipe:
    return load_recipe(method, [*SMALL, *(SHARED if method.startswith("cmcl-global") else ()), *overrides])


def made(backbone: Backbone, method: str, *overrides: str, of: Features | None = None) -> tuple[Objective, Network]:
    recipe = small(method, *overrides)
    network = new_network(recipe, backbone, NAMES).eval()
    objective: Objective = trained_module(method).Objective(recipe.config, network, rows(48, 0) if of is None else of)
    objective.begin()
    return objective, network


def terms(objective: Objective, batch: Tensor | None = None) -> Mapping[str, Tensor]:
    return objective.losses(torch.arange(16) if batch is None else batch, torch.Generator().manual_seed(0))


def backward(found: Mapping[str, Tensor]) -> None:
    torch.stack(list(found.values())).sum().backward()


# what every one of them keeps to


@pytest.mark.parametrize("method", METHODS)
def test_a_tiny_training_beats_chance_by_far(tmp_path: Path, backbone: Backbone, method: str) -> None:
    asked = rows(20, 1)
    trained, _ = run(tmp_path, small(method, "optimiser.epochs=30"), backbone, rows(48, 0), asked)
    assert asked.labels is not None
    chance = (asked.labels @ asked.labels.T > 0).float().mean().item()
    assert trained.best_score is not None
    assert trained.best_score > chance + 0.3


@pytest.mark.parametrize("method", METHODS)
def test_it_trains_every_length_at_once(backbone: Backbone, method: str) -> None:
    objective, network = made(backbone, method)
    backward(terms(objective))
    heads = [own for name, own in network.named_parameters() if "heads." in name and name.endswith("weight")]
    assert len(heads) == (3 if method == "cmcl-global" else 4)
    assert all(own.grad is not None and own.grad.abs().sum() > 0 for own in heads)


@pytest.mark.parametrize("method", METHODS)
def test_a_killed_run_ends_like_one_that_was_not(tmp_path: Path, backbone: Backbone, method: str) -> None:
    recipe, learnt, asked = small(method, "optimiser.epochs=3"), rows(48, 0), rows(20, 1)
    whole, _ = run(tmp_path / "whole", recipe, backbone, learnt, asked)

    class Killed(BaseException):
        """As final as a signal."""

    def die(report: EpochReport) -> None:
        if report.epoch == 2:
            raise Killed

    network = new_network(recipe, backbone, NAMES)
    with pytest.raises(Killed):
        train(recipe, tmp_path / "cut", network, learnt, asked, identity={}, device=torch.device("cpu"), report=die)
    resumed, reports = run(tmp_path / "cut", recipe, backbone, learnt, asked)
    assert [report.epoch for report in reports] == [3]
    theirs = resumed.network.state_dict()
    assert all(torch.equal(value, theirs[name]) for name, value in whole.network.state_dict().items())


@pytest.mark.parametrize("method", ["dcmh-loss", "dsph", "dchmt"])
def test_an_unlabelled_item_takes_no_part(backbone: Backbone, method: str) -> None:
    features = rows(48, 0)
    assert features.labels is not None
    features.labels[8:16] = 0
    (one, _), (other, _) = (made(backbone, method, of=features) for _ in range(2))
    if isinstance(other, dsph.Objective) and isinstance(one, dsph.Objective):
        other.load_state_dict(one.state_dict())  # its proxies are drawn
    mixed, known = terms(one), terms(other, torch.arange(8))
    for name, term in known.items():
        assert mixed[name].item() == pytest.approx(term.item(), rel=1e-5)
    nothing = terms(one, torch.arange(8, 16))
    assert [term.item() for term in nothing.values()] == [0]
    backward(nothing)  # a step goes on


@pytest.mark.parametrize("method", ["dcmh-loss", "dchmt", "cmcl-global"])
def test_without_labels_it_learns_from_pairs(tmp_path: Path, backbone: Backbone, method: str) -> None:
    recipe = small(method, "optimiser.epochs=8")
    bare = [without_labels(rows(count, seed)) for count, seed in ((48, 0), (20, 1))]
    trained, reports = run(tmp_path, recipe, backbone, bare[0], bare[1])
    assert sum(reports[-1].losses.values()) < sum(reports[0].losses.values())
    assert trained.best_score is not None


@pytest.mark.parametrize("method", METHODS)
def test_every_benchmark_has_a_recipe_of_the_papers_hyper_parameters(method: str) -> None:
    for data in BENCHMARKS:
        recipe = load_recipe(f"{method}-{data}")
        assert (recipe.method, recipe.backbone) == (method, "clip:ViT-B-32:openai")
        assert recipe.optimiser.batch == 128
    assert load_recipe(method).config.bits == (16, 32, 64, 128)


@pytest.mark.parametrize(
    ("method", "override", "message"),
    [
        ("dcmh-loss", "config.bits=[12]", "multiples of 8"),
        ("dcmh-loss", "config.gamma=-1.0", "gamma and eta of at least 0"),
        ("dcmh-loss", "config.bank_rows=0", "bank_rows of at least 1"),
        ("dcmh-loss", "config.theta=tan", "theta: expected half or len, found 'tan'"),
        ("dsph", "config.repulsion=-1.0", "repulsion and proxy_rate: expected at least 0"),
        ("dchmt", "config.theta=0.0", "0 < theta <= 1"),
        ("dchmt", "config.max_positive_weight=0.5", "max_positive_weight of at least 1"),
        ("cmcl-global", "config.auxiliary_bits=0", "auxiliary_bits: expected a length"),
        ("cmcl-global", "config.bits=[24]", "multiples of 8"),
        ("cmcl-global", "config.theta=tan", "theta: expected half or len"),
        ("cmcl-global", "config.temperature=0.0", "temperature above 0"),
    ],
)
def test_a_contradiction_is_named(method: str, override: str, message: str) -> None:
    with pytest.raises(RecipeError, match=message):
        small(method, override)


# served: the contract of lone codes


@pytest.fixture(scope="module", params=[*METHODS, "dchmt-mirflickr25k"])
def hasher(request: pytest.FixtureRequest, archive: ItemArchive, tmp_path_factory: pytest.TempPathFactory) -> Hasher:
    """The last one has linear heads."""
    folders = tiny_clip.folders_in(tmp_path_factory.mktemp("home"))
    head = ("config.width=0",) if request.param == "dchmt-mirflickr25k" else ()
    shared = SHARED if request.param == "cmcl-global" else ()
    overrides = (*SMALL, *shared, *head, "optimiser.batch=50", "optimiser.epochs=2")
    tiny_clip.train_tiny(archive, request.param, overrides, "tiny", folders)
    return load_hasher(folders.artifacts / "tiny", 64, "cpu", folders.cache)


def test_a_code_is_that_of_its_own_input_alone_in_any_batch_and_order(hasher: Hasher, archive: ItemArchive) -> None:
    check_alone(hasher, [decode_image(archive.read_image(item)) for item in archive.items[:4]])


def test_it_makes_no_code_of_a_pair(hasher: Hasher, archive: ItemArchive) -> None:
    with pytest.raises(ModalityError):
        hasher.encode_pairs([decode_image(archive.read_image(archive.items[0]))], ["a dog"])


# DCMH


def test_what_is_stored_is_what_the_network_last_made_of_a_row(backbone: Backbone) -> None:
    objective, _ = made(backbone, "dcmh-loss")
    assert isinstance(objective, dcmh.Objective)
    batch = torch.arange(4, 20)
    with torch.no_grad():
        for parameter in objective._borrowed[0].parameters():
            parameter.mul_(1.5)
        terms(objective, batch)
        fresh = objective.outputs(torch.arange(48))
    for bits, sides in fresh.items():
        for stored, side in zip(objective.banks.of(bits), sides, strict=True):
            assert torch.allclose(stored[batch], side[batch])
            assert not torch.allclose(stored[20:], side[20:])


def test_no_gradient_of_the_likelihood_crosses_to_the_other_modality(backbone: Backbone) -> None:
    objective, network = made(backbone, "dcmh-loss")
    assert isinstance(network, dcmh.Network)
    network.text.requires_grad_(False)
    terms(objective)["likelihood"].backward()
    assert all(own.grad is None for own in network.text.parameters())
    assert network.image.heads.heads["16"].weight.grad is not None


def test_bank_rows_are_drawn_by_the_generator(backbone: Backbone) -> None:
    found = [
        made(backbone, "dcmh-loss", "config.bank_rows=5")[0]
        .losses(torch.arange(16), torch.Generator().manual_seed(seed))["likelihood"]
        .item()
        for seed in (0, 0, 1)
    ]
    assert found[0] == found[1] != found[2]


# DSPH


def test_without_labels_there_are_no_proxies(backbone: Backbone) -> None:
    with pytest.raises(
        RecipeError, match=r"dsph: expected training items with labels, .* found none; train `baseline`"
    ):
        made(backbone, "dsph", of=without_labels(rows(48, 0)))


def test_the_proxies_learn_at_a_rate_of_their_own_and_are_not_served(backbone: Backbone) -> None:
    objective, network = made(backbone, "dsph", "config.proxy_rate=20.0")
    optimiser = make_optimiser(Optimiser(), network, objective)
    set_rate(optimiser, 1.0)
    assert [group["lr"] for group in optimiser.param_groups] == [1.0, 20.0]
    assert [tuple(own.shape) for own in objective.parameters()] == [(4, 16), (4, 64)]
    assert not any("proxies" in name for name in network.state_dict())


@pytest.mark.parametrize(
    ("bits", "classes", "distance"), [(16, 29, 8), (32, 29, 16), (64, 80, 32), (8, 2, 8), (8, 1, 8)]
)
def test_zeta_is_the_cosine_of_words_of_known_codes(bits: int, classes: int, distance: int) -> None:
    """Reed-Muller codes of order 1 and the repetition code meet the bound."""
    assert dsph.zeta(bits, classes) == 1 - 2 * distance / bits


def test_codes_at_their_proxies_that_are_far_apart_cost_nothing() -> None:
    proxies = torch.tensor([[1.0, 1, 1, 1, 1, 1, 1, 1], [1, 1, 1, 1, -1, -1, -1, -1]])
    assert dsph.proxy_loss(0.5 * proxies, proxies * torch.tensor([[1], [-1]]), torch.eye(2)) > 0
    opposite = torch.stack([proxies[0], -proxies[0]])
    assert dsph.proxy_loss(0.5 * opposite, opposite, torch.eye(2)).item() == pytest.approx(0, abs=1e-6)


# DCHMT


def test_a_bit_is_the_larger_of_its_pair(backbone: Backbone) -> None:
    _, network = made(backbone, "dchmt")
    assert isinstance(network, dchmt.Network)
    images = rows(6, 2).images
    for pairs, bits in zip(network.pairs(network.image, images), (16, 64), strict=True):
        of_bits = pairs.unflatten(1, (2, bits))
        assert torch.allclose(of_bits.sum(1), torch.ones(6, bits))
        assert torch.equal(of_bits.argmax(1) == 0, network.image_logits(images, bits) > 0)


def test_items_further_apart_than_the_hinge_cost_nothing() -> None:
    one, other = torch.tensor([[1.0, 1, 0, 0]]), torch.tensor([[0.0, 1, 1, 0]])  # one of two bits differs
    apart = torch.zeros(1, 1)
    assert dchmt.distance_loss(one, other, apart, theta=0.5) == 0
    assert dchmt.distance_loss(one, other, apart, theta=1.0) > 0
    assert dchmt.distance_loss(one, other, 1 - apart, theta=0.5).item() == pytest.approx(0.5)


def test_equal_items_that_should_differ_have_a_finite_gradient() -> None:
    pairs = torch.full((2, 8), 0.5, requires_grad=True)
    dchmt.distance_loss(pairs, pairs, torch.eye(2), theta=0.5).backward()
    assert pairs.grad is not None
    assert pairs.grad.isfinite().all()


# CMCL


def test_the_auxiliary_code_is_trained_and_not_served(backbone: Backbone) -> None:
    objective, network = made(backbone, "cmcl-global")
    assert isinstance(objective, cmcl.Objective)
    assert network.lengths == (16, 64)
    assert objective.lengths == (16, 64, 24)
    backward(terms(objective))
    assert all(own.grad is not None and own.grad.abs().sum() > 0 for own in objective.decoders.parameters())
    assert not any("decoders" in name for name in network.state_dict())


def test_unlabelled_items_take_part_in_all_but_the_likelihood(backbone: Backbone) -> None:
    features = rows(48, 0)
    assert features.labels is not None
    features.labels[:16] = 0
    objective, _ = made(backbone, "cmcl-global", of=features)
    assert set(terms(objective)) == {"info_nce", "quantisation", "reconstruction"}
    assert set(terms(objective, torch.arange(12, 20))) > {"inter", "intra"}
