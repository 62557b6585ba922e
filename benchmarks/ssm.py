"""How much faster the state-space block is than mamba-ssm's pure-Python scan: forward and backward, one run, CPU.

python benchmarks/ssm.py [--length 128] [--batch 16] [--width 384] [--rounds 7]
"""

import argparse
import sys
import time
from statistics import median
from types import ModuleType

import torch
from torch import nn

from model.ssm import Mamba


def main() -> None:
    """Print the median of the rounds' ratios; both blocks take turns in every round."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name, default in (("length", 128), ("batch", 16), ("width", 384), ("rounds", 7)):
        parser.add_argument(f"--{name}", type=int, default=default)
    options = parser.parse_args()
    torch.set_num_threads(1)
    ours, theirs = Mamba(options.width), _reference(options.width)
    ours.load_state_dict(theirs.state_dict())
    x = torch.randn(options.batch, options.length, options.width)
    rounds = [(_seconds(ours, x), _seconds(theirs, x)) for _ in range(options.rounds + 1)][1:]
    ratio = median(reference / own for own, reference in rounds)
    print(f"{options.batch} sequences of {options.length} x {options.width}, forward and backward, one thread:")
    print(f"ours {median(own for own, _ in rounds):.3f} s, reference {median(ref for _, ref in rounds):.3f} s")
    print(f"ours is {ratio:.1f} times as fast (median of {options.rounds} rounds)")


def _reference(width: int) -> nn.Module:
    sys.modules["selective_scan_cuda"] = ModuleType("selective_scan_cuda")
    from mamba_ssm.modules import mamba_simple
    from mamba_ssm.ops.selective_scan_interface import selective_scan_ref

    mamba_simple.selective_scan_fn = selective_scan_ref
    block: nn.Module = mamba_simple.Mamba(width, use_fast_path=False)
    return block


def _seconds(block: nn.Module, x: torch.Tensor) -> float:
    started = time.perf_counter()
    block(x.requires_grad_()).square().mean().backward()
    return time.perf_counter() - started


if __name__ == "__main__":
    main()
