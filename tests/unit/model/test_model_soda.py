"""SODA's teacher and student on features of a tiny CLIP: acceptance tests 1, 2, 6 and 12, and each term."""

from collections.abc import Mapping

import pytest
import tiny_clip
import torch
from tiny_soda import EVERY_TERM, NAMES, SMALL, objective, rows
from torch import Tensor

from encoders.protocol import Backbone
from encoders.registry import load_backbone
from model.errors import RecipeError
from model.losses import agreement, balance, pair_likelihood, quantisation
from model.methods import soda
from model.teacher_bank import signs
from model.training.optimiser import make_optimiser, set_rate
from model.training.recipe import Optimiser, load_recipe

LENGTHS = (16, 32, 64, 128)


@pytest.fixture(scope="module")
def backbone() -> Backbone:
    return load_backbone(tiny_clip.BACKBONE, "cpu")


def terms(made: soda.Objective, batch: Tensor | None = None) -> Mapping[str, Tensor]:
    return made.losses(torch.arange(16) if batch is None else batch, torch.Generator().manual_seed(0))


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
    assert set(found) == ({"gap", "quantisation", "balance", "info_nce"} if keep and stage else {"likelihood"})
    torch.stack(list(found.values())).sum().backward()


def test_with_every_weight_at_zero_nothing_is_learned(backbone: Backbone) -> None:
    made, _ = objective(backbone, [f"config.{name}=0" for name in (*soda.WEIGHTS.values(), "info_nce")])
    for _ in range(2):
        assert {name: term.item() for name, term in terms(made).items()} == {"likelihood": 0}
        made.begin_stage(1)


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
