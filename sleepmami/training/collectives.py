"""What workers exchange besides gradients; the identity where there is no process group."""

from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from sleepmami.errors import TrainingError


def num_workers() -> int:
    """Size of the process group, 1 without one."""
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


def rank() -> int:
    """This worker's place in the process group, 0 without one."""
    return dist.get_rank() if dist.is_available() and dist.is_initialized() else 0


def sum_over_workers(values: Tensor) -> Tensor:
    """Element-wise sum over the workers, without gradient; a new tensor on every worker."""
    total = values.detach().clone()
    if num_workers() > 1:
        dist.all_reduce(total)
    return total


def mean_over_workers(values: Tensor) -> Tensor:
    """Element-wise mean over the workers, without gradient."""
    return sum_over_workers(values) / num_workers()


def max_over_workers(values: Tensor) -> Tensor:
    """Element-wise maximum over the workers, without gradient; a new tensor on every worker."""
    highest = values.detach().clone()
    if num_workers() > 1:
        dist.all_reduce(highest, op=dist.ReduceOp.MAX)
    return highest


def all_true(flag: bool, device: torch.device | str = "cpu") -> bool:
    """Whether `flag` holds on every worker; the answer is the same on all of them."""
    if num_workers() == 1:
        return flag
    verdict = torch.tensor(int(flag), device=device)
    dist.all_reduce(verdict, op=dist.ReduceOp.MIN)
    return bool(verdict.item())


def gather_rows(rows: Tensor, dim: int = 0) -> Tensor:
    """Concatenate every worker's `rows` along `dim` in rank order; gradients flow to their owner.

    Every worker must hold as many rows, and every worker must compute the *same* loss from the
    result. The engine averages parameter gradients over the workers; the backward pass multiplies
    a worker's own slice by the number of workers, so that average is the gradient of the one
    global loss. No communication happens in the backward pass.

    Raises:
        TrainingError: on every worker, when the shapes differ between workers.
    """
    if num_workers() == 1:
        return rows
    _require_same_shape(rows)
    if rows.dtype == torch.bool:  # gloo carries no booleans
        return gather_rows(rows.to(torch.uint8), dim).bool()
    gathered: Tensor = _GatherRows.apply(rows, dim)  # type: ignore[no-untyped-call]  # torch's own
    return gathered


def _require_same_shape(rows: Tensor) -> None:
    shape = torch.tensor(rows.shape, device=rows.device)
    extremes = torch.stack([shape, -shape])
    dist.all_reduce(extremes, op=dist.ReduceOp.MAX)
    highest, lowest = extremes[0].tolist(), (-extremes[1]).tolist()
    if lowest != highest:
        raise TrainingError(
            f"workers hold different numbers of rows: found shapes from {lowest} to {highest}, "
            f"expected the same on all {num_workers()} workers"
        )


class _GatherRows(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, rows: Tensor, dim: int) -> Tensor:  # Any: torch gives contexts no type
        rows = rows.contiguous()
        pieces = [torch.empty_like(rows) for _ in range(num_workers())]
        dist.all_gather(pieces, rows)
        ctx.dim, ctx.length = dim, rows.shape[dim]
        return torch.cat(pieces, dim)

    @staticmethod
    def backward(ctx: Any, grad_output: Tensor) -> tuple[Tensor, None]:
        own = grad_output.narrow(ctx.dim, rank() * ctx.length, ctx.length)
        return own * num_workers(), None
