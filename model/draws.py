"""Dropout on a part of some rows, as it would fall on that part were all rows there."""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

FILL = torch.ops.aten.bernoulli_.float  # what dropout draws with on a CPU
FUSED = torch.ops.aten.native_dropout.default  # and on CUDA


class PartOfDraws(TorchDispatchMode):
    """While it is on, each draw for the part is made for all rows, and the part takes its own of it.

    So the generator moves on as if all rows were there, wherever the part lies and however long it is. The axis of the
    rows is the first with as many entries as the part has.
    """

    def __init__(self, rows: int, part: slice) -> None:
        super().__init__()  # type: ignore[no-untyped-call]  # torch's own
        self._rows, self._part = rows, part

    def __torch_dispatch__(
        self,
        func: Callable[..., Any],  # an operator of any signature
        types: Sequence[type],
        args: Sequence[Any] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:  # noqa: ANN401
        """Every operator as it is, but those that draw."""
        if func is FILL:
            own, *how = args
            whole, place = self._whole(own)
            return own.copy_(func(whole, *how, **(kwargs or {}))[place])
        if func is FUSED:
            own, share, training = args
            whole, place = self._whole(own)
            kept = func(whole, share, training)[1][place]
            return own * kept / (1 - share), kept
        return func(*args, **(kwargs or {}))

    def _whole(self, own: Tensor) -> tuple[Tensor, tuple[slice, ...]]:
        """A tensor for all rows, laid out in memory as the part's is, and the part's place in it."""
        count = self._part.stop - self._part.start
        if count not in own.shape:
            raise RuntimeError(f"expected a draw with an axis of {count} rows, found one of shape {tuple(own.shape)}")
        axis = own.shape.index(count)
        sizes = [self._rows if one == axis else size for one, size in enumerate(own.shape)]
        strides, step = [0] * own.dim(), 1
        for one in sorted(range(own.dim()), key=own.stride):
            strides[one], step = step, step * sizes[one]
        place = (*[slice(None)] * axis, self._part)
        return torch.empty_strided(sizes, strides, dtype=own.dtype, device=own.device), place
