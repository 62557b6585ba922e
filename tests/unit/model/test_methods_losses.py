"""DNpH, CMHH's loss and DHaPH: what their specification says of them, and what every method that is a loss keeps to."""

import dataclasses
from pathlib import Path
from typing import cast

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
from model.methods import cmhh, dhaph, dnph
from model.methods.protocol import Features
from model.training.methods import trained_module
from model.training.optimiser import make_optimiser, set_rate
from model.training.recipe import Optimiser, load_recipe, shipped_recipes
from model.training.run import EpochReport, Trained, new_network, train
from model.trunks import TrunkNetwork, TrunkObjective

METHODS = ("cmhh-loss", "dhaph", "dnph")
HIERARCHY = ("config.hierarchy=1", "config.ancestors=8", "config.neighbours=5", "config.triplets=3")
LABELLED = torch.arange(8)


@pytest.fixture(scope="module")
def backbone() -> Backbone:
    return load_backbone(tiny_clip.BACKBONE, "cpu")


def objective(backbone: Backbone, method: str, *overrides: str, of: Features | None = None) -> TrunkObjective:
    recipe = load_recipe(method, [*SMALL, *overrides])
    features = rows(48, 0) if of is None else of
    network = new_network(recipe, backbone, NAMES).eval()
    made = trained_module(method).Objective(recipe.config, network, features)
    made.begin()
    return cast("TrunkObjective", made)


def network_of(made: TrunkObjective) -> TrunkNetwork:
    return made._borrowed[0]


def terms(made: TrunkObjective, batch: Tensor | None = None, seed: int = 0) -> dict[str, Tensor]:
    return dict(made.losses(torch.arange(16) if batch is None else batch, torch.Generator().manual_seed(seed)))


# what every one of them keeps to


@pytest.mark.parametrize("method", METHODS)
def test_a_tiny_training_beats_chance_by_far(tmp_path: Path, backbone: Backbone, method: str) -> None:
    trained, _ = run(tmp_path, load_recipe(method, [*SMALL, "optimiser.epochs=12"]), backbone)
    labels = rows(20, 1).labels
    assert labels is not None
    chance = (labels @ labels.T > 0).float().mean().item()
    assert trained.best_score is not None
    assert trained.best_score > chance + 0.3


@pytest.mark.parametrize("method", METHODS)
def test_it_trains_every_length_at_once(backbone: Backbone, method: str) -> None:
    made = objective(backbone, method)
    torch.stack(list(terms(made).values())).sum().backward()
    network = network_of(made)
    heads = [head for side in (network.image, network.text) for head in side.heads.heads.values()]
    assert len(heads) == 4
    assert all(head.weight.grad is not None and head.weight.grad.abs().sum() > 0 for head in heads)


@pytest.mark.parametrize("method", METHODS)
def test_two_trainings_of_one_seed_are_bit_equal(tmp_path: Path, backbone: Backbone, method: str) -> None:
    recipe = load_recipe(method, [*SMALL, "optimiser.epochs=2"])
    weights = [run(tmp_path / name, recipe, backbone)[0].network.state_dict() for name in ("a", "b")]
    assert all(torch.equal(weights[0][name], weights[1][name]) for name in weights[0])


@pytest.mark.parametrize("method", METHODS)
def test_an_unlabelled_item_takes_no_part(backbone: Backbone, method: str) -> None:
    features = rows(48, 0)
    assert features.labels is not None
    bare = features.labels.clone()
    bare[8:16] = 0
    some = dataclasses.replace(features, labels=bare)
    assert_equal(terms(objective(backbone, method, of=some)), terms(objective(backbone, method, of=some), LABELLED))
    nothing = terms(objective(backbone, method, of=some), torch.arange(8, 16))
    assert [term.item() for term in nothing.values()] == [0]
    torch.stack(list(nothing.values())).sum().backward()  # a step goes on


def assert_equal(one: dict[str, Tensor], other: dict[str, Tensor]) -> None:
    assert {name: term.item() for name, term in one.items()} == pytest.approx(
        {name: term.item() for name, term in other.items()}, rel=1e-5
    )


@pytest.mark.parametrize("method", METHODS)
def test_without_labels_it_learns_from_pairs(tmp_path: Path, backbone: Backbone, method: str) -> None:
    bare = [dataclasses.replace(rows(count, seed), labels=None) for count, seed in ((48, 0), (20, 1))]
    trained, reports = run(tmp_path, load_recipe(method, [*SMALL, "optimiser.epochs=8"]), backbone, *bare)
    assert sum(reports[-1].losses.values()) < sum(reports[0].losses.values())
    assert trained.best_score is not None


@pytest.mark.parametrize("method", METHODS)
def test_a_linear_head_is_the_papers(backbone: Backbone, method: str) -> None:
    made = objective(backbone, method, "config.width=0", "config.dropout=0.5")
    network, images = network_of(made), rows(6, 2).images
    head = network.image.heads.heads["16"]
    scaled = network.image.scaling(images)
    assert torch.allclose(network.image_logits(images, 16), scaled @ head.weight.T + head.bias, atol=1e-6)
    network.train()
    assert (network.image_logits(images, 16) == 0).float().mean() == pytest.approx(0.5, abs=0.2)  # dropout on logits


@pytest.mark.parametrize("name", [f"{method}{data}" for method in METHODS for data in ("", "-coco", "-nuswide")])
def test_recipes_serve_the_lengths_of_all_others(name: str) -> None:
    assert load_recipe(name).config.bits == (16, 32, 64, 128)


@pytest.mark.parametrize("method", METHODS)
def test_every_benchmark_has_a_recipe_of_the_papers_hyper_parameters(method: str) -> None:
    assert {f"{method}-{data}" for data in BENCHMARKS} <= set(shipped_recipes())
    for data in BENCHMARKS:
        recipe = load_recipe(f"{method}-{data}")
        assert (recipe.method, recipe.backbone) == (method, "clip:ViT-B-32:openai")
        assert recipe.optimiser.batch == 128


@pytest.mark.parametrize(
    ("method", "override", "message"),
    [
        ("dnph", "config.bits=[12]", "multiples of 8"),
        ("dnph", "config.width=-1", "width >= 0"),
        ("dnph", "config.repulsion=-1.0", "repulsion"),
        ("cmhh-loss", "config.beta=0.0", "beta > 0"),
        ("cmhh-loss", "config.alpha=1.0", "0 < alpha < 1"),
        ("dhaph", "config.temperature=0.0", "temperature"),
        ("dhaph", "config.hierarchy=-1.0", "hierarchy"),
        ("dhaph", "config.ancestors=1", "2 ancestors"),
    ],
)
def test_a_contradiction_is_named(method: str, override: str, message: str) -> None:
    with pytest.raises(RecipeError, match=message):
        load_recipe(method, [*SMALL, override])


# served: the contract of lone codes


@pytest.fixture(scope="module", params=[*METHODS, "dhaph-mirflickr25k"])
def hasher(request: pytest.FixtureRequest, archive: ItemArchive, tmp_path_factory: pytest.TempPathFactory) -> Hasher:
    """The last one has linear heads, and a hierarchy that is no part of the artifact."""
    folders = tiny_clip.folders_in(tmp_path_factory.mktemp("home"))
    head = ("config.width=0", *HIERARCHY) if request.param == "dhaph-mirflickr25k" else ()
    overrides = (*SMALL, *head, "optimiser.batch=50", "optimiser.epochs=2")
    tiny_clip.train_tiny(archive, request.param, overrides, "tiny", folders)
    return load_hasher(folders.artifacts / "tiny", 64, "cpu", folders.cache)


def test_a_code_is_that_of_its_own_input_alone_in_any_batch_and_order(hasher: Hasher, archive: ItemArchive) -> None:
    check_alone(hasher, [decode_image(archive.read_image(item)) for item in archive.items[:4]])


def test_it_makes_no_code_of_a_pair(hasher: Hasher, archive: ItemArchive) -> None:
    with pytest.raises(ModalityError):
        hasher.encode_pairs([decode_image(archive.read_image(archive.items[0]))], ["a dog"])


# DNpH


def test_only_repulsion_tells_pairs_apart_that_share_no_label() -> None:
    """(D c - 1)^2 is 1 wherever D = 0, as the specification notes."""
    codes, shared = torch.randn(5, 8, requires_grad=True), torch.zeros(5, 5)
    loss = dnph.spherical_information(codes, codes, shared, repulsion=0.0)
    loss.backward()
    assert loss.item() == 1
    assert codes.grad is not None
    assert codes.grad.abs().sum() == 0


def test_a_batch_twice_over_costs_the_same() -> None:
    codes, shared = torch.randn(5, 8), (torch.rand(5, 5) > 0.5).float()
    twice = dnph.spherical_information(codes.repeat(2, 1), codes.repeat(2, 1), shared.repeat(2, 2), 1.0)
    assert twice.item() == pytest.approx(dnph.spherical_information(codes, codes, shared, 1.0).item(), rel=1e-5)


# CMHH


def test_similar_pairs_outside_a_small_ball_cost_much_and_others_far_away_next_to_nothing() -> None:
    codes = torch.ones(1, 16)
    config = cmhh.Config()

    def cost(flipped: int, shared: float) -> float:
        other = codes.clone()
        other[:, :flipped] = -1
        return cmhh.exponential_focal(codes, other, torch.full((1, 1), shared), config).item()

    assert cost(0, 1) == pytest.approx(0, abs=1e-6)
    assert cost(8, 1) > 4 * cost(2, 1) > 0
    assert cost(8, 0) < 1e-3 < cost(2, 0) < cost(0, 0)


def test_beta_is_for_one_length_where_the_recipe_names_it() -> None:
    """The same cosines then cost the same at every length; else a longer code is further away."""
    codes, other, shared = torch.randn(4, 16), torch.randn(4, 16), torch.eye(4)
    longer = codes.repeat(1, 4), other.repeat(1, 4)
    named, bare = cmhh.Config(beta_bits=32), cmhh.Config(beta=0.5)
    cost = cmhh.exponential_focal(codes, other, shared, named).item()
    assert cmhh.exponential_focal(*longer, shared, named).item() == pytest.approx(cost, rel=1e-4)
    assert cost == pytest.approx(cmhh.exponential_focal(codes, other, shared, cmhh.Config(beta=1.0)).item(), rel=1e-4)
    assert cmhh.exponential_focal(*longer, shared, bare) > cmhh.exponential_focal(codes, other, shared, bare)


def test_identical_codes_that_should_differ_have_a_finite_gradient() -> None:
    codes = torch.ones(2, 16, requires_grad=True)
    cmhh.exponential_focal(codes, codes, torch.eye(2), cmhh.Config(gamma=0.5)).backward()
    assert codes.grad is not None
    assert codes.grad.isfinite().all()


def test_quantisation_is_there_where_the_recipe_asks(backbone: Backbone) -> None:
    assert set(terms(objective(backbone, "cmhh-loss", "config.quantisation=0.0"))) == {"focal"}
    assert terms(objective(backbone, "cmhh-loss", "config.quantisation=0.1"))["quantisation"] > 0


# DHaPH


def test_self_paced_weights_grow_over_the_first_epochs(backbone: Backbone) -> None:
    made = objective(backbone, "dhaph", "config.self_paced=true", "config.pace_epochs=2")
    assert isinstance(made, dhaph.Objective)
    paces = []
    for _ in range(8):
        terms(made)
        paces.append(made.pace)
    assert paces == pytest.approx([16 / 96, 32 / 96, 48 / 96, 64 / 96, 80 / 96, 1, 1, 1])
    assert made.state_dict()["seen"] == 128  # kept in the checkpoint


@pytest.mark.parametrize(("override", "pace"), [("self_paced=false", 0), ("pace_epochs=0", 1)])
def test_the_growth_can_be_left_out(backbone: Backbone, override: str, pace: float) -> None:
    made = objective(backbone, "dhaph", f"config.{override}")
    assert isinstance(made, dhaph.Objective)
    terms(made)
    assert made.pace == pace


def gradients(made: TrunkObjective) -> dict[str, Tensor]:
    torch.stack(list(terms(made).values())).sum().backward()
    return {name: own.grad for name, own in network_of(made).named_parameters() if own.grad is not None}


@pytest.mark.parametrize("detach", ["true", "false"])
def test_the_hierarchy_reaches_the_codes_where_it_is_not_detached(backbone: Backbone, detach: str) -> None:
    """As released, (b) trains its ancestors alone: the network's gradient is that of (a)."""
    plain = gradients(objective(backbone, "dhaph", "config.hierarchy=0"))
    made = objective(backbone, "dhaph", *HIERARCHY, f"config.detach={detach}")
    found = gradients(made)
    assert all(torch.equal(plain[name], found[name]) for name in plain) == (detach == "true")
    ancestors = [value for name, value in made.named_parameters() if name.endswith("ancestors")]
    assert len(ancestors) == 2
    assert all(value.grad is not None and value.grad.abs().sum() > 0 for value in ancestors)


def test_clipped_by_tensor_the_released_hierarchy_changes_no_weight(tmp_path: Path, backbone: Backbone) -> None:
    """(a) alone is what the released code trains."""
    found = []
    for name, overrides in (("with", HIERARCHY), ("without", ("config.hierarchy=0",))):
        own = [*SMALL, *overrides, "optimiser.algorithm=bertadam", "optimiser.epochs=2"]
        found.append(run(tmp_path / name, load_recipe("dhaph", own), backbone)[0].network.state_dict())
    assert all(torch.equal(found[0][name], found[1][name]) for name in found[0])


def test_the_ancestors_learn_at_a_rate_of_their_own_and_are_not_served(backbone: Backbone) -> None:
    made = objective(backbone, "dhaph", *HIERARCHY, "config.ancestor_rate=0.01")
    optimiser = make_optimiser(Optimiser(), network_of(made), made)
    set_rate(optimiser, 1.0)
    assert [group["lr"] for group in optimiser.param_groups] == [1.0, 0.01]
    assert not any("ancestors" in name for name in network_of(made).state_dict())


def test_a_detached_hierarchy_is_learned_all_the_same(backbone: Backbone) -> None:
    made = objective(backbone, "dhaph", *HIERARCHY, "config.ancestor_rate=1.0")
    optimiser = torch.optim.AdamW(made.parameters(), lr=1e-2)

    def cost() -> float:
        return sum(terms(made, seed=seed)["hierarchy"].item() for seed in range(10))

    before = cost()
    for step in range(40):
        optimiser.zero_grad()
        terms(made, seed=100 + step)["hierarchy"].backward()
        optimiser.step()
    assert cost() < before


def test_triplets_with_one_ancestor_or_none_at_all_cost_nothing(backbone: Backbone) -> None:
    hierarchy = dhaph.Hierarchy(16, dhaph.Config(ancestors=8))
    generator = torch.Generator().manual_seed(0)
    lonely = hierarchy._margins(torch.rand(2, 8), torch.eye(2), generator)  # two rows make no triplet
    assert lonely.item() == 0
    with torch.no_grad():
        hierarchy.ancestors[1:] = 100 * hierarchy.ancestors[1:]
        hierarchy.ancestors[0] = 0  # nearest to everything
    near = dhaph.Hierarchy._nearest(hierarchy, torch.tensor([[0.0, 50.0]] * 5), generator)
    assert near.argmax(1).tolist() == [0] * 5


def test_a_killed_run_goes_on_with_its_ancestors_and_its_pace(tmp_path: Path, backbone: Backbone) -> None:
    recipe = load_recipe("dhaph", [*SMALL, *HIERARCHY, "config.detach=false", "optimiser.epochs=3"])
    whole, _ = run(tmp_path / "whole", recipe, backbone)

    class Killed(BaseException):
        """As final as a signal."""

    def die(report: EpochReport) -> None:
        if report.epoch == 2:
            raise Killed

    def go(report: object) -> Trained:
        return train(
            recipe,
            tmp_path / "cut",
            new_network(recipe, backbone, NAMES),
            rows(48, 0),
            rows(20, 1),
            identity={},
            device=torch.device("cpu"),
            report=report,  # type: ignore[arg-type]
        )

    with pytest.raises(Killed):
        go(die)
    resumed = go(lambda report: None).network.state_dict()
    assert all(torch.equal(value, resumed[name]) for name, value in whole.network.state_dict().items())
