"""How fast work goes and how long it will take."""

import time
from collections.abc import Callable


class Meter:
    """Counts items against a clock; items that were done before it started do not count as speed."""

    def __init__(self, total: int | None, *, done: int = 0, clock: Callable[[], float] = time.monotonic) -> None:
        self.total = total
        self.done = done
        self._first = done
        self._clock = clock
        self._started = clock()

    def add(self, count: int) -> None:
        """Count items as done."""
        self.done += count

    @property
    def elapsed_s(self) -> float:
        """Seconds since the start."""
        return self._clock() - self._started

    @property
    def rate(self) -> float | None:
        """Items per second since the start; None until one is done."""
        elapsed_s = self.elapsed_s
        return (self.done - self._first) / elapsed_s if elapsed_s > 0 and self.done > self._first else None

    @property
    def eta_s(self) -> float | None:
        """Seconds left at this rate; None without a rate or a total."""
        rate = self.rate
        return None if rate is None or self.total is None else (self.total - self.done) / rate
