"""The losses of DNpH, CMHH and DHaPH against literal references, pair by pair; distances in the ball by Mobius sums."""

import math
from dataclasses import dataclass

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from model.methods import cmhh
from model.methods.cmhh import exponential_focal
from model.methods.dhaph import paced_contrast, reciprocal_triplets
from model.methods.dnph import spherical_information
from model.poincare import ball_distances, to_ball

few = settings(max_examples=30)


@dataclass(frozen=True)
class Batch:
    """Codes of two modalities, and who shares a label with whom; an item does with itself."""

    image: Tensor  # (N, K) in (-1, 1)
    text: Tensor
    shared: Tensor  # (N, N)


@st.composite
def batches(draw: st.DrawFn) -> Batch:
    items, bits = draw(st.integers(1, 6)), draw(st.integers(2, 8))
    generator = torch.Generator().manual_seed(draw(st.integers(0, 10_000)))
    image, text = (torch.randn(items, bits, generator=generator, dtype=torch.float64).tanh() for _ in range(2))
    labels = (torch.rand(items, 3, generator=generator) > 0.5).double()
    return Batch(image, text, ((labels @ labels.T > 0) | torch.eye(items, dtype=torch.bool)).double())


def cosine(a: Tensor, b: Tensor) -> float:
    return float(a @ b / (a.norm() * b.norm()))


@few
@given(batches(), st.sampled_from([0.0, 0.5, 1.0, 3.0]))
def test_spherical_information_is_its_formula(batch: Batch, repulsion: float) -> None:
    count = len(batch.image)
    needs = count**2 / sum(float(batch.shared[i, j]) for i in range(count) for j in range(count))  # M
    total = 0.0
    for i in range(count):
        for j in range(count):
            nearness = (1 + cosine(batch.image[i], batch.text[j])) / 2
            total += (float(batch.shared[i, j]) * nearness - 1) ** 2 + repulsion * nearness**2 / needs
    found = spherical_information(batch.image, batch.text, batch.shared, repulsion)
    assert found.item() == pytest.approx(total / count**2)


@few
@given(batches(), st.floats(0.05, 2), st.floats(0, 3), st.floats(0.1, 0.9))
def test_exponential_focal_is_its_formula(batch: Batch, beta: float, gamma: float, alpha: float) -> None:
    count, bits = batch.image.shape
    total = 0.0
    for i in range(count):
        for j in range(count):
            near = math.exp(-beta * bits / 2 * (1 - cosine(batch.image[i], batch.text[j])))
            if batch.shared[i, j]:
                total -= alpha * (1 - near) ** gamma * math.log(near)
            else:
                total -= (1 - alpha) * near**gamma * math.log(1 - near)
    config = cmhh.Config(beta=beta, gamma=gamma, alpha=alpha)
    found = exponential_focal(batch.image, batch.text, batch.shared, config).item()
    assert found == pytest.approx(total / count**2, rel=1e-4, abs=1e-5)  # of EPS


@few
@given(batches(), st.sampled_from([0.07, 0.3, 1.0]), st.floats(0, 1))
def test_the_paced_contrast_is_its_formula(batch: Batch, temperature: float, pace: float) -> None:
    count = len(batch.image)
    total = 0.0
    for i in range(count):
        alike = other = 0.0
        for j in range(count):
            near = cosine(batch.image[i], batch.text[j])
            if batch.shared[i, j]:
                alike += math.exp(near / temperature) * math.exp(-1 - near) ** (pace / 4)
            else:
                other += math.exp(near / temperature) * math.exp(-1 + near) ** pace
        total -= math.log(alike / (alike + other))
    found = paced_contrast(batch.image, batch.text, batch.shared, temperature, pace)
    assert found.item() == pytest.approx(total / count, abs=1e-9)


@few
@given(batches(), st.floats(0, 1))
def test_no_gradient_passes_the_self_paced_weights(batch: Batch, pace: float) -> None:
    """The weights are constants of a step: with them held, a numeric derivative gives the gradient."""
    image = batch.image.clone().requires_grad_()
    paced_contrast(image, batch.text, batch.shared, 0.3, pace).backward()

    def held(moved: Tensor) -> float:
        near = torch.nn.functional.normalize(batch.image, dim=1) @ torch.nn.functional.normalize(batch.text, dim=1).T
        weights = torch.where(batch.shared > 0, (-1 - near).exp() ** (pace / 4), (near - 1).exp() ** pace)
        now = torch.nn.functional.normalize(moved, dim=1) @ torch.nn.functional.normalize(batch.text, dim=1).T
        kept = weights * (now / 0.3).exp()
        return float(-((kept * batch.shared).sum(1) / kept.sum(1)).log().mean())

    step = torch.zeros_like(batch.image)
    step[0, 0] = 1e-6
    slope = (held(batch.image + step) - held(batch.image - step)) / 2e-6
    assert image.grad is not None
    assert image.grad[0, 0].item() == pytest.approx(slope, abs=1e-6)


@few
@given(batches(), st.floats(0.05, 1))
def test_distances_in_the_ball_are_those_of_mobius_addition(batch: Batch, curvature: float) -> None:
    one, other = (to_ball(3 * side, curvature, limit=2.3) for side in (batch.image, batch.text))
    found = ball_distances(one, other, curvature)
    for i, x in enumerate(-one):
        for j, y in enumerate(other):
            inner, x2, y2 = float(x @ y), float(x @ x), float(y @ y)
            added = ((1 + 2 * curvature * inner + curvature * y2) * x + (1 - curvature * x2) * y) / (
                1 + 2 * curvature * inner + curvature**2 * x2 * y2
            )
            distance = 2 / curvature**0.5 * math.atanh(curvature**0.5 * float(added.norm()))
            assert found[i, j].item() == pytest.approx(distance, rel=1e-4)


@few
@given(batches(), st.floats(0.05, 1), st.floats(0.5, 3))
def test_what_is_mapped_lies_inside_the_ball_in_the_same_direction(
    batch: Batch, curvature: float, limit: float
) -> None:
    points = to_ball(5 * batch.image, curvature, limit)
    assert (points.norm(dim=1) < curvature**-0.5).all()
    for point, vector in zip(points, batch.image, strict=True):
        assert cosine(point, vector) == pytest.approx(1)
        clipped = min(5 * float(vector.norm()), limit)
        assert float(point.norm()) == pytest.approx(math.tanh(curvature**0.5 * clipped) / curvature**0.5, rel=2e-3)


@few
@given(st.integers(2, 12), st.integers(1, 6), st.integers(0, 10_000))
def test_triplets_are_of_reciprocal_neighbours_and_of_rows_that_are_none(
    count: int, neighbours: int, seed: int
) -> None:
    generator = torch.Generator().manual_seed(seed)
    likeness = torch.rand(count, count, generator=generator)
    likeness = (likeness + likeness.T).fill_diagonal_(3)
    nearest = [set(likeness[row].argsort(descending=True)[:neighbours].tolist()) for row in range(count)]
    both = [{j for j in nearest[i] if i in nearest[j] and i != j} for i in range(count)]
    triplets = reciprocal_triplets(likeness, neighbours, 5, generator)
    for i, j, k in zip(*(rows.tolist() for rows in triplets), strict=True):
        assert j in both[i]
        assert k not in both[i] | {i}
    expected = [i for i in range(count) if len(both[i]) > 1 and len(both[i]) < count - 1]
    assert triplets[0].unique().tolist() == expected
    assert len(triplets[0]) == 5 * len(expected)
