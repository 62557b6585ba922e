"""The two floors: random projections keep angles, random codes keep nothing but the identity of their input."""

import math

import pytest
import torch
from torch import Tensor

from model.errors import RecipeError
from model.methods import lsh, random_codes
from model.methods.protocol import Features, Network
from model.training.methods import closed_form

DIM = 24


def rows(count: int, seed: int) -> Features:
    """Unit vectors with a gap between the modalities; images have further columns."""
    generator = torch.Generator().manual_seed(seed)
    shared = torch.nn.functional.normalize(torch.randn(count, DIM, generator=generator), dim=1)
    return Features(torch.cat([shared + 0.5, torch.randn(count, 6, generator=generator)], dim=1), shared - 0.5, None)


def bits_of(logits: Tensor) -> Tensor:
    return logits > 0


@pytest.mark.parametrize("name", ["lsh", "random"])
def test_floors_are_solved_in_closed_form(name: str) -> None:
    assert closed_form(name) is not None


def test_lsh_estimates_the_angle() -> None:
    train = rows(200, 0)
    network = lsh.fit(lsh.Config(bits=(4096,)), train, seed=0)
    codes = bits_of(network.image_logits(train.images, 4096))
    centred = train.images[:, :DIM] - train.images[:, :DIM].mean(0)
    for other in (1, 2, 3):
        share = float((codes[0] != codes[other]).float().mean())
        cosine = torch.nn.functional.cosine_similarity(centred[0], centred[other], dim=0)
        assert share == pytest.approx(math.acos(float(cosine)) / math.pi, abs=0.04)


def test_lsh_takes_the_gap_between_the_modalities_out() -> None:
    train = rows(200, 0)
    network = lsh.fit(lsh.Config(bits=(64,)), train, seed=0)
    images, texts = bits_of(network.image_logits(train.images, 64)), bits_of(network.text_logits(train.texts, 64))
    assert float((images == texts).float().mean()) > 0.95


def test_lsh_without_training_items_is_refused() -> None:
    with pytest.raises(RecipeError, match="at least 1 training item"):
        lsh.fit(lsh.Config(bits=(8,)), rows(0, 0), seed=0)


def test_random_codes_of_a_pair_are_independent() -> None:
    train = rows(300, 0)
    network = random_codes.fit(random_codes.Config(bits=(64,)), train, seed=0)
    images, texts = bits_of(network.image_logits(train.images, 64)), bits_of(network.text_logits(train.texts, 64))
    assert float((images == texts).float().mean()) == pytest.approx(0.5, abs=0.02)
    assert float(images.float().mean()) == pytest.approx(0.5, abs=0.02)


def test_random_codes_of_near_neighbours_are_independent() -> None:
    train = rows(300, 0)
    network = random_codes.fit(random_codes.Config(bits=(64,)), train, seed=0)
    moved = train.texts + 1e-3
    same = bits_of(network.text_logits(train.texts, 64)) == bits_of(network.text_logits(moved, 64))
    assert float(same.float().mean()) == pytest.approx(0.5, abs=0.02)


def test_a_random_code_is_a_function_of_its_input() -> None:
    train = rows(20, 0)
    network = random_codes.fit(random_codes.Config(bits=(64,)), train, seed=0)
    assert torch.equal(network.text_logits(train.texts, 64), network.text_logits(train.texts.clone(), 64))


@pytest.mark.parametrize(("module", "config"), [(lsh, lsh.Config), (random_codes, random_codes.Config)])
def test_the_seed_decides_a_floor(module: type, config: type) -> None:
    train = rows(20, 0)
    networks: list[Network] = [module.fit(config(bits=(32,)), train, seed) for seed in (0, 0, 1)]  # type: ignore[attr-defined]
    one, same, other = (network.text_logits(train.texts, 32) for network in networks)
    assert torch.equal(one, same)
    assert not torch.equal(bits_of(one), bits_of(other))


@pytest.mark.parametrize("config", [lsh.Config, random_codes.Config])
@pytest.mark.parametrize("bits", [(), (12,), (8, 8)])
def test_a_floor_without_proper_lengths_is_refused(config: type, bits: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="bits: expected different positive multiples of 8"):
        config(bits=bits)
