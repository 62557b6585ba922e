"""Selective state-space block in plain torch, forward and backward, on any device.

Paper: Gu and Dao, "Mamba: Linear-Time Sequence Modeling with Selective State Spaces", 2023; algorithm 2, sec. 3.4.
Parameter names and shapes are those of ``mamba_ssm.Mamba``, so a state dict moves both ways. On CUDA that package's
kernel does the scan where it is installed (extra ``mamba``); it matters for long sequences, not for a few tokens.
"""

import math
from collections.abc import Callable
from functools import cache
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd import Function
from torch.autograd.function import FunctionCtx, once_differentiable
from torch.nn.functional import silu, softplus

STEP_MIN, STEP_MAX, STEP_FLOOR = 1e-3, 0.1, 1e-4  # range of the step size at the start


class Mamba(nn.Module):
    """(B, L, d_model) -> (B, L, d_model): token t depends on tokens 0..t of its own sequence alone."""

    def __init__(self, d_model: int, d_state: int = 16, d_conv: int = 4, expand: int = 2) -> None:
        super().__init__()
        self.d_inner, self.d_state, self.dt_rank = expand * d_model, d_state, math.ceil(d_model / 16)
        self.in_proj = nn.Linear(d_model, 2 * self.d_inner, bias=False)
        self.conv1d = nn.Conv1d(self.d_inner, self.d_inner, d_conv, groups=self.d_inner, padding=d_conv - 1)
        self.x_proj = nn.Linear(self.d_inner, self.dt_rank + 2 * d_state, bias=False)
        self.dt_proj = nn.Linear(self.dt_rank, self.d_inner)
        self.A_log = nn.Parameter(torch.arange(1, d_state + 1.0).log().repeat(self.d_inner, 1))  # (d_inner, d_state)
        self.D = nn.Parameter(torch.ones(self.d_inner))
        self.out_proj = nn.Linear(self.d_inner, d_model, bias=False)
        self._start_steps()

    def forward(self, x: Tensor) -> Tensor:
        """(B, L, d_model) -> (B, L, d_model)."""
        u, z = self.in_proj(x).transpose(1, 2).chunk(2, dim=1)  # (B, d_inner, L) each
        u = silu(self._convolve(u))
        steps, b, c = self.x_proj(u.transpose(1, 2)).split([self.dt_rank, self.d_state, self.d_state], dim=-1)
        steps = (steps @ self.dt_proj.weight.T).transpose(1, 2)  # (B, d_inner, L)
        a = -self.A_log.exp()
        scan = _kernel() if x.is_cuda else None
        y: Tensor = (scan or selective_scan)(
            u, steps, a, b.transpose(1, 2), c.transpose(1, 2), self.D, z, self.dt_proj.bias, True
        )
        out: Tensor = self.out_proj(y.transpose(1, 2))
        return out

    def _convolve(self, u: Tensor) -> Tensor:
        """(B, d_inner, L) -> (B, d_inner, L), each channel with its own past."""
        length = u.shape[2]
        if length > 2:
            padded: Tensor = self.conv1d(u)[..., :length]  # padded on both sides: the cut keeps it causal
            return padded
        weight, bias = self.conv1d.weight[:, 0], self.conv1d.bias  # (d_inner, d_conv)
        now = u * weight[:, -1:] + (0 if bias is None else bias[:, None])
        if length == 1 or weight.shape[1] == 1:
            return now
        before = u[..., :1] * weight[:, -2:-1]
        return now + torch.cat([torch.zeros_like(before), before], dim=2)

    def _start_steps(self) -> None:
        """Step sizes between 0.001 and 0.1, spread evenly on a log scale (section 3.6)."""
        bound = self.dt_rank**-0.5
        nn.init.uniform_(self.dt_proj.weight, -bound, bound)
        low, high = math.log(STEP_MIN), math.log(STEP_MAX)
        steps = (torch.rand(self.d_inner) * (high - low) + low).exp().clamp(min=STEP_FLOOR)
        with torch.no_grad():
            self.dt_proj.bias.copy_(steps + torch.log(-torch.expm1(-steps)))  # inverse of softplus


def selective_scan(
    u: Tensor,
    delta: Tensor,
    a: Tensor,
    b: Tensor,
    c: Tensor,
    skip: Tensor,
    z: Tensor,
    delta_bias: Tensor,
    delta_softplus: bool,
) -> Tensor:
    """h_t = exp(delta_t a) h_{t-1} + delta_t u_t b_t; y_t = (h_t c_t + skip u_t) silu(z_t).

    ``u``, ``delta``, ``z`` (B, D, L), ``a`` (D, N), ``b``, ``c`` (B, N, L), ``skip``, ``delta_bias`` (D,) -> (B, D, L).
    The order of the arguments is that of ``mamba_ssm``'s kernel.
    """
    delta = delta + delta_bias[:, None]
    if delta_softplus:
        delta = softplus(delta)
    if u.shape[2] == 2:
        return (_unrolled(u * delta, delta, a, b, c) + u * skip[:, None]) * silu(z)
    steps, inputs = delta.permute(2, 0, 1), u.permute(2, 0, 1)  # (L, B, D): a time step is one block of memory
    decay = (steps.unsqueeze(-1) * a).exp()  # (L, B, D, N)
    drive = (steps * inputs).unsqueeze(-1) * b.permute(2, 0, 1).unsqueeze(2)  # (L, B, D, N)
    states: Tensor = _Recurrence.apply(decay, drive)
    y = (states @ c.permute(2, 0, 1).unsqueeze(-1)).squeeze(-1)  # (L, B, D)
    return (y + inputs * skip).permute(1, 2, 0) * silu(z)


def _unrolled(drive: Tensor, delta: Tensor, a: Tensor, b: Tensor, c: Tensor) -> Tensor:
    """The recurrence over two steps, written out: no state is kept, only its product with c.

    y_0 = drive_0 (b_0 . c_0); y_1 = drive_0 sum_n exp(delta_1 a_n) b_0n c_1n + drive_1 (b_1 . c_1).
    """
    y = drive * (b * c).sum(1, keepdim=True)  # (B, D, 2)
    decay = (delta[..., 1, None] * a).exp()  # (B, D, N)
    past = drive[..., 0] * (decay @ (b[..., 0] * c[..., 1]).unsqueeze(-1)).squeeze(-1)  # (B, D)
    return y + torch.stack([torch.zeros_like(past), past], dim=2)


class _Recurrence(Function):
    """h_t = decay_t h_{t-1} + drive_t from h_{-1} = 0, over the first axis, with its own adjoint recurrence.

    Left to autograd, every step would keep its operands and write a gradient of the whole sequence.
    """

    @staticmethod
    def forward(ctx: FunctionCtx, decay: Tensor, drive: Tensor) -> Tensor:
        states = drive.clone()
        for t in range(1, len(states)):
            states[t].addcmul_(decay[t], states[t - 1])
        ctx.save_for_backward(decay, states)
        return states

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, Tensor]:  # noqa: ANN401
        decay, states = ctx.saved_tensors
        drive = gradient.clone()  # by the time step t is read it holds all that flows into h_t
        for t in range(len(drive) - 2, -1, -1):
            drive[t].addcmul_(decay[t + 1], drive[t + 1])
        of_decay = torch.zeros_like(drive)
        torch.mul(drive[1:], states[:-1], out=of_decay[1:])
        return of_decay, drive


@cache
def _kernel() -> Callable[..., Tensor] | None:
    """``mamba_ssm``'s CUDA scan; None where it is not installed."""
    try:
        from mamba_ssm.ops.selective_scan_interface import selective_scan_fn
    except ImportError:
        return None
    scan: Callable[..., Tensor] = selective_scan_fn
    return scan
