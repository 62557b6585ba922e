"""Both optimisers against their formulas, and a checkpoint in the middle."""

import dataclasses
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from safetensors import safe_open
from torch import Tensor, nn

from model.methods.protocol import Network, Objective, ParameterGroup
from model.training.checkpoint import Progress, TrainingState
from model.training.optimiser import BERTADAM_EPS, BertAdam, clip, learning_rate, make_optimiser, set_rate
from model.training.recipe import Optimiser

BERT = Optimiser(algorithm="bertadam", rate=0.1, weight_decay=0.5, beta1=0.9, beta2=0.98, clip_norm=1.0)
ADAM = Optimiser(algorithm="adamw", rate=0.1, weight_decay=0.5, clip_norm=1.0)
Array = NDArray[np.float64]


class Toy(Network):
    """Three parameters: one learns slowly, one does not decay."""

    lengths = (8,)

    def __init__(self, seed: int = 0) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(seed)
        self.plain = nn.Parameter(torch.randn(3, 2, generator=generator))
        self.slow = nn.Parameter(torch.randn(4, generator=generator))
        self.bare = nn.Parameter(torch.randn((), generator=generator))

    def parameter_groups(self) -> list[ParameterGroup]:
        return [
            ParameterGroup([self.plain]),
            ParameterGroup([self.slow], rate=0.01),
            ParameterGroup([self.bare], decays=False),
        ]

    def image_logits(self, vectors: Tensor, bits: int) -> Tensor:
        return vectors

    def text_logits(self, vectors: Tensor, bits: int) -> Tensor:
        return vectors


class Beside(Objective):
    """Trains a decoder of its own; the loss pulls everything to fixed targets."""

    def __init__(self, network: Toy) -> None:
        super().__init__()
        self._borrowed = (network,)
        self.decoder = nn.Parameter(torch.full((2,), 2.0))

    def begin(self) -> None:
        pass

    def losses(self, rows: Tensor, generator: torch.Generator) -> dict[str, Tensor]:
        noise = torch.randn(4, generator=generator)
        network = self._borrowed[0]
        return {
            "all": network.plain.square().sum()
            + (network.slow * noise).sum()
            + network.bare.exp()
            + self.decoder.square().sum()
        }


def toy() -> tuple[Toy, Beside]:
    network = Toy()
    return network, Beside(network)


def take(recipe: Optimiser, optimiser: torch.optim.Optimizer, objective: Beside, step: int, steps: int) -> None:
    set_rate(optimiser, learning_rate(recipe, step, steps))
    loss = objective.losses(torch.arange(1), torch.Generator().manual_seed(step))["all"]
    optimiser.zero_grad()
    loss.backward()
    clip(recipe, optimiser)
    optimiser.step()


def numbers(tensor: Tensor) -> Array:
    return tensor.detach().double().numpy().copy()


def test_bertadam_is_its_formula_over_several_steps() -> None:
    network, objective = toy()
    optimiser = make_optimiser(BERT, network, objective)
    parameters = {"plain": (1.0, 0.5), "slow": (0.01, 0.5), "bare": (1.0, 0.0)}  # rate, decay
    values = {name: numbers(getattr(network, name)) for name in parameters}
    first = {name: np.zeros_like(value) for name, value in values.items()}
    second = {name: np.zeros_like(value) for name, value in values.items()}
    for step in range(20):
        noise = numbers(torch.randn(4, generator=torch.Generator().manual_seed(step)))
        gradients = {"plain": 2 * values["plain"], "slow": noise, "bare": np.exp(values["bare"])}
        x = step / 20
        rate = 0.1 * (x / 0.05 if x < 0.05 else 0.5 * (1 + math.cos(math.pi * x)))
        for name, (factor, decay) in parameters.items():
            norm = math.sqrt(float((gradients[name] ** 2).sum()))
            gradient = gradients[name] * min(1.0, 1.0 / (norm + 1e-6))
            first[name] = 0.9 * first[name] + 0.1 * gradient
            second[name] = 0.98 * second[name] + 0.02 * gradient**2
            update = first[name] / (np.sqrt(second[name]) + 1e-6) + decay * values[name]
            values[name] = values[name] - factor * rate * update
        take(BERT, optimiser, objective, step, 20)
        for name, expected in values.items():
            np.testing.assert_allclose(numbers(getattr(network, name)), expected, rtol=1e-4, atol=1e-5, err_msg=name)


def test_bertadam_does_not_correct_for_its_start() -> None:
    parameter = nn.Parameter(torch.zeros(1))
    optimiser = BertAdam([{"params": [parameter]}], lr=1.0, betas=(0.9, 0.98))
    parameter.grad = torch.ones(1)
    optimiser.step()
    assert parameter.item() == pytest.approx(-0.1 / (math.sqrt(0.02) + BERTADAM_EPS), rel=1e-5)


def test_a_parameter_without_a_gradient_neither_moves_nor_decays() -> None:
    parameter = nn.Parameter(torch.ones(2))
    optimiser = BertAdam([{"params": [parameter], "weight_decay": 0.5}], lr=1.0, betas=(0.9, 0.98))
    optimiser.step()
    assert torch.equal(parameter, torch.ones(2))


def test_bertadam_clips_each_tensor_on_its_own() -> None:
    network, objective = toy()
    optimiser = make_optimiser(BERT, network, objective)
    network.plain.grad, network.slow.grad = torch.full((3, 2), 100.0), torch.full((4,), 0.1)
    norm = clip(BERT, optimiser)
    assert norm.item() == pytest.approx(100 * math.sqrt(6))
    assert network.plain.grad.norm().item() == pytest.approx(1, rel=1e-5)
    assert torch.equal(network.slow.grad, torch.full((4,), 0.1))


def test_adamw_clips_the_gradient_as_a_whole() -> None:
    network, objective = toy()
    optimiser = make_optimiser(ADAM, network, objective)
    network.plain.grad, network.slow.grad = torch.full((3, 2), 100.0), torch.full((4,), 0.1)
    norm = clip(ADAM, optimiser)
    assert norm.item() == pytest.approx(math.sqrt(6 * 100**2 + 4 * 0.1**2))
    assert network.slow.grad[0].item() == pytest.approx(0.1 / norm.item(), rel=1e-4)


@pytest.mark.parametrize("recipe", [BERT, ADAM])
def test_a_norm_that_is_not_finite_is_told(recipe: Optimiser) -> None:
    network, objective = toy()
    optimiser = make_optimiser(recipe, network, objective)
    network.plain.grad, network.slow.grad = torch.ones(3, 2), torch.full((4,), float("nan"))
    assert not clip(recipe, optimiser).isfinite()


@pytest.mark.parametrize("recipe", [BERT, ADAM])
def test_groups_keep_their_rates_and_only_some_decay(recipe: Optimiser) -> None:
    network, objective = toy()
    optimiser = make_optimiser(recipe, network, objective)
    set_rate(optimiser, 0.2)
    found = [(group["lr"], group["weight_decay"]) for group in optimiser.param_groups]
    assert found == [(0.2, 0.5), (pytest.approx(0.002), 0.5), (0.2, 0.0), (0.2, 0.5)]
    assert [group["params"][0] is own for group, own in zip(
        optimiser.param_groups, (network.plain, network.slow, network.bare, objective.decoder), strict=True
    )] == [True] * 4  # fmt: skip


@pytest.mark.parametrize("recipe", [BERT, ADAM])
def test_with_no_gradient_only_groups_that_decay_shrink(recipe: Optimiser) -> None:
    network, objective = toy()
    optimiser = make_optimiser(recipe, network, objective)
    before = [numbers(p) for p in (network.plain, network.slow, network.bare)]
    for parameter in network.parameters():
        parameter.grad = torch.zeros_like(parameter)
    set_rate(optimiser, 0.1)
    optimiser.step()
    np.testing.assert_allclose(numbers(network.plain), before[0] * (1 - 0.1 * 0.5), rtol=1e-6)
    np.testing.assert_allclose(numbers(network.slow), before[1] * (1 - 0.001 * 0.5), rtol=1e-6)
    np.testing.assert_array_equal(numbers(network.bare), before[2])


def test_the_rate_of_bertadam_is_a_cosine_over_all_steps_that_the_warm_up_cuts_into() -> None:
    for steps in (20, 100, 4000):
        for step in range(0, steps, max(1, steps // 50)):
            x = step / steps
            expected = x / 0.05 if x < 0.05 else (1 + math.cos(math.pi * x)) / 2
            assert learning_rate(BERT, step, steps) == pytest.approx(0.1 * expected)


def test_bertadam_without_warm_up_starts_at_the_peak() -> None:
    assert learning_rate(dataclasses.replace(BERT, warmup=0.0), 0, 10) == pytest.approx(0.1)


@pytest.mark.parametrize("recipe", [BERT, ADAM])
@pytest.mark.parametrize("cut", [0, 1, 4])
def test_a_saved_state_goes_on_to_the_same_bits(tmp_path: Path, recipe: Optimiser, cut: int) -> None:
    def state() -> TrainingState:
        network, objective = toy()
        return TrainingState(network, objective, make_optimiser(recipe, network, objective), Progress(), {})

    def go(own: TrainingState, steps: range) -> None:
        assert isinstance(own.objective, Beside)
        for step in steps:
            take(recipe, own.optimiser, own.objective, step, 8)

    whole, before, after = state(), state(), state()
    go(whole, range(8))
    go(before, range(cut))
    before.progress.epoch, before.progress.best_score = 3, 0.25
    best = {name: value.detach() - 1 for name, value in toy()[0].state_dict().items()}
    before.best.update(best)
    before.save(tmp_path / "state.safetensors")
    after.load(tmp_path / "state.safetensors")
    assert after.progress == before.progress
    assert all(torch.equal(value, after.best[name]) for name, value in best.items())
    go(after, range(cut, 8))
    for name, value in whole.network.state_dict().items():
        assert torch.equal(value, after.network.state_dict()[name]), name
    for name, value in whole.objective.state_dict().items():
        assert torch.equal(value, after.objective.state_dict()[name]), name


def test_what_the_best_network_shares_with_the_present_one_is_written_once(tmp_path: Path) -> None:
    network, objective = toy()
    best = network.state_dict() | {"plain": torch.zeros(3, 2)}
    state = TrainingState(network, objective, make_optimiser(ADAM, network, objective), Progress(), best)
    state.save(tmp_path / "state.safetensors")
    with safe_open(tmp_path / "state.safetensors", framework="pt") as file:
        assert [name for name in file.keys() if name.startswith("best.")] == ["best.plain"]  # noqa: SIM118
    loaded = TrainingState(*toy(), state.optimiser, Progress(), {})
    loaded.load(tmp_path / "state.safetensors")
    assert all(torch.equal(value, loaded.best[name]) for name, value in best.items())


@pytest.mark.parametrize(
    ("values", "named"),
    [
        ({"algorithm": "sgd"}, "algorithm: expected one of adamw, bertadam, found 'sgd'"),
        ({"warmup": 1.0}, "warmup"),
        ({"rate": 0.0}, "rate"),
        ({"epochs": 0}, "epochs"),
    ],
)
def test_an_optimiser_that_cannot_be_is_refused(values: dict[str, object], named: str) -> None:
    with pytest.raises(ValueError, match=named):
        Optimiser(**values)  # type: ignore[arg-type]
