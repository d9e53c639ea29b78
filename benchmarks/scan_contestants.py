"""Selective scans as one would write them in plain torch, for bench_scan.py to compare with."""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from sleepmami.models.selective_scan import ScanInputs

Scan = Callable[[ScanInputs], Tensor]


def looping(inputs: ScanInputs) -> Tensor:
    """A loop over `unbind`, time first and contiguous: the fastest loop that autograd follows."""
    u, delta, B, C, z, A_NI, skip, bias = inputs
    step_BLI = F.softplus(delta + bias)
    drive_LBI = (step_BLI * u).transpose(0, 1).contiguous()
    step_LBI = step_BLI.transpose(0, 1).contiguous()
    B_LBN, C_LBN = (t.transpose(0, 1).contiguous() for t in (B, C))
    h_BNI = u.new_zeros(len(u), *A_NI.shape)
    rows = []
    tensors = (t.unbind(0) for t in (step_LBI, drive_LBI, B_LBN, C_LBN))
    for step_BI, drive_BI, B_BN, C_BN in zip(*tensors, strict=True):
        decay_BNI = torch.exp(step_BI.unsqueeze(1) * A_NI)
        h_BNI = torch.addcmul(drive_BI.unsqueeze(1) * B_BN.unsqueeze(2), decay_BNI, h_BNI)
        rows.append((C_BN.unsqueeze(1) @ h_BNI).squeeze(1))
    return (torch.stack(rows, 1) + u * skip) * F.silu(z)


def naive(inputs: ScanInputs) -> Tensor:
    """Indexing `x[:, t]`: the backward pass makes a gradient of full length for every step."""
    u, delta, B, C, z, A_NI, skip, bias = inputs
    step_BLI = F.softplus(delta + bias)
    h_BNI = u.new_zeros(len(u), *A_NI.shape)
    rows = []
    for t in range(u.shape[1]):
        decay_BNI = torch.exp(step_BLI[:, t, None] * A_NI)
        drive_BI = step_BLI[:, t] * u[:, t]
        h_BNI = decay_BNI * h_BNI + drive_BI[:, None] * B[:, t, :, None]
        rows.append((h_BNI * C[:, t, :, None]).sum(1))
    return (torch.stack(rows, 1) + u * skip) * F.silu(z)
