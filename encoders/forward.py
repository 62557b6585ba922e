"""Forwards of a fixed shape, and others that may stand in for them because they have shown the same bits.

The canonical forward holds ``chunk`` inputs, whatever the call holds: what it makes of a row then depends on that row
alone. A forward of another size is quicker (on a CPU) or smaller (when a GPU is full), but a library may pick another
kernel for it and round differently. So a size stands in only after it has given, in this process and on this device,
the very bits of the canonical forward for every row of a first batch of the same shape; one that differed is not
used again. Which size ran can therefore never be seen in a code. A larger forward need not be full: its own overhead
is that of a few inputs, so the last row is repeated where that costs less than forwards of what is left.
"""

from collections.abc import Callable, Iterator, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

Rows = NDArray[np.float32]  # (B, D)
FULL = 5 / 8  # of a larger forward have to be inputs
Shape = tuple[int, tuple[int, ...], bool]  # rows, shape of one, whether any is padded


def forward_chunk(forward: Callable[[Tensor], Tensor], inputs: Tensor, chunk: int, device: torch.device) -> Rows:
    """Run at most ``chunk`` (B, ...) inputs, padded to exactly ``chunk`` rows -> (B, D) float32 on the CPU."""
    return forward_together(forward, (inputs,), chunk, device)


def forward_together(
    forward: Callable[..., Tensor], inputs: Sequence[Tensor], chunk: int, device: torch.device
) -> Rows:
    """``forward_chunk`` for a forward of several inputs, which have a row each for every row of the result."""
    if torch.get_num_threads() != 1:
        torch.set_num_threads(1)  # somebody raised it since: two threads split a sum differently than one
    padded = [_padded(side, chunk, device) for side in inputs]
    with torch.inference_mode():
        rows: Rows = forward(*padded).float().cpu().numpy()
    return rows[: len(inputs[0])]


def _padded(inputs: Tensor, chunk: int, device: torch.device) -> Tensor:
    missing = chunk - len(inputs)
    padded = torch.cat([inputs, inputs[-1:].expand(missing, *inputs.shape[1:])]) if missing else inputs
    if device.type == "cuda":
        padded = padded.pin_memory()  # only from such memory does a copy run beside the computation
    return padded.to(device, non_blocking=True)


class Forward:
    """One tower on one device. Safe for many threads: what is known of a shape is true whoever found it out."""

    def __init__(
        self, forward: Callable[[Tensor], Tensor], device: torch.device, chunk: int, stand_ins: tuple[int, ...] = ()
    ) -> None:
        """``stand_ins`` are other row counts, largest first: larger ones for speed, smaller ones for a full GPU."""
        self._forward = forward
        self._device = device
        self._chunk = chunk
        self._larger = tuple(size for size in stand_ins if size > chunk)
        self._smaller = tuple(size for size in stand_ins if size < chunk)
        self._proven: dict[Shape, bool] = {}

    def __call__(self, inputs: Tensor) -> Iterator[Rows]:
        """(N, ...) inputs of one shape -> (B, D) features, part by part, in order."""
        start = 0
        while start < len(inputs):
            size = self._next_size(inputs[start:])
            yield self._run(inputs[start : start + size], size)
            start += size

    def _next_size(self, left: Tensor) -> int:
        for size in self._larger:
            if len(left) >= FULL * size and self._proven.get(_shape(left[:size], size), True):
                return size
        return self._chunk

    def _run(self, part: Tensor, size: int) -> Rows:
        if size > self._chunk:
            return self._batch(part, size)
        try:
            rows = self._rows(part, self._chunk)
        except torch.OutOfMemoryError:
            return self._squeezed(part)
        for smaller in self._smaller:  # known before memory runs out, when there is nothing to compare with
            shape = _shape(part, smaller)
            if shape not in self._proven:
                self._proven[shape] = np.array_equal(self._in_steps(part, smaller), rows)
        return rows

    def _batch(self, part: Tensor, size: int) -> Rows:
        shape = _shape(part, size)
        if self._proven.get(shape, False):
            return self._rows(part, size)
        filled = np.minimum(np.arange(size), len(part) - 1)
        rows, canonical = self._rows(part[filled], size), self._in_steps(part, self._chunk)
        self._proven[shape] = np.array_equal(rows, canonical[filled])
        return canonical

    def _squeezed(self, part: Tensor) -> Rows:
        """The part in smaller forwards that are known to give the same bits.

        Raises:
            torch.OutOfMemoryError: none is known, or none fits either.
        """
        torch.cuda.empty_cache()
        for size in self._smaller:
            if self._proven.get(_shape(part, size), False):
                try:
                    return self._in_steps(part, size)
                except torch.OutOfMemoryError:
                    torch.cuda.empty_cache()
        return self._rows(part, self._chunk)  # with the memory given back it may fit now; if not, this says so

    def _in_steps(self, part: Tensor, size: int) -> Rows:
        return np.concatenate([self._rows(part[start : start + size], size) for start in range(0, len(part), size)])

    def _rows(self, part: Tensor, size: int) -> Rows:
        return forward_chunk(self._forward, part, size, self._device)


def _shape(part: Tensor, size: int) -> Shape:
    """What decides which kernels run; a padded text takes another way through attention than a full one."""
    is_padded = not part.is_floating_point() and not bool(part.all())
    return size, tuple(part.shape[1:]), is_padded
