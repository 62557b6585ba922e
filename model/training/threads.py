"""Threads of one training on a CPU: a training may have several, the encode path has one (``encoders.device``)."""

import os
from collections.abc import Iterator
from contextlib import contextmanager

import torch


def train_threads() -> int:
    """``CROSSBIT_TRAIN_THREADS``, or 1: two sum in another order than one, and wait for each other on busy cores."""
    return int(os.environ.get("CROSSBIT_TRAIN_THREADS") or 1)


@contextmanager
def training_threads() -> Iterator[None]:
    """So many inside, one afterwards."""
    torch.set_num_threads(train_threads())
    try:
        yield
    finally:
        torch.set_num_threads(1)
