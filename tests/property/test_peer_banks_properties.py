"""The losses of DCMH, DSPH, DCHMT and CMCL's global branch against literal references, pair by pair."""

import math
from dataclasses import dataclass
from itertools import product
from types import SimpleNamespace
from typing import TYPE_CHECKING, cast

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.nn.functional import one_hot

from model.methods import cmcl, dcmh
from model.methods.dchmt import distance_loss
from model.methods.dsph import irrelevant_loss, proxy_loss, zeta
from model.methods.protocol import Features

if TYPE_CHECKING:
    from encoders.protocol import Backbone

few = settings(max_examples=20)
TOWERS = cast("Backbone", SimpleNamespace(image_dim=6, text_dim=5))


@dataclass(frozen=True)
class Batch:
    """Items with features of both modalities, and their labels; each has one at least."""

    features: Features
    labels: Tensor  # (N, C)

    def alike(self, i: int, j: int) -> bool:
        return bool(self.labels[i] @ self.labels[j] > 0)


@st.composite
def batches(draw: st.DrawFn) -> Batch:
    items, classes = draw(st.integers(2, 7)), draw(st.integers(2, 4))
    generator = torch.Generator().manual_seed(draw(st.integers(0, 10_000)))
    labels = (torch.rand(items, classes, generator=generator) > 0.6).float()
    labels = torch.maximum(labels, one_hot(torch.arange(items) % classes, classes).float())
    images, texts = torch.randn(items, 6, generator=generator), torch.randn(items, 5, generator=generator)
    return Batch(Features(images, texts, labels), labels)


def codes_of(batch: Batch, bits: int) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(bits + len(batch.labels))
    image, text = torch.randn(2, len(batch.labels), bits, generator=generator, dtype=torch.float64).tanh()
    return image, text


def cosine(a: Tensor, b: Tensor) -> float:
    return float(a @ b / (a.norm() * b.norm()))


def likelihood(theta: float, similar: bool) -> float:
    return math.log1p(math.exp(theta)) - similar * theta


@few
@given(batches(), st.floats(0, 2), st.floats(0, 2))
def test_the_loss_of_dcmh_is_its_formula_over_all_training_rows(batch: Batch, gamma: float, eta: float) -> None:
    """Fresh outputs of the batch and stored ones of all rows, over the number of pairs; B is of the last epoch."""
    torch.manual_seed(0)
    config = dcmh.Config(bits=(8, 16), width=4, gamma=gamma, eta=eta)
    network = dcmh.Network(config, 6, 5).eval()
    objective = dcmh.Objective(config, network, batch.features)
    objective.begin()
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(0.1)  # what is stored is of the network before
    count, rows = len(batch.labels), torch.arange(len(batch.labels) - 1)
    expected = 0.0
    for bits in config.bits:
        stored = [bank.clone() for bank in objective.banks.of(bits)]
        fresh = [side.detach() for side in objective.outputs(rows)[bits]]
        signs = torch.where(stored[0] + stored[1] > 0, 1.0, -1.0)
        total = 0.0
        for others, side in zip(stored[::-1], fresh, strict=True):
            for i, j in product(rows.tolist(), range(count)):
                total += likelihood(float(side[i] @ others[j]) / 2, batch.alike(i, j))
            total += gamma * float((signs[rows] - side).square().sum())
        balance = eta * sum(float(side.mean(0).square().sum()) for side in fresh)
        expected += (total / (len(rows) * count) + balance) / len(config.bits)
    found = sum(term.item() for term in objective.losses(rows, torch.Generator().manual_seed(0)).values())
    assert found == pytest.approx(expected, rel=1e-4)


@few
@given(batches(), st.sampled_from([8, 16, 24]))
def test_the_proxy_loss_is_its_formula(batch: Batch, bits: int) -> None:
    codes, proxies = codes_of(batch, bits)[0], torch.randn(batch.labels.shape[1], bits, dtype=torch.float64)
    present, absent = [], []
    for i, c in product(range(len(codes)), range(len(proxies))):
        near = cosine(codes[i], proxies[c])
        if batch.labels[i, c]:
            present.append(1 - near)
        else:
            absent.append(max(0.0, near - zeta(bits, len(proxies))))
    expected = sum(present) / len(present) + (sum(absent) / len(absent) if absent else 0)
    assert proxy_loss(codes, proxies, batch.labels.double()).item() == pytest.approx(expected)


@few
@given(batches(), st.sampled_from([8, 16, 24]))
def test_the_repulsion_is_among_items_of_several_labels_that_share_none(batch: Batch, bits: int) -> None:
    image, text = codes_of(batch, bits)
    found = [
        max(0.0, cosine(image[i], text[j]) - zeta(bits, batch.labels.shape[1]))
        for i, j in product(range(len(image)), repeat=2)
        if batch.labels[i].sum() > 1 and batch.labels[j].sum() > 1 and not batch.alike(i, j)
    ]
    expected = sum(found) / len(found) if found else 0.0
    assert irrelevant_loss(image, text, batch.labels.double()).item() == pytest.approx(expected, abs=1e-12)


@given(st.integers(1, 4), st.integers(4, 10))
def test_zeta_is_not_below_what_code_words_can_keep(dimension: int, bits: int) -> None:
    """No linear code has a larger distance than the bound: an exhaustive search over random generators finds none."""
    generator = torch.Generator().manual_seed(100 * dimension + bits)
    messages = torch.tensor(list(product([0, 1], repeat=dimension)))[1:]
    largest = 0
    for _ in range(40):
        words = messages @ torch.randint(2, (dimension, bits), generator=generator) % 2
        largest = max(largest, int(words.sum(1).min()))
    assert zeta(bits, 2**dimension) <= 1 - 2 * largest / bits


@few
@given(batches(), st.sampled_from([8, 16]), st.floats(0.1, 1), st.sampled_from([1.0, 8.0]))
def test_the_distance_loss_is_its_formula(batch: Batch, bits: int, theta: float, max_weight: float) -> None:
    """In the paper's scale, (2 K)-dimensional pairs and a hinge up to sqrt(2 K theta), then divided by 2 K."""
    image, text = (
        torch.cat([side.sigmoid(), 1 - side.sigmoid()], dim=1)
        for side in (4 * codes_of(batch, bits)[0], 4 * codes_of(batch, bits)[1])
    )
    count = len(image)
    shared = torch.tensor([[float(batch.alike(i, j)) for j in range(count)] for i in range(count)], dtype=torch.float64)
    share = min(max(float(shared.mean()), 1e-6), 1 - 1e-6)
    weight = min(max((1 - share) / share, 1), max_weight)
    total = 0.0
    for i, j in product(range(count), repeat=2):
        distance = float((image[i] - text[j]).norm())
        total += weight * distance**2 if shared[i, j] else max(0.0, math.sqrt(2 * bits * theta) - distance) ** 2
    expected = total / count**2 / (2 * bits)
    assert distance_loss(image, text, shared, theta, max_weight).item() == pytest.approx(expected, rel=1e-6)


@few
@given(batches(), st.floats(0, 30))
def test_the_terms_of_cmcl_are_their_formulas(batch: Batch, auxiliary: float) -> None:
    """Stored codes are of the network before, B is the last epoch's, and the auxiliary length weighs as configured."""
    torch.manual_seed(0)
    config = cmcl.Config(bits=(8, 16), auxiliary_bits=24, auxiliary=auxiliary, width=8, hidden=8, info_nce=0)
    network = cmcl.Network.build(config, TOWERS, ()).eval()
    objective = cmcl.Objective(config, network, batch.features)
    objective.begin()
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(0.1)
    count, rows = len(batch.labels), torch.arange(len(batch.labels) - 1)
    with torch.no_grad():
        codes = objective._codes(batch.features.images[rows], batch.features.texts[rows])[1]
    signs = {bits: torch.where(sum(objective.banks.of(bits)) > 0, 1.0, -1.0)[rows] for bits in objective.lengths}
    expected = dict.fromkeys(("inter", "intra", "quantisation", "reconstruction"), 0.0)
    for bits, sides in codes.items():
        weight = auxiliary if bits == 24 else 1.0
        stored = objective.banks.of(bits)
        for own, other, side in zip(stored, stored[::-1], sides, strict=True):
            for name, bank, factor in (("inter", other, 5.0), ("intra", own, 0.005)):
                pairs = product(rows.tolist(), range(count))
                total = sum(likelihood(float(side[i] @ bank[n]) / 2, batch.alike(i, n)) for i, n in pairs)
                expected[name] += weight * factor * total / (len(rows) * count)
            expected["quantisation"] += weight * float((side - signs[bits]).square().sum()) / (len(rows) * bits)
            if bits != 24:
                lost = objective.decoders(side, bits).detach() - signs[24]
                expected["reconstruction"] += auxiliary * 0.001 * float(lost.square().sum()) / len(rows)
    found = objective.losses(rows, torch.Generator().manual_seed(0))
    for name, total in expected.items():
        assert found[name].item() == pytest.approx(total / (2 + auxiliary), rel=1e-4), name
