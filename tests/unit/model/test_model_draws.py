"""Dropout on a part of the rows is the part's share of dropout on all of them."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import dropout, scaled_dot_product_attention

from model.draws import PartOfDraws

ROWS, PART = 13, slice(4, 9)
WHOLE = torch.randn(ROWS, 3, 6, generator=torch.Generator().manual_seed(1)) + 5


def drawn(read: Callable[[Tensor], Tensor], part: slice | None = None) -> tuple[Tensor, Tensor]:
    """What ``read`` makes of all rows, or of a part, and the next number of the generator."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        if part is None:
            return read(WHOLE), torch.rand(())
        with PartOfDraws(ROWS, part):
            return read(WHOLE[part]), torch.rand(())


def sides_first(rows: Tensor) -> Tensor:
    """Rows on the second axis."""
    return dropout(torch.stack([rows, -rows]), 0.5).transpose(0, 1)


def turned(rows: Tensor) -> Tensor:
    """Rows that do not lie one after another in memory, as attention gives them back."""
    return dropout(rows.transpose(0, 1).contiguous().transpose(0, 1), 0.5)


def attention(rows: Tensor) -> Tensor:
    return scaled_dot_product_attention(rows, rows, rows, dropout_p=0.5)


@pytest.mark.parametrize("read", [lambda rows: dropout(rows, 0.5), sides_first, turned, attention])
@pytest.mark.parametrize("part", [PART, slice(0, 4), slice(9, ROWS)])
def test_a_part_gets_its_share(read: Callable[[Tensor], Tensor], part: slice) -> None:
    (whole, then), (own, then_own) = drawn(read), drawn(read, part)
    assert torch.allclose(own, whole[part], atol=1e-6)
    assert not torch.allclose(own, drawn(read, None)[0].roll(1, 0)[part])
    assert torch.equal(then, then_own)


def test_a_transformer_layer_draws_as_if_all_rows_were_there() -> None:
    torch.manual_seed(0)
    layer = nn.TransformerEncoderLayer(6, 2, 16, 0.3, batch_first=True)
    (whole, then), (own, then_own) = drawn(layer), drawn(layer, PART)
    assert torch.allclose(own, whole[PART], atol=1e-6)
    assert torch.equal(then, then_own)


def test_gradients_fall_through_the_same_mask() -> None:
    rows = WHOLE[PART].clone().requires_grad_()
    with torch.random.fork_rng(devices=[]), PartOfDraws(ROWS, PART):
        dropped = dropout(rows, 0.5)
    dropped.sum().backward()
    assert rows.grad is not None
    assert torch.equal(rows.grad == 0, dropped == 0)
    assert 0 < (dropped == 0).float().mean() < 1


def test_a_draw_without_an_axis_of_the_rows_is_refused() -> None:
    with PartOfDraws(ROWS, PART), pytest.raises(RuntimeError, match=r"an axis of 5 rows, found one of shape \(7, 3\)"):
        dropout(torch.ones(7, 3), 0.5)
