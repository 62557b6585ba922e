"""Which device to run on, and the settings that make its arithmetic repeatable."""

import os

import torch

from encoders.errors import DeviceUnavailable


def resolve_device(name: str) -> torch.device:
    """``auto`` is CUDA where there is one, else the CPU; any other name is taken as torch spells it.

    Raises:
        DeviceUnavailable: CUDA was asked for by name and there is none.
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    device = torch.device(name)
    if device.type == "cuda" and not torch.cuda.is_available():
        raise DeviceUnavailable("expected a CUDA device, found none; use --device cpu or auto")
    return device


def memory_share() -> float:
    """Share of a GPU's memory that this process may take, 0..1: ``CROSSBIT_CUDA_MEMORY_SHARE``, or all of it."""
    return float(os.environ.get("CROSSBIT_CUDA_MEMORY_SHARE", "1"))


def make_repeatable(device: torch.device) -> None:
    """One intra-op thread, and on CUDA a bound on memory, fp32 without TF32 and deterministic algorithms.

    One thread keeps the reduction order of every kernel the same whatever the machine is doing, and on shared cores
    two were slower than one; parallelism comes from encoding several inputs at once.
    """
    torch.set_num_threads(1)
    if device.type == "cuda":
        torch.cuda.set_per_process_memory_fraction(memory_share())  # of the current device
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
        torch.backends.cuda.matmul.allow_tf32 = False
        torch.backends.cudnn.allow_tf32 = False
        torch.backends.cudnn.benchmark = False
        torch.use_deterministic_algorithms(True)
