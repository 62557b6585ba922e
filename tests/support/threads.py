"""Ranks as threads of one process, for what is computed on several without starting any."""

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import pytest
from torch import Tensor

from model import ranks

Result = TypeVar("Result")


class Threads:
    """A group of ranks; each ``run`` has its threads."""

    def __init__(self, count: int, patch: pytest.MonkeyPatch) -> None:
        self.count = count
        self._own = threading.local()
        self._met = threading.Barrier(count)
        self._sent: dict[int, Tensor] = {}
        patch.setattr(ranks, "size", lambda: count)
        patch.setattr(ranks, "rank", lambda: self._own.rank)
        patch.setattr(ranks.dist, "all_reduce", self._sum)

    def run(self, call: Callable[[int], Result]) -> list[Result]:
        """What each rank makes of its number."""

        def of(rank: int) -> Result:
            self._own.rank = rank
            try:
                return call(rank)
            except BaseException:
                self._met.abort()  # nobody waits for one that failed
                raise

        with ThreadPoolExecutor(self.count) as pool:
            return list(pool.map(of, range(self.count)))

    def _sum(self, tensor: Tensor) -> None:
        self._sent[self._own.rank] = tensor.clone()
        self._met.wait()
        tensor.copy_(sum(self._sent[rank] for rank in range(self.count)))
        self._met.wait()
