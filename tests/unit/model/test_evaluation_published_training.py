"""How PromptHash as released is trained: what learns at which rate, its targets and its terms."""

import dataclasses
import math

import pytest
import torch
from tiny_published import KINDS, LENGTHS, NAME, ROWS, SMALL, TOLERANCE, make_features, network
from torch import Tensor, nn

from encoders.protocol import Backbone
from encoders.registry import load_backbone
from model.errors import RecipeError
from model.evaluation.published import prompthash as published
from model.evaluation.published.prompthash import Network, Objective
from model.methods.protocol import Features
from model.training.optimiser import make_optimiser, set_rate
from model.training.recipe import Optimiser


@pytest.fixture(scope="module")
def backbone() -> Backbone:
    return load_backbone(NAME, "cpu")


@pytest.fixture(scope="module")
def features(backbone: Backbone, tmp_path_factory: pytest.TempPathFactory) -> dict[int, Features]:
    return make_features(backbone, tmp_path_factory.mktemp("published"))


def objective(own: Network, train: Features) -> Objective:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        made = Objective(own.config, own, train)
    made.begin()
    return made


def drawing() -> torch.Generator:
    return torch.Generator().manual_seed(0)


def test_context_and_words_get_no_gradient_and_are_in_no_group(
    backbone: Backbone, features: dict[int, Features]
) -> None:
    own = network(backbone)
    made = objective(own, features[0])
    terms = made.losses(torch.arange(6), drawing())
    torch.stack(list(terms.values())).sum().backward()
    assert not own.prompt.context.requires_grad
    assert own.prompt.context.grad is None
    assert isinstance(backbone, nn.Module)
    assert all(parameter.grad is None for parameter in backbone.parameters())
    groups = own.parameter_groups()
    trained = {id(parameter) for group in groups for parameter in group.parameters}
    assert id(own.prompt.context) not in trained
    assert trained.isdisjoint({id(parameter) for parameter in backbone.parameters()})
    assert sum(len(group.parameters) for group in groups) == len(trained) == len(list(own.parameters()))


def test_a_step_moves_everything_but_the_context(backbone: Backbone, features: dict[int, Features]) -> None:
    own = network(backbone, KINDS["tuned"])
    made = objective(own, features[1])
    recipe = Optimiser(algorithm="bertadam", rate=0.1, weight_decay=0.01)
    optimiser = make_optimiser(recipe, own, made)
    before = {name: value.clone() for name, value in own.state_dict().items()}
    torch.stack(list(made.losses(torch.arange(6), drawing()).values())).sum().backward()
    set_rate(optimiser, 0.1)
    optimiser.step()
    still = {name for name, value in own.state_dict().items() if torch.equal(value, before[name])}
    assert "prompt.context" in still
    assert all(name.endswith(("gamma", "beta", "bias", "context")) for name in still), still


@pytest.mark.parametrize("kind", KINDS)
def test_what_has_no_rate_is_in_no_group_and_read_once(
    backbone: Backbone, features: dict[int, Features], kind: str
) -> None:
    own = network(backbone, dataclasses.replace(KINDS[kind], tuned_rate=0.0))
    rows = features[own.config.tuned_blocks]
    trained = {id(parameter) for group in own.parameter_groups() for parameter in group.parameters}
    for name, parameter in own.named_parameters():
        still = name.startswith(("image_blocks.", "text_blocks.", "prompt."))
        assert (id(parameter) not in trained) == still, name
    made, chosen = objective(own, rows), torch.tensor([4, 0, 7])
    with torch.no_grad():
        expected = own.enter(rows, range(ROWS))  # padding is looked at, so what is read together matters
    for _ in range(2):
        for one, other in zip(made._entrance(chosen), expected, strict=True):
            assert not one.requires_grad
            assert torch.allclose(one, other[chosen], atol=TOLERANCE)


def test_reading_once_leaves_the_mode_of_the_network(backbone: Backbone, features: dict[int, Features]) -> None:
    own = network(backbone, dataclasses.replace(SMALL, tuned_rate=0.0))
    objective(own, features[0]).losses(torch.arange(4), drawing())
    assert not own.training


def test_rates_are_those_of_section_4(backbone: Backbone) -> None:
    own = network(backbone, KINDS["tuned"])
    rates = {id(parameter): group.rate for group in own.parameter_groups() for parameter in group.parameters}
    for name, parameter in own.named_parameters():
        part = name.split(".")[0]
        slow = {"image_blocks": 0.01, "text_blocks": 0.01, "prompt": 0.01, "fusion": 0.1}
        assert rates[id(parameter)] == slow.get(part, 1.0), name


@pytest.mark.parametrize("batches", [[[0, 1, 2], [3, 4, 5], [6, 7, 8]], [[4, 1, 7, 0], [8, 2, 3, 6]]])
def test_targets_are_refreshed_once_an_epoch(
    backbone: Backbone, features: dict[int, Features], batches: list[list[int]]
) -> None:
    """In the second case a last batch of one row is left out, as the training loop does."""
    own = network(backbone)
    made = objective(own, features[0])

    def targets() -> list[Tensor]:
        return [made.get_buffer(f"target_{bits}").clone() for bits in LENGTHS]

    def signs() -> list[Tensor]:
        return [torch.where(sum(made._banks(bits)) > 0, 1.0, -1.0) for bits in LENGTHS]  # type: ignore[arg-type]

    def same(one: list[Tensor], other: list[Tensor]) -> bool:
        return all(torch.equal(a, b) for a, b in zip(one, other, strict=True))

    draws, held = torch.Generator().manual_seed(5), targets()
    assert same(held, signs())  # of random numbers
    for epoch in range(3):
        for place, batch in enumerate(batches):
            before = signs()
            for bits in LENGTHS:  # other codes at every step
                own.heads.heads[str(bits)].bias.data.copy_(3 * torch.randn(bits, generator=draws))
            made.losses(torch.tensor(batch), drawing())
            if epoch and not place:
                assert same(targets(), before)
                assert not same(targets(), held)
                held = targets()
            assert same(targets(), held)
            assert not same(signs(), held)


def test_the_affinity_term_is_that_of_a_literal_loop(backbone: Backbone, features: dict[int, Features]) -> None:
    generator = torch.Generator().manual_seed(0)
    bank, codes = torch.randn(5, 8, generator=generator), torch.randn(3, 8, generator=generator)
    bank[0], codes[0] = 10, 10  # beyond the limit of the inner product
    similar = torch.rand(5, 3, generator=generator) > 0.5
    total = 0.0
    for n in range(5):
        for j in range(3):
            t = 0.5 * max(-64.0, min(64.0, float(bank[n] @ codes[j])))
            total += math.log1p(math.exp(t)) - float(similar[n, j]) * t
    assert published._affinity(bank, codes, similar).item() == pytest.approx(total / 15, rel=1e-5)


def test_the_terms_are_those_of_section_3(backbone: Backbone, features: dict[int, Features]) -> None:
    own, rows = network(backbone), torch.tensor([7, 0, 4])
    made = objective(own, features[0])
    labels = features[0].labels
    assert labels is not None
    with torch.no_grad():
        terms = made.losses(rows, drawing())
        found = own.joint(*own.enter(features[0], rows.tolist()))
        codes = {bits: [own.heads(side, bits).tanh() for side in (found.image, found.text)] for bits in LENGTHS}
        similar = labels @ labels[rows].T > 0
        inter = intra = quantised = reconstructed = torch.zeros(())
        for bits in LENGTHS:
            mu = 20 if bits == 16 else 1
            (bank_i, bank_t), (h_i, h_t) = made._banks(bits), codes[bits]
            target = made.get_buffer(f"target_{bits}")[rows]
            assert torch.allclose(bank_i[rows], h_i, atol=TOLERANCE)  # written before the loss
            intra = intra + mu * (published._affinity(bank_i, h_i, similar) + published._affinity(bank_t, h_t, similar))
            inter = inter + mu * (published._affinity(bank_i, h_t, similar) + published._affinity(bank_t, h_i, similar))
            distance = (h_i - target).square().sum() + (h_t - target).square().sum()
            quantised = quantised + mu * distance / (3 * bits)
        for side in codes[8]:
            reconstructed = (
                reconstructed + (made.decoders["8"](side) - made.get_buffer("target_16")[rows]).square().sum() / 3
            )
    expected = {
        "intra": 0.005 * intra,
        "inter": 5 * inter,
        "quantisation": 0.1 * quantised,
        "reconstruction": 20 * 0.001 * reconstructed,
    }
    for name, value in expected.items():
        assert terms[name].item() == pytest.approx(value.item(), rel=1e-4), name
    assert set(terms) == {*expected, "global", "local"}


def test_the_affinity_temperature_is_inert(backbone: Backbone, features: dict[int, Features]) -> None:
    made = objective(network(backbone), features[0])
    image, prompt = (nn.functional.normalize(torch.randn(4, 512, generator=drawing()), dim=1) for _ in range(2))
    s_i, s_p = image.softmax(1), (-prompt).softmax(1)
    middle = (s_i + s_p) / 2
    divergence = sum((middle * (middle / side).log()).sum(1).mean() for side in (s_i, s_p)) / 2
    found = made._affinity_temperature(image, -prompt)
    assert found == pytest.approx(0.07 / (1 + float(divergence)), rel=1e-5)
    assert 0.999 * 0.07 < found < 0.07


def test_without_pacl_or_prompt_there_is_no_local_term(backbone: Backbone, features: dict[int, Features]) -> None:
    for change in ({"pacl": False}, {"taap": False}):
        made = objective(network(backbone, dataclasses.replace(SMALL, **change)), features[0])  # type: ignore[arg-type]
        assert "local" not in made.losses(torch.arange(4), drawing())


def test_rows_without_labels_are_refused(backbone: Backbone, features: dict[int, Features]) -> None:
    made = objective(network(backbone), dataclasses.replace(features[0], labels=None))
    with pytest.raises(RecipeError, match="expected rows with labels, which the released encoder takes; found none"):
        made.losses(torch.arange(4), drawing())
