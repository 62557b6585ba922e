"""SODA's teacher and student on features of a tiny CLIP: acceptance tests 1, 2, 6 to 10 and 12, and every option."""

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pytest
import tiny_clip
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import one_hot

from encoders.protocol import Backbone
from encoders.registry import load_backbone
from model.errors import RecipeError
from model.evaluation.metrics import distance_histograms, expected_average_precision
from model.losses import agreement, balance, pair_likelihood, quantisation, share_label
from model.methods import soda
from model.methods.protocol import Features
from model.teacher_bank import signs
from model.training.checkpoint import TrainingState
from model.training.optimiser import make_optimiser, set_rate
from model.training.recipe import Optimiser, Recipe, load_recipe
from model.training.run import EpochReport, Trained, new_network, stages_of, train
from model.training.validation import validate

NAMES = ("dog", "red_apple", "tree", "sea")
LENGTHS = (16, 32, 64, 128)
SMALL = (
    f"backbone={tiny_clip.BACKBONE}",
    "config.auxiliary_bits=0",
    "config.width=32",
    "config.hidden=32",
    "optimiser.batch=16",
    "optimiser.epochs=4",
    "selection.bits=16",
    "selection.every=1",
)
EVERY_TERM = ("config.w_x=1", "config.w_n=0.1", "config.contrast=1", "config.info_nce=0.1")
LIKELIHOOD = ("config.w_x=1", "config.w_n=0.1", "config.contrast=0")
OPTIONS = [
    *(f"config.label_prompt={form}" for form in ("joined", "image_containing", "bare", "per_class", "learned")),
    "config.head=linear",
    *(f"config.theta={theta}" for theta in ("len", "half", "cos")),
    *(f"config.similarity={similarity}" for similarity in ("binary", "jaccard")),
    *(f"config.gap_at={place}" for place in ("code", "logit", "feature")),
    *(f"config.bank={bank}" for bank in ("real", "binary", "both")),
    "config.bank_rows=10",
    "config.teacher=false",
    "config.shared_label_head=true",
    "config.init_text_from_label=false",
    "config.keywords=false",
    "config.image_rate=0.1",
    "config.label_bank=true",
    "config.keep_unlabelled=true",
    "config.max_positive_weight=8",
    "config.auxiliary_bits=24",
]


@pytest.fixture(scope="module")
def backbone() -> Backbone:
    return load_backbone(tiny_clip.BACKBONE, "cpu")


def rows(count: int, seed: int, *, noise: float = 0.5) -> Features:
    """Four classes, some items of two; features are noisy sums of class vectors."""
    generator = torch.Generator().manual_seed(seed)
    labels = one_hot(torch.arange(count) % len(NAMES), len(NAMES)).float()
    labels[::3, 0] = 1
    centres = torch.randn(2, len(NAMES), 32, generator=torch.Generator().manual_seed(99))
    images, texts = (labels @ side + noise * torch.randn(count, 32, generator=generator) for side in centres)
    return Features(images, texts, labels)


def without_some_labels(features: Features) -> Features:
    assert features.labels is not None
    kept = (torch.arange(len(features)) % 4 > 0).float()
    return dataclasses.replace(features, labels=features.labels * kept[:, None])


def objective(
    backbone: Backbone, overrides: Sequence[str] = (), features: Features | None = None
) -> tuple[soda.Objective, soda.Network]:
    """Begun, in stage 1 of the specification."""
    recipe = load_recipe("soda", [*SMALL, *overrides])
    features = rows(48, 0) if features is None else features
    network = new_network(recipe, backbone, NAMES)
    assert isinstance(network, soda.Network)
    made = soda.Objective(recipe.config, network.eval(), features)
    made.begin()
    return made, network


def terms(made: soda.Objective, batch: Tensor | None = None) -> Mapping[str, Tensor]:
    return made.losses(torch.arange(16) if batch is None else batch, torch.Generator().manual_seed(0))


def run(
    folder: Path, recipe: Recipe, backbone: Backbone, features: Features | None = None, other: Features | None = None
) -> tuple[Trained, list[EpochReport]]:
    reports: list[EpochReport] = []
    trained = train(
        recipe,
        folder,
        new_network(recipe, backbone, NAMES),
        rows(48, 0) if features is None else features,
        rows(20, 1) if other is None else other,
        identity={},
        device=torch.device("cpu"),
        report=reports.append,
    )
    return trained, reports


def precision(codes: NDArray[np.uint8], labels: Tensor, database: NDArray[np.int64]) -> float:
    """Tie-aware mAP of the first half of the codes against the others, in an order."""
    queries = slice(0, len(codes) // 2)
    relevant = share_label(labels[queries], labels[database]).numpy()
    return float(
        np.nanmean(expected_average_precision(*distance_histograms(codes[queries], codes[database], relevant)))
    )


@pytest.mark.parametrize("bits", LENGTHS)
def test_codes_have_their_length_and_range(backbone: Backbone, bits: int) -> None:
    """Acceptance test 1."""
    made, _ = objective(backbone)
    batch = torch.arange(48)
    with torch.no_grad():
        sides = [made._images(batch), made._labels(batch), made._texts(batch)]
    for side in sides:
        assert side.codes[bits].shape == (48, bits)
        assert side.codes[bits].abs().max() < 1
        assert side.codes[bits].std() > 0


@pytest.mark.parametrize("overrides", [(), EVERY_TERM, ("config.shared_label_head=true",)])
def test_a_step_of_the_student_leaves_the_image_branch_as_it_is(backbone: Backbone, overrides: tuple[str, ...]) -> None:
    """Acceptance test 2: bit by bit, weight decay and all."""
    made, network = objective(backbone, overrides)
    optimiser = make_optimiser(Optimiser(rate=0.1, weight_decay=0.5), network, made)

    def step(stage: int) -> None:
        set_rate(optimiser, 0.1, stage)
        optimiser.zero_grad()
        torch.stack(list(terms(made).values())).sum().backward()
        optimiser.step()

    step(0)  # the optimiser has moments of the image branch
    made.begin_stage(1)
    kept = {name: value.clone() for name, value in network.image.state_dict().items()}
    before = network.text.input.linear.weight.clone()
    network.train()
    for _ in range(3):
        step(1)
    assert all(one.grad is None for one in network.image.parameters())
    assert all(torch.equal(value, kept[name]) for name, value in network.image.state_dict().items())
    assert not torch.equal(network.text.input.linear.weight, before)


@pytest.mark.parametrize("theta", ["len", "half", "cos"])
@pytest.mark.parametrize("weight", [1.0, 8.0])
def test_gradients_of_the_likelihood_match_finite_differences(theta: str, weight: float) -> None:
    """Acceptance test 6."""
    generator = torch.Generator().manual_seed(0)
    a, b = (torch.randn(size, 16, generator=generator).double().requires_grad_() for size in (5, 7))
    similar = (torch.rand(5, 7, generator=generator) > 0.6).double()

    def loss(a: Tensor, b: Tensor) -> Tensor:
        return pair_likelihood(agreement(a.tanh(), b.tanh(), theta), similar, max_weight=weight)

    assert torch.autograd.gradcheck(loss, (a, b))


def test_gradients_of_gap_and_balance_match_finite_differences() -> None:
    """Acceptance test 6."""
    a, b = (torch.randn(5, 16, generator=torch.Generator().manual_seed(s)).double().requires_grad_() for s in (0, 1))
    assert torch.autograd.gradcheck(lambda a, b: quantisation(a.tanh(), b.tanh()) + balance(a.tanh()), (a, b))


def test_the_likelihood_is_its_formula() -> None:
    codes, other = torch.tensor([[0.5, -0.5], [1, 1]]), torch.tensor([[1.0, 0]])
    similar = torch.tensor([[1.0], [0.5]])
    logits = torch.tensor([[4 * 0.5], [4.0]])
    assert torch.allclose(agreement(codes, other, "len"), logits)
    assert torch.allclose(agreement(codes, other, "half"), logits / 8)
    losses = torch.log1p(logits.exp()) - similar * logits
    assert torch.allclose(pair_likelihood(logits, similar, max_weight=1), losses.mean())
    counted = torch.tensor([[True], [False]])
    assert torch.allclose(pair_likelihood(logits, similar, counted=counted, max_weight=1), losses[0, 0])


def test_half_and_len_are_equal_at_16_bits() -> None:
    a, b = torch.randn(3, 16), torch.randn(4, 16)
    assert torch.allclose(agreement(a, b, "half"), agreement(a, b, "len"))


@pytest.mark.parametrize("overrides", [(), LIKELIHOOD])
def test_sixty_four_pairs_are_learned_by_heart(tmp_path: Path, backbone: Backbone, overrides: tuple[str, ...]) -> None:
    """Acceptance test 7."""
    few = rows(64, 5, noise=1.0)
    values = ["config.dropout=0", "config.bits=[32]", "selection.bits=32", "selection.every=60", "optimiser.epochs=60"]
    recipe = load_recipe("soda", [*SMALL, *values, *overrides])
    trained, _ = run(tmp_path, recipe, backbone, few, few)
    assert validate(trained.network, few, few, 32).seen > 0.98


def test_scores_of_random_and_perfect_codes() -> None:
    """Acceptance test 8."""
    labels = one_hot(torch.randint(8, (600,), generator=torch.Generator().manual_seed(0)), 8).float()
    random = np.random.default_rng(0)
    codes = random.integers(0, 256, (600, 4), dtype=np.uint8)
    chance = float(share_label(labels, labels).float().mean())
    order = np.arange(300, 600)
    assert precision(codes, labels, order) == pytest.approx(chance, abs=0.02)
    perfect = np.packbits(np.repeat(labels.numpy().astype(np.uint8), 4, axis=1), axis=1, bitorder="little")
    assert precision(perfect, labels, order) == pytest.approx(1)
    few = codes[:, :1]  # most distances are tied
    shuffled = random.permutation(order)
    assert precision(few, labels, shuffled) == pytest.approx(precision(few, labels, order), abs=1e-9)


def test_the_same_seed_gives_the_same_codes(tmp_path: Path, backbone: Backbone) -> None:
    """Acceptance test 9."""
    recipe = load_recipe("soda", SMALL)
    one, other = (run(tmp_path / name, recipe, backbone)[0].network.state_dict() for name in ("a", "b"))
    assert all(torch.equal(value, other[name]) for name, value in one.items())


def test_with_shuffled_labels_retrieval_falls_to_chance(tmp_path: Path, backbone: Backbone) -> None:
    """Acceptance test 10: relevance that content cannot tell is not found, so no label reached a code."""
    both = rows(600, 0)
    assert both.labels is not None
    shuffled = both.labels[torch.randperm(600, generator=torch.Generator().manual_seed(1))]
    own = [dataclasses.replace(both, labels=labels) for labels in (both.labels, shuffled)]
    recipe = load_recipe("soda", [*SMALL, "optimiser.batch=100", "optimiser.epochs=12", "selection.every=12"])
    found = []
    for number, features in enumerate(own):
        parts = features.part(slice(0, 400)), features.part(slice(400, None))
        trained, _ = run(tmp_path / str(number), recipe, backbone, *parts)
        found.append(validate(trained.network, parts[1], parts[0], 64))
    chance = float(share_label(shuffled, shuffled).float().mean())
    assert min(found[0].seen, found[0].unseen) > chance + 0.3
    assert max(found[1].seen, found[1].unseen) < chance + 0.03


@pytest.mark.parametrize("weight", ["w_g", "w_q", "w_b", "w_x", "w_n", "contrast", "info_nce"])
def test_a_weight_of_zero_leaves_its_term_out(backbone: Backbone, weight: str) -> None:
    """Acceptance test 12, in both stages and without a teacher."""
    known = {name: term for term, name in soda.WEIGHTS.items()} | {"info_nce": "info_nce"}
    everything = set(known.values())
    for teacher in ("true", "false"):
        made, _ = objective(backbone, [*EVERY_TERM, f"config.{weight}=0", f"config.teacher={teacher}"])
        first = everything - {known[weight]} - ({"info_nce"} if teacher == "true" else set())
        assert set(terms(made)) == first
        if teacher == "true":
            made.begin_stage(1)
            assert set(terms(made)) == everything - {known[weight]}


@pytest.mark.parametrize("option", OPTIONS)
def test_every_option_trains(tmp_path: Path, backbone: Backbone, option: str) -> None:
    recipe = load_recipe("soda", [*SMALL, *EVERY_TERM, option])
    trained, reports = run(tmp_path, recipe, backbone, without_some_labels(rows(48, 0)))
    assert all(np.isfinite(value) for report in reports for value in report.losses.values())
    assert trained.best_score is not None
    assert trained.best_score > 0


def test_only_epochs_of_the_student_are_selected_from(tmp_path: Path, backbone: Backbone) -> None:
    trained, reports = run(tmp_path, load_recipe("soda", [*SMALL, "optimiser.epochs=5"]), backbone)
    assert [report.validation is None for report in reports] == [True, True, False, False, False]
    assert trained.best_epoch is not None
    assert trained.best_epoch > 2


@pytest.mark.parametrize(
    ("share", "epochs", "expected"), [(0.5, 30, (15, 15)), (0.3, 10, (3, 7)), (0.9, 2, (1, 1)), (0.01, 9, (1, 8))]
)
def test_the_stages_share_the_epochs(backbone: Backbone, share: float, epochs: int, expected: tuple[int, int]) -> None:
    made, _ = objective(backbone, [f"config.teacher_share={share}"])
    assert made.stages(epochs) == expected
    assert [(one.number, one.first, one.last) for one in stages_of(made, epochs)] == [
        (0, 1, expected[0]),
        (1, expected[0] + 1, epochs),
    ]


def test_without_a_teacher_there_is_one_stage(backbone: Backbone) -> None:
    made, network = objective(backbone, ["config.teacher=false"])
    assert made.stages(7) == (7,)
    assert network.label is None
    assert not hasattr(made, "prompts")


def test_one_epoch_is_too_few(tmp_path: Path, backbone: Backbone) -> None:
    with pytest.raises(RecipeError, match="expected at least 2, one for each stage, found 1"):
        run(tmp_path, load_recipe("soda", [*SMALL, "optimiser.epochs=1"]), backbone)
    assert not list(tmp_path.rglob("recipe.toml"))  # the name is still free


def test_the_rate_rises_and_decays_in_each_stage(tmp_path: Path, backbone: Backbone) -> None:
    _, reports = run(tmp_path, load_recipe("soda", [*SMALL, "optimiser.epochs=8"]), backbone)
    rates = [report.rate for report in reports]
    assert rates[:4] == rates[4:] == sorted(rates[:4], reverse=True)


@pytest.mark.parametrize("killed_after", [1, 2, 3])
def test_a_run_that_was_killed_in_either_stage_ends_like_one_that_was_not(
    tmp_path: Path, backbone: Backbone, killed_after: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = load_recipe("soda", [*SMALL, *EVERY_TERM, "config.label_bank=true", "config.keywords=false"])
    expected, _ = run(tmp_path / "whole", recipe, backbone)
    save = TrainingState.save

    class Killed(BaseException):
        """As final as a signal."""

    def save_then_die(self: TrainingState, path: Path) -> None:
        save(self, path)
        if self.progress.epoch == killed_after:
            raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(TrainingState, "save", save_then_die)
        with pytest.raises(Killed):
            run(tmp_path / "cut", recipe, backbone)
    resumed, reports = run(tmp_path / "cut", recipe, backbone)
    assert len(reports) == 4 - killed_after
    found = expected.network.state_dict()
    assert all(torch.equal(value, found[name]) for name, value in resumed.network.state_dict().items())


def test_the_bank_holds_what_the_frozen_teacher_makes_of_every_row(backbone: Backbone) -> None:
    made, _ = objective(backbone)
    made.begin_stage(1)
    batch = torch.arange(48)
    with torch.no_grad():
        fresh, kept = made._images(batch), made.images.of(batch)
    for bits in LENGTHS:
        assert torch.allclose(fresh.codes[bits], kept.codes[bits], atol=1e-6)
        assert not kept.codes[bits].requires_grad


def test_the_student_is_drawn_to_the_signs_of_its_image(backbone: Backbone) -> None:
    made, _ = objective(backbone, ["config.w_x=0", "config.w_n=0", "config.contrast=0", "config.w_g=0", "config.w_q=1"])
    made.begin_stage(1)
    batch = torch.arange(16)
    with torch.no_grad():
        text, image = made._texts(batch), made.images.of(batch)
    expected = [(text.codes[bits] - signs(image.codes[bits])).square().mean() for bits in made.lengths]
    assert torch.allclose(terms(made)["quantisation"], torch.stack(expected).mean(), atol=1e-6)


def test_zero_has_the_sign_plus_one() -> None:
    assert signs(torch.tensor([-0.1, 0.0, 0.2])).tolist() == [-1, 1, 1]


@pytest.mark.parametrize("starts", [True, False])
def test_the_text_branch_starts_from_the_label_branch(backbone: Backbone, starts: bool) -> None:
    made, network = objective(backbone, [f"config.init_text_from_label={str(starts).lower()}"])
    scaling = network.text.input.scaling.mean.clone()
    made.begin_stage(1)
    theirs = dict(made.label.branch.named_parameters())
    assert all(torch.equal(own, theirs[name]) for name, own in network.text.named_parameters()) is starts
    assert torch.equal(network.text.input.scaling.mean, scaling)


def test_the_label_branch_is_kept_or_discarded(backbone: Backbone) -> None:
    _, kept = objective(backbone)
    made, discarded = objective(backbone, ["config.keywords=false"])
    assert any(name.startswith("label.") for name in kept.state_dict())
    assert not any(name.startswith("label.") for name in discarded.state_dict())
    assert any(name.startswith("own_label.") for name in made.state_dict())
    _, shared = objective(backbone, ["config.shared_label_head=true"])
    assert not any(name.startswith("label.") for name in shared.state_dict())
    assert shared.keywords == NAMES


@pytest.mark.parametrize("stage", [0, 1])
@pytest.mark.parametrize("keep", [True, False])
def test_a_batch_without_labels_changes_nothing_it_should_not(backbone: Backbone, stage: int, keep: bool) -> None:
    features = rows(48, 0)
    assert features.labels is not None
    features.labels[:16] = 0
    made, _ = objective(backbone, [f"config.keep_unlabelled={str(keep).lower()}"], features)
    if stage:
        made.begin_stage(1)
    found = terms(made)
    assert set(found) == ({"gap", "quantisation", "balance"} if keep and stage else {"likelihood"})
    torch.stack(list(found.values())).sum().backward()


def test_with_every_weight_at_zero_nothing_is_learned(backbone: Backbone) -> None:
    made, _ = objective(backbone, [f"config.{name}=0" for name in soda.WEIGHTS.values()])
    for _ in range(2):
        assert {name: term.item() for name, term in terms(made).items()} == {"likelihood": 0}
        made.begin_stage(1)


def test_without_labels_image_and_text_learn_jointly(tmp_path: Path, backbone: Backbone) -> None:
    bare = [dataclasses.replace(rows(count, seed), labels=None) for count, seed in ((48, 0), (20, 1))]
    recipe = load_recipe("soda", [*SMALL, "config.contrast=1", "optimiser.epochs=12"])
    trained, reports = run(tmp_path, recipe, backbone, *bare)
    assert reports[-1].losses["contrast"] < reports[0].losses["contrast"]
    assert all(report.validation is not None for report in reports)
    assert trained.best_score is not None


def test_the_image_branch_learns_on_where_the_recipe_says_so(backbone: Backbone) -> None:
    made, network = objective(backbone, ["config.image_rate=0.1"])
    optimiser = make_optimiser(Optimiser(), network, made)
    set_rate(optimiser, 1.0, 1)
    assert sorted({round(group["lr"], 6) for group in optimiser.param_groups}) == [0.1, 1.0]
    made.begin_stage(1)
    torch.stack(list(terms(made).values())).sum().backward()
    assert network.image.input.linear.weight.grad is not None


def test_the_defaults_are_those_of_the_specification() -> None:
    """Sections 3.3 and 7; a recipe says where it takes another value."""
    config = soda.Config()
    assert (config.w_x, config.w_n, config.w_g, config.w_q, config.w_b) == (1, 0.1, 0.1, 0.1, 0.01)
    assert (config.tuned_blocks, config.label_prompt, config.gap_at) == (0, "joined", "code")
    assert (config.similarity, config.theta, config.image_rate, config.bank) == ("binary", "len", 0, "real")
    assert (config.bank_rows, config.max_positive_weight, config.contrast, config.info_nce) == (0, 1, 0, 0)
    assert not any((config.shared_label_head, config.label_bank, config.keep_unlabelled))
    assert config.teacher
    assert config.init_text_from_label


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("config.bits=[12]", "multiples of 8"),
        ("config.label_prompt=sung", "label_prompt: expected one of joined, .*, found 'sung'"),
        ("config.theta=tan", "theta: expected one of len, half, cos"),
        ("config.similarity=cosine", "similarity: expected one of"),
        ("config.gap_at=input", "gap_at: expected one of"),
        ("config.bank=blood", "bank: expected one of"),
        ("config.head=tail", "head: expected one of"),
        ("config.teacher_share=1.0", "teacher_share"),
        ("config.dropout=1.0", "dropout"),
        ("config.max_positive_weight=0.5", "max_positive_weight"),
        ("config.temperature=0.0", "temperature"),
        ("config.image_views=2", "image_views: expected tuned_blocks"),
    ],
)
def test_a_contradiction_is_named(override: str, message: str) -> None:
    with pytest.raises(RecipeError, match=message):
        load_recipe("soda", [*SMALL, override])


def test_learned_prompts_pass_no_tuned_tower() -> None:
    with pytest.raises(RecipeError, match="label_prompt: learned vectors pass no tower"):
        load_recipe("soda", [*SMALL, "config.label_prompt=learned", "config.tuned_blocks=1"])
