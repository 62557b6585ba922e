"""The fast path, opt-in: low precision and any batch. Its codes are not those of the canonical path.

It has a fingerprint of its own, so an index built on the canonical path refuses its codes; `crossbit bench encode`
says how many bits differ and what it gains.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

DTYPES = {"bfloat16": torch.bfloat16, "float16": torch.float16}


@dataclass(frozen=True, slots=True)
class FastPath:
    """How to encode fast; a code may depend on the other inputs of its call."""

    dtype: str = "bfloat16"  # one of DTYPES, in autocast
    batch: int = 32  # most inputs of one forward
    compile: bool = False  # through torch.compile: minutes at the first forward, and a C++ compiler

    def __post_init__(self) -> None:
        if self.dtype not in DTYPES:
            raise ValueError(f"dtype: expected one of {', '.join(DTYPES)}, found {self.dtype!r}")
        if self.batch < 1:
            raise ValueError(f"batch: expected at least 1, found {self.batch}")


class FastForward:
    """One tower on the fast path."""

    def __init__(self, forward: Callable[[Tensor], Tensor], device: torch.device, path: FastPath) -> None:
        self._forward = torch.compile(forward) if path.compile else forward
        self._device = device
        self._path = path

    def __call__(self, inputs: Tensor) -> Iterator[NDArray[np.float32]]:
        """(N, ...) inputs of one shape -> (B, D) features, part by part, in order; pixels channels last."""
        for part in inputs.split(self._path.batch):
            moved = part.to(self._device, non_blocking=True)
            if moved.dim() == 4:
                moved = moved.contiguous(memory_format=torch.channels_last)
            with torch.inference_mode(), torch.autocast(self._device.type, DTYPES[self._path.dtype]):
                rows = self._forward(moved)
            yield rows.float().cpu().numpy()
