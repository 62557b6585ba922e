"""Out-of-fold class predictions: a row is never predicted by a member that learned from it."""

import pytest
import torch
from class_rows import CLASSES, DIM, accuracy, learnable, noise

from model.class_folds import FOLDS, ClassFolds


def folds(seed: int = 0) -> ClassFolds:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return ClassFolds(DIM, CLASSES)


def test_labels_that_are_noise_are_learned_by_heart_and_not_foretold() -> None:
    module, (features, labels) = folds(), noise(240)
    predicted = module.fit(features, labels, seed=0)
    chance = float(labels.mean(0).max())
    assert accuracy(predicted, labels) < chance + 0.1
    assert accuracy(module(features), labels) > chance + 0.3


def test_what_can_be_learned_is_foretold() -> None:
    module, (features, labels) = folds(), learnable(150)
    assert accuracy(module.fit(features, labels, seed=0), labels) > 0.9
    fresh, truth = learnable(60, seed=1)
    assert accuracy(module(fresh), truth) > 0.9


@pytest.mark.parametrize("row", [0, 17, 59])
def test_the_label_of_a_row_does_not_reach_its_own_prediction(row: int) -> None:
    features, labels = noise(60)
    changed = labels.clone()
    changed[row] = 1 - labels[row]
    one, other = folds().fit(features, labels, seed=0), folds().fit(features, changed, seed=0)
    assert torch.equal(one[row], other[row])
    assert not torch.equal(one, other)  # the other folds learned from it


def test_neither_do_its_features_through_the_scaling_of_its_member() -> None:
    features, labels = noise(60)
    one = folds().fit(features, labels, seed=0)
    changed = features.clone()
    changed[5] *= 100
    module = folds()
    other = module.fit(changed, labels, seed=0)
    unmoved = (one == other).all(1)
    unmoved[5] = True  # predicted by its own member, but from other features
    assert unmoved.sum() == 60 // FOLDS  # those of its fold, whose member saw neither


def test_every_row_is_predicted_by_one_member_and_a_new_input_by_the_mean_of_all() -> None:
    module, (features, labels) = folds(), noise(60)
    predicted = module.fit(features, labels, seed=0)
    with torch.no_grad():
        members = torch.stack([member(features).sigmoid() for member in module.members])
    by = (members - predicted).abs().amax(2) < 1e-6  # (FOLDS, N)
    assert by.sum(0).tolist() == [1] * 60
    assert by.sum(1).tolist() == [20, 20, 20]
    assert torch.allclose(module(features), members.mean(0))


def test_the_seed_decides_and_the_default_generator_does_not() -> None:
    features, labels = noise(60)
    torch.manual_seed(1)
    one = folds().fit(features, labels, seed=0)
    torch.manual_seed(2)
    assert torch.equal(folds().fit(features, labels, seed=0), one)
    assert not torch.equal(folds().fit(features, labels, seed=1), one)


def test_fitting_leaves_the_default_generator_alone() -> None:
    before = torch.get_rng_state()
    folds().fit(*noise(30), seed=0)
    assert torch.equal(torch.get_rng_state(), before)


def test_members_are_frozen_before_and_after() -> None:
    module = folds()
    assert not any(parameter.requires_grad for parameter in module.parameters())
    predicted = module.fit(*noise(30), seed=0)
    assert not predicted.requires_grad
    assert not any(parameter.requires_grad for parameter in module.parameters())
    assert not any(member.training for member in module.members)


def test_it_learns_where_gradients_are_off() -> None:
    features, labels = learnable(90)
    with torch.no_grad():
        assert accuracy(folds().fit(features, labels, seed=0), labels) > 0.9


def test_a_row_without_labels_teaches_nothing_and_is_predicted() -> None:
    features, labels = learnable(60)
    labels[40:] = 0
    one = folds().fit(features, labels, seed=0)
    assert (one[40:] > 0).all()
    assert (one[40:].amax(1) > 0.5).float().mean() > 0.8
    changed = features.clone()
    changed[40:] += 50
    other = folds().fit(changed, labels, seed=0)
    assert torch.equal(one[:40], other[:40])


@pytest.mark.parametrize("known", [0, 1, 2])
def test_a_few_labelled_rows_give_finite_predictions(known: int) -> None:
    features, labels = noise(12)
    labels[known:] = 0
    assert folds().fit(features, labels, seed=0).isfinite().all()
