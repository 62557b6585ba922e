"""Guesses by kernel ridge regression: leaving a row out in closed form is leaving it out."""

import pytest
import torch
from class_rows import CLASSES, DIM, accuracy, learnable, noise
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from model.class_kernel import RIDGE, ClassKernel, _kernel

few = settings(max_examples=20, deadline=None)


@few
@given(st.integers(4, 30), st.integers(0, 1000))
def test_a_row_left_out_gets_what_a_fit_without_it_says(rows: int, seed: int) -> None:
    features, labels = learnable(rows, seed)
    module = ClassKernel(DIM, CLASSES, rows)
    found = module._solve(features.double(), labels.double(), features.double())
    kernel = _kernel(features.double(), features.double(), module.scale.double()) + 1
    for row in range(rows):
        others = [one for one in range(rows) if one != row]
        solved = torch.linalg.solve(
            kernel[others][:, others] + RIDGE * torch.eye(rows - 1, dtype=torch.float64), labels[others].double()
        )
        expected = kernel[row, others] @ solved
        assert torch.allclose(found[row], expected, atol=2e-3)


@pytest.mark.parametrize("landmarks", [60, 20])
@pytest.mark.parametrize("row", [0, 17, 59])
def test_the_label_of_a_row_does_not_reach_its_own_score(row: int, landmarks: int) -> None:
    features, labels = (one.double() for one in noise(60))
    changed = labels.clone()
    changed[row] = 1 - labels[row]
    module = ClassKernel(DIM, CLASSES, landmarks)
    one, other = (module._solve(features, some, features[:landmarks]) for some in (labels, changed))
    assert torch.allclose(one[row], other[row], rtol=0, atol=1e-9)
    assert not torch.allclose(one, other, atol=1e-3)


def test_landmarks_for_all_rows_are_ridge_regression_with_the_whole_kernel() -> None:
    features, labels = learnable(40)
    fresh, _ = learnable(10, seed=1)
    module = ClassKernel(DIM, CLASSES, 40)
    module.fit(features, labels, seed=0)
    scale = module.scale.double()
    kernel = _kernel(features.double(), features.double(), scale) + 1
    solved = torch.linalg.solve(kernel + RIDGE * torch.eye(40, dtype=torch.float64), labels.double())
    expected = (_kernel(fresh.double(), features.double(), scale) + 1) @ solved
    found = (module(fresh).double().logit() - module.offset) / module.slope
    assert torch.allclose(found, expected, atol=2e-3)


def test_landmarks_that_nothing_fills_change_nothing() -> None:
    features, labels = learnable(40)
    fresh, _ = learnable(10, seed=1)
    exact, roomy = ClassKernel(DIM, CLASSES, 40), ClassKernel(DIM, CLASSES, 64)
    assert torch.equal(exact.fit(features, labels, seed=0), roomy.fit(features, labels, seed=0))
    assert torch.allclose(exact(fresh), roomy(fresh), atol=1e-6)


def test_a_loaded_kernel_gives_the_bits_of_the_one_that_was_fitted() -> None:
    features, labels = learnable(40)
    fitted, loaded = ClassKernel(DIM, CLASSES, 40), nn.Sequential(ClassKernel(DIM, CLASSES, 40))
    fitted.fit(features, labels, seed=0)
    loaded.load_state_dict({f"0.{name}": value for name, value in fitted.state_dict().items()})
    assert torch.equal(loaded(features), fitted(features))


def test_labels_that_are_noise_are_learned_by_heart_and_not_foretold() -> None:
    module, (features, labels) = ClassKernel(DIM, CLASSES, 240), noise(240)
    predicted = module.fit(features, labels, seed=0)
    assert (
        abs(accuracy(predicted, labels) - float(labels.mean(0).max())) < 0.1
    )  # neither more nor less: both would tell the label
    assert accuracy(module(features), labels) > 0.9


@pytest.mark.parametrize("landmarks", [150, 50])
def test_what_can_be_learned_is_foretold(landmarks: int) -> None:
    module, (features, labels) = ClassKernel(DIM, CLASSES, landmarks), learnable(150)
    assert accuracy(module.fit(features, labels, seed=0), labels) > 0.9
    fresh, truth = learnable(60, seed=1)
    assert accuracy(module(fresh), truth) > 0.9


def test_probabilities_are_as_high_as_the_share_that_is_right() -> None:
    generator = torch.Generator().manual_seed(0)
    features = torch.randn(600, DIM, generator=generator)
    has = (torch.rand(600, generator=generator) < 0.2).float()  # a fifth, whatever the features are
    predicted = ClassKernel(DIM, 2, 600).fit(features, torch.stack([has, 1 - has], dim=1), seed=0)
    assert predicted.mean(0).tolist() == pytest.approx([0.2, 0.8], abs=0.05)


def test_a_row_without_labels_teaches_nothing_and_is_predicted() -> None:
    features, labels = learnable(60)
    labels[40:] = 0
    one = ClassKernel(DIM, CLASSES, 60).fit(features, labels, seed=0)
    assert (one[40:].amax(1) > 0.5).float().mean() > 0.8
    changed = features.clone()
    changed[40:] += 50
    other = ClassKernel(DIM, CLASSES, 60).fit(changed, labels, seed=0)
    assert torch.equal(one[:40], other[:40])


@pytest.mark.parametrize("known", [0, 1, 2])
def test_a_few_labelled_rows_give_finite_predictions(known: int) -> None:
    features, labels = noise(12)
    labels[known:] = 0
    assert ClassKernel(DIM, CLASSES, 8).fit(features, labels, seed=0).isfinite().all()


def test_equal_rows_and_a_class_that_nobody_has_are_harmless() -> None:
    features, labels = learnable(30)
    features[10:20] = features[10]
    labels[:, 2], labels[:, 0] = 0, 1
    predicted = ClassKernel(DIM, CLASSES, 30).fit(features, labels, seed=0)
    assert predicted.isfinite().all()
    assert (predicted[:, 2] < 0.2).all()


def test_the_seed_draws_the_landmarks() -> None:
    features, labels = learnable(60)
    one, same, other = (ClassKernel(DIM, CLASSES, 20) for _ in range(3))
    for module, seed in ((one, 0), (same, 0), (other, 1)):
        module.fit(features, labels, seed=seed)
    assert torch.equal(one.landmarks, same.landmarks)
    assert not torch.equal(one.landmarks, other.landmarks)


def test_nothing_of_it_is_trained() -> None:
    module = ClassKernel(DIM, CLASSES, 20)
    assert not module.fit(*noise(30), seed=0).requires_grad
    assert not list(module.parameters())
