"""The smallest objective that trains: a line through points; also what a spawned worker runs."""

from collections.abc import Iterator
from typing import NamedTuple

import torch
from torch import Tensor, nn

from sleepmami.training.engine import Objective


class ToyBatch(NamedTuple):
    x_BD: Tensor
    y_B: Tensor

    @property
    def num_rows(self) -> int:
        return len(self.y_B)

    @property
    def row_name(self) -> str:
        return "points"

    def to(self, device: torch.device) -> "ToyBatch":
        return ToyBatch(*(part.to(device) for part in self))


class ToyObjective(Objective):
    """Mean squared error of a two-layer net; counts the steps the engine tells it of."""

    def __init__(self, seed: int = 0) -> None:
        super().__init__()
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            self.net = nn.Sequential(nn.Linear(3, 8), nn.Tanh(), nn.Linear(8, 1))
        self.register_buffer("num_steps", torch.zeros((), dtype=torch.long))

    def forward(
        self, batch: ToyBatch, step: int, micro_batch: int = 0
    ) -> tuple[Tensor, dict[str, Tensor]]:
        loss = (self.net(batch.x_BD)[:, 0] - batch.y_B).square().mean()
        nothing = torch.tensor(float("nan"))
        return loss, {"loss/total": loss.detach(), "loss/nothing": nothing}

    def after_step(self) -> None:
        self.num_steps += 1


def toy_batch(seed: int, num_rows: int = 16) -> ToyBatch:
    generator = torch.Generator().manual_seed(seed)
    x_BD = torch.randn(num_rows, 3, generator=generator)
    return ToyBatch(x_BD, x_BD @ torch.tensor([1.0, -2.0, 0.5]))


def toy_steps(start: int, accumulation: int = 1) -> Iterator[list[ToyBatch]]:
    step = start
    while True:
        yield [toy_batch(step * accumulation + index) for index in range(accumulation)]
        step += 1
