"""The state-space block against the pure-Python part of mamba-ssm, which the Makefile installs without its kernels."""

import sys
import warnings
from collections.abc import Callable, Iterator
from types import ModuleType

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from model.ssm import Mamba, selective_scan

WIDTH = 32
TOLERANCE = 1e-5

Reference = Callable[..., nn.Module]


@pytest.fixture(scope="module")
def reference() -> Iterator[Reference]:
    """``mamba_ssm.Mamba`` on its pure-Python scan."""
    with pytest.MonkeyPatch.context() as patch, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        patch.setitem(sys.modules, "selective_scan_cuda", ModuleType("selective_scan_cuda"))
        from mamba_ssm.modules import mamba_simple
        from mamba_ssm.ops.selective_scan_interface import selective_scan_ref

        patch.setattr(mamba_simple, "selective_scan_fn", selective_scan_ref)
        patch.setattr(mamba_simple, "causal_conv1d_fn", None)
        yield mamba_simple.Mamba


def _input(batch: int, length: int) -> Tensor:
    return torch.randn(batch, length, WIDTH, generator=torch.Generator().manual_seed(length))


@pytest.mark.parametrize("batch", [1, 7])
@pytest.mark.parametrize("length", [1, 2, 77, 128])
def test_output_and_every_gradient_are_those_of_mamba_ssm(reference: Reference, batch: int, length: int) -> None:
    theirs, ours = reference(WIDTH, use_fast_path=False), Mamba(WIDTH)
    ours.load_state_dict(theirs.state_dict())
    x, x_theirs = _input(batch, length).requires_grad_(), _input(batch, length).requires_grad_()
    y, expected = ours(x), theirs(x_theirs)
    torch.testing.assert_close(y, expected, rtol=TOLERANCE, atol=TOLERANCE)
    weights = torch.randn_like(y)
    (y * weights).mean().backward()
    (expected * weights).mean().backward()
    torch.testing.assert_close(x.grad, x_theirs.grad, rtol=TOLERANCE, atol=TOLERANCE)
    for (name, parameter), other in zip(ours.named_parameters(), theirs.parameters(), strict=True):
        torch.testing.assert_close(parameter.grad, other.grad, rtol=TOLERANCE, atol=TOLERANCE, msg=name)


def test_checkpoints_move_both_ways(reference: Reference) -> None:
    theirs, ours = reference(WIDTH), Mamba(WIDTH)
    theirs.load_state_dict(ours.state_dict())
    assert [*theirs.state_dict()] == [*ours.state_dict()]


def test_two_tokens_are_the_closed_form() -> None:
    generator = torch.Generator().manual_seed(0)
    u, delta, z = torch.rand(3, 2, 5, 2, generator=generator, dtype=torch.float64)
    b, c = torch.rand(2, 2, 4, 2, generator=generator, dtype=torch.float64)
    a = -torch.rand(5, 4, generator=generator, dtype=torch.float64)
    skip, bias = torch.rand(2, 5, generator=generator, dtype=torch.float64)
    y = selective_scan(u, delta, a, b, c, skip, z, bias, False)

    step = delta + bias[:, None]
    first = (step * u)[..., 0, None] * b[:, None, :, 0]  # (B, D, N)
    second = (step[..., 1, None] * a).exp() * first + (step * u)[..., 1, None] * b[:, None, :, 1]
    states = torch.stack([first, second], dim=-1)  # (B, D, N, 2)
    expected = ((states * c[:, None]).sum(2) + u * skip[:, None]) * torch.nn.functional.silu(z)
    torch.testing.assert_close(y, expected)


@settings(max_examples=10, deadline=None)
@given(st.integers(1, 6), st.integers(1, 3))
def test_gradients_are_those_of_finite_differences(length: int, batch: int) -> None:
    generator = torch.Generator().manual_seed(length)

    def draw(*shape: int) -> Tensor:
        return torch.rand(*shape, generator=generator, dtype=torch.float64).requires_grad_()

    u, delta, z = draw(batch, 3, length), draw(batch, 3, length), draw(batch, 3, length)
    a, b, c, skip, bias = draw(3, 2), draw(batch, 2, length), draw(batch, 2, length), draw(3), draw(3)

    def scan(*inputs: Tensor) -> Tensor:
        return selective_scan(*inputs, True)

    assert torch.autograd.gradcheck(scan, (u, delta, a, b, c, skip, z, bias))


def test_a_token_sees_no_later_one() -> None:
    block, x = Mamba(WIDTH), _input(2, 9)
    later = x.clone()
    later[:, 5:] = 0
    assert torch.equal(block(x)[:, :5], block(later)[:, :5])


def test_a_sequence_does_not_see_its_batch() -> None:
    block, x = Mamba(WIDTH), _input(4, 2)
    torch.testing.assert_close(block(x)[1:2], block(x[1:2]))
