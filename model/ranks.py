"""One training on several processes, the ranks that ``torchrun`` starts: all take the same steps, each reads a part.

Every rank holds all weights, banks and features, draws the same batches, and has the losses of the whole batch. What
``shared`` wraps is done in parts: a rank passes its part of the rows through the network, and the parts are gathered.
So a contrast sees every item of the batch and a bank every code; a method that wraps nothing is trained all the same,
by every rank doing all of it.

Gradients: the loss is the same on every rank, and so is what comes back to the gathered rows. Each rank passes on its
own part, times the number of ranks; the mean over the ranks (``average``) is then the gradient of the whole batch, of
a parameter before the gathering as of one behind it. DistributedDataParallel takes the same mean, but around one
forward of one module, while an objective calls the parts of a network as it needs them.

The group is torch.distributed's default one. Without it there is one rank, and nothing here does anything.
"""

import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, nullcontext
from datetime import timedelta
from typing import Any

import torch
from torch import Tensor
from torch import distributed as dist
from torch.autograd import Function
from torch.nn.attention import SDPBackend, sdpa_kernel

from encoders.device import resolve_device
from encoders.errors import DeviceUnavailable
from model.draws import PartOfDraws

FEW = 4  # rows a rank: fewer are read by every rank; it also tells rows from an axis of an item's sides (PartOfDraws)
PATIENCE = timedelta(days=1)  # ranks may read features for hours; of one that died torchrun tells the others


def size() -> int:
    """How many ranks there are."""
    return dist.get_world_size() if dist.is_initialized() else 1


def rank() -> int:
    """This process's number, from 0. The first one writes."""
    return dist.get_rank() if dist.is_initialized() else 0


def wait() -> None:
    """Until every rank is here."""
    if size() > 1:
        dist.barrier()


@contextmanager
def joined(device: str) -> Iterator[str]:
    """Be a rank where ``torchrun`` started this process -> the device to run on, of several GPUs the rank's own.

    After an error nothing waits for the other ranks: the process ends, and ``torchrun`` ends the others.

    Raises:
        DeviceUnavailable: there are fewer GPUs than ranks on this machine.
    """
    if not dist.is_torchelastic_launched():
        yield device
        return
    own = resolve_device(device)
    if own.type == "cuda":
        own = torch.device("cuda", int(os.environ["LOCAL_RANK"]))
        if own.index >= torch.cuda.device_count():
            raise DeviceUnavailable(
                f"expected a GPU for each process of this machine, found {torch.cuda.device_count()} and a process "
                f"{own.index}, counted from 0; start as many as there are GPUs, or set CROSSBIT_DEVICE=cpu"
            )
        torch.cuda.set_device(own)
        dist.init_process_group("nccl", timeout=PATIENCE, device_id=own)
    else:
        dist.init_process_group("gloo", timeout=PATIENCE)
    yield str(own)
    dist.destroy_process_group()


def shared(read: Callable[..., Tensor]) -> Callable[..., Tensor]:
    """``read``, row by row, of tensors with one row (B, ...) an item -> (B, ...): each rank a part of the rows.

    What ``read`` makes of a row must not depend on other rows. Arguments that are None are handed on.
    """

    def read_part(*inputs: Tensor | None) -> Tensor:
        first = next(one for one in inputs if one is not None)
        rows, ranks = len(first), size()
        if ranks == 1 or rows < FEW * ranks:
            return read(*inputs)
        part = slice(rows * rank() // ranks, rows * (rank() + 1) // ranks)
        # CUDA's other kernels draw the dropout of attention where no one sees it
        attention = sdpa_kernel(SDPBackend.MATH) if first.is_cuda else nullcontext()
        with attention, PartOfDraws(rows, part):
            own = read(*[None if one is None else one[part] for one in inputs])
        gathered: Tensor = _Gathered.apply(own, part, rows)
        return gathered

    return read_part


class _Gathered(Function):
    """(part, ...) of each rank -> (rows, ...) on all of them."""

    @staticmethod
    def forward(ctx: Any, own: Tensor, part: slice, rows: int) -> Tensor:  # noqa: ANN401  torch's own
        ctx.part = part
        whole = own.new_zeros(rows, *own.shape[1:])
        whole[part] = own
        dist.all_reduce(whole)  # parts may differ in length, which a plain gathering does not take
        return whole

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None]:  # noqa: ANN401  torch's own
        return size() * gradient[ctx.part], None, None


def average(tensors: Iterable[Tensor]) -> None:
    """Replace each by its mean over the ranks, in one message."""
    if size() == 1:
        return
    parts = list(tensors)
    flat = torch.cat([one.flatten() for one in parts])
    dist.all_reduce(flat)
    for one, mean in zip(parts, (flat / size()).split([one.numel() for one in parts]), strict=True):
        one.copy_(mean.view_as(one))


def agree(tensors: Iterable[Tensor]) -> None:
    """Replace each by the first rank's: processors of several kinds may have rounded on the way here."""
    if size() > 1:
        for one in tensors:
            dist.broadcast(one, 0)


def differ(number: int) -> bool:
    """Whether the ranks came with several numbers."""
    if size() == 1:
        return False
    device = torch.device("cuda") if dist.get_backend() == "nccl" else torch.device("cpu")
    ends = torch.tensor([number, -number], device=device)
    dist.all_reduce(ends, dist.ReduceOp.MAX)
    return bool(ends.sum() != 0)
