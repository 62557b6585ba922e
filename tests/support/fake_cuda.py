"""A CUDA device for machines without one: what is sent to it stays where it is, and every transfer is written down."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch.overrides import TorchFunctionMode

from encoders.bundled import BundledBackbone
from encoders.registry import load_backbone

CUDA = torch.device("cuda")


class Transfers(TorchFunctionMode):
    """Takes the place of ``Tensor.to(cuda)`` and ``Tensor.pin_memory``."""

    def __init__(self) -> None:
        super().__init__()
        self.sent: list[tuple[tuple[int, ...], bool]] = []  # shape, whether the copy may run beside other work
        self.pinned = 0

    def __torch_function__(
        self,
        func: Callable[..., object],
        types: object,
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> object:
        kwargs = kwargs or {}
        if func is torch.Tensor.pin_memory:
            self.pinned += 1
            return args[0]
        if func is torch.Tensor.to and CUDA in (*args[1:], kwargs.get("device")):
            is_beside = bool(kwargs.get("non_blocking", len(args) > 3 and args[3]))
            self.sent.append((tuple(args[0].shape), is_beside))
            return args[0]
        return func(*args, **kwargs)


@contextmanager
def fake_cuda(monkeypatch: pytest.MonkeyPatch) -> Iterator[Transfers]:
    """Within, ``cuda`` is there; backbones that are loaded onto it say so."""
    properties = SimpleNamespace(name="fake", total_memory=2**30)
    on_cpu = torch.device("cpu")
    moved: set[int] = set()
    move = BundledBackbone.to

    def to(backbone: BundledBackbone, device: torch.device) -> BundledBackbone:
        if device == CUDA:
            moved.add(id(backbone))
        return move(backbone, device)

    with monkeypatch.context() as patch, Transfers() as transfers:
        patch.setattr(torch.cuda, "is_available", lambda: True)
        patch.setattr(torch.cuda, "set_per_process_memory_fraction", lambda share: None)
        patch.setattr(torch.cuda, "get_device_properties", lambda device: properties)
        patch.setattr(torch.cuda, "max_memory_allocated", lambda device: 2**20)
        patch.setattr(torch, "use_deterministic_algorithms", lambda wanted: None)
        patch.setattr(BundledBackbone, "to", to)
        patch.setattr(BundledBackbone, "device", property(lambda self: CUDA if id(self) in moved else on_cpu))
        load_backbone.cache_clear()
        try:
            yield transfers
        finally:
            load_backbone.cache_clear()
