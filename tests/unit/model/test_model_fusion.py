"""Gated fusion: one item at a time as served, along the batch as released, with the same parameters."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.nn.functional import silu

from model.fusion import Affine, GatedFusion, ItemGate, _scramble, _unscramble

WIDTH = 16
TOLERANCE = 1e-6
SIZES = st.integers(1, 9)


def fusion(across: str, seed: int = 0) -> GatedFusion:
    """In evaluation mode, with channel affines that are not the identity."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        module = GatedFusion(WIDTH, across="item" if across == "item" else "batch", hidden=32)
        for part in module.modules():
            if isinstance(part, Affine):
                torch.nn.init.normal_(part.gamma, std=0.1)
                torch.nn.init.normal_(part.beta, std=0.1)
    return module.eval()


def sides(count: int, seed: int = 0) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(count, WIDTH, generator=generator), torch.randn(count, WIDTH, generator=generator)


def fused(module: GatedFusion, a: Tensor, b: Tensor) -> Tensor:
    """(B, 2 width)."""
    with torch.no_grad():
        return torch.cat(module(a, b), dim=1)


@settings(max_examples=15)
@given(st.integers(1, 7), st.data())
def test_an_item_depends_on_itself_alone(count: int, data: st.DataObject) -> None:
    own = data.draw(st.integers(0, count - 1))
    (a, b), (other_a, other_b) = sides(count), sides(count, seed=1)
    other_a[own], other_b[own] = a[own], b[own]
    module = fusion("item")
    assert torch.allclose(fused(module, a, b)[own], fused(module, other_a, other_b)[own], atol=TOLERANCE)


@settings(max_examples=15)
@given(st.permutations(range(6)))
def test_permuting_the_items_permutes_what_is_fused(order: list[int]) -> None:
    a, b = sides(6)
    module = fusion("item")
    assert torch.allclose(fused(module, a[order], b[order]), fused(module, a, b)[order], atol=TOLERANCE)


def test_an_item_alone_is_what_it_is_in_a_batch() -> None:
    a, b = sides(8)
    module = fusion("item")
    together = fused(module, a, b)
    for row in range(8):
        assert torch.allclose(fused(module, a[row : row + 1], b[row : row + 1])[0], together[row], atol=TOLERANCE)


@pytest.mark.parametrize("across", ["item", "batch"])
def test_both_halves_form_a_unit_vector(across: str) -> None:
    assert torch.allclose(fused(fusion(across), *sides(5)).norm(dim=1), torch.ones(5))


@pytest.mark.parametrize("side", [0, 1])
def test_each_half_depends_on_both_sides(side: int) -> None:
    module, (a, b) = fusion("item"), sides(3)
    other, _ = sides(3, seed=1)
    before = module(a, b)
    after = module(other, b) if side == 0 else module(a, other)
    assert all((one - two).abs().max() > 1e-3 for one, two in zip(before, after, strict=True))


def test_which_side_is_which_matters() -> None:
    module, (a, b) = fusion("item"), sides(3)
    assert not torch.allclose(fused(module, a, b), fused(module, b, a).roll(WIDTH, 1), atol=1e-3)


@given(SIZES, SIZES, st.integers(1, 2))
def test_the_released_layout_is_that_of_its_formula(batch: int, width: int, count: int) -> None:
    x = torch.arange(count * batch * width, dtype=torch.float32).reshape(count, batch, width)
    scrambled = _scramble(x)
    for side in range(count):
        v = x[side].flatten()
        for t in range(batch):
            for c in range(width):
                assert scrambled[side, t, c] == v[c * batch + t]


@given(SIZES, SIZES, st.integers(1, 2))
def test_the_released_layout_can_be_undone(batch: int, width: int, count: int) -> None:
    x = torch.arange(count * batch * width, dtype=torch.float32).reshape(count, batch, width)
    assert _scramble(x).shape == x.shape
    assert torch.equal(_unscramble(_scramble(x)), x)
    assert torch.equal(_scramble(_unscramble(x)), x)


@given(SIZES)
def test_the_released_layout_of_one_item_is_the_item(width: int) -> None:
    x = torch.arange(2.0 * width).reshape(2, 1, width)
    assert torch.equal(_scramble(x), x)


def test_as_released_an_item_depends_on_its_company() -> None:
    """The defect that ``across="item"`` is there to mend: section 5.3 of the notes on the release."""
    a, b = sides(6)
    module = fusion("batch")
    together, alone = fused(module, a, b), fused(module, a[:1], b[:1])
    assert (together[0] - alone[0]).norm() > 0.01 * together[0].norm()
    a[5], b[5] = sides(1, seed=1)[0][0], sides(1, seed=2)[0][0]
    assert (fused(module, a, b)[0] - together[0]).abs().max() > 1e-5


def test_both_modes_have_the_same_parameters() -> None:
    one, other = fusion("item", seed=0), fusion("batch", seed=1)
    shapes = {name: value.shape for name, value in one.state_dict().items()}
    assert {name: value.shape for name, value in other.state_dict().items()} == shapes
    one.load_state_dict(other.state_dict())
    other.load_state_dict(one.state_dict())
    assert torch.equal(fused(one, *sides(3)), fused(one, *sides(3)))


def test_an_affine_starts_as_the_identity() -> None:
    x, _ = sides(4)
    assert torch.equal(Affine(WIDTH)(x), x)


def test_an_affine_scales_and_shifts_each_channel() -> None:
    affine, (x, _) = Affine(WIDTH), sides(4)
    with torch.no_grad():
        affine.gamma.copy_(torch.linspace(-1, 1, WIDTH))
        affine.beta.copy_(torch.linspace(0, 1, WIDTH))
    assert torch.allclose(affine(x), torch.linspace(0, 2, WIDTH) * x + torch.linspace(0, 1, WIDTH))


@pytest.mark.parametrize("across", ["item", "batch"])
@pytest.mark.parametrize("batch", [1, 2, 5])
def test_the_scan_is_four_passes_of_one_mamba(across: str, batch: int) -> None:
    module = fusion(across)
    x = torch.stack(sides(batch))  # (2, B, width)
    with torch.no_grad():
        found = module._scan(x)
        sequences = x.transpose(0, 1) if across == "item" else _scramble(x)
        total = torch.zeros_like(sequences)
        for channels in (False, True):
            for steps in (False, True):
                turned = sequences.flip(2) if channels else sequences
                turned = turned.flip(1) if steps else turned
                read = module.mamba(turned)
                read = read.flip(1) if steps else read
                total += read.flip(2) if channels else read
    expected = total.transpose(0, 1) if across == "item" else _unscramble(total)
    assert torch.allclose(found, expected, atol=TOLERANCE)


def test_the_whole_is_its_nine_steps() -> None:
    module, (a, b) = fusion("item"), sides(4)
    with torch.no_grad():
        s = [module.enter(a), module.enter(b)]
        r = [silu(module.first_affine(module.first(one))) for one in s]
        y = [module.scan_gain * one for one in module._scan(torch.stack(r))]
        alike = sum(torch.cosine_similarity(one, other, dim=1) for one, other in zip(y, r, strict=True)) / 2
        w = torch.sigmoid(alike)[:, None]
        o = [module.gain * w * one + (1 - w) * other for one, other in zip(y, r, strict=True)]
        left = [
            0.5 * module.leave(module.leave_affine(silu(module.second_affine(module.second(one))))) + 0.5 * own
            for one, own in zip(o, s, strict=True)
        ]
        joint = module.joint_affine(torch.cat(left, dim=1))
        q = torch.cat([module.mix(row[None, None])[0] for row in joint])  # each item a sequence of its own
        expected = q / q.norm(dim=1, keepdim=True)
    assert torch.allclose(fused(module, a, b), expected, atol=TOLERANCE)


@pytest.mark.parametrize("across", ["item", "batch"])
def test_gradients_reach_every_parameter_and_both_sides(across: str) -> None:
    module = fusion(across)
    a, b = (side.requires_grad_() for side in sides(4))
    first, second = module(a, b)
    weights = torch.randn(2, WIDTH, generator=torch.Generator().manual_seed(3))
    (first * weights[0] + second * weights[1]).sum().backward()
    attention = ("mix.self_attn.in_proj_bias", "mix.self_attn.in_proj_weight")  # alone, an item attends to itself
    for name, parameter in module.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.abs().max() > 0 or name in attention, name
    assert a.grad is not None
    assert b.grad is not None


def test_a_gate_starts_half_and_half() -> None:
    a, b = sides(5)
    assert torch.equal(ItemGate(WIDTH)(a, b), (a + b) / 2)


@settings(max_examples=15)
@given(st.integers(1, 7), st.integers(0, 99))
def test_a_gate_gives_a_point_between_the_sides_of_each_item(count: int, seed: int) -> None:
    gate = ItemGate(WIDTH)
    torch.nn.init.normal_(gate.weigh.weight, generator=torch.Generator().manual_seed(seed))
    a, b = sides(count, seed)
    with torch.no_grad():
        between = gate(a, b)
        share = ((between - b) * (a - b)).sum(1, keepdim=True) / (a - b).square().sum(1, keepdim=True)
        assert ((share >= 0) & (share <= 1)).all()
        assert torch.allclose(share * a + (1 - share) * b, between, atol=1e-5)
        assert torch.allclose(gate(a[:1], b[:1]), between[:1], atol=TOLERANCE)
