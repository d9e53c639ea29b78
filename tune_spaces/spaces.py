"""Which settings a sweep changes, within which bounds and why; and what it may be judged by."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from sleepmami.errors import ConfigError

Overrides = dict[str, Any]  # a dotted name of a config -> a JSON value


@dataclass(frozen=True, kw_only=True, slots=True)
class Range:
    """A number between two bounds, drawn evenly, or evenly in its logarithm."""

    name: str
    low: float
    high: float
    log: bool
    why: str

    def holds(self, value: Any) -> bool:  # Any: a setting's value
        """Whether the value lies within the bounds."""
        return isinstance(value, float) and self.low <= value <= self.high

    def at(self, share: float) -> float:
        """The value at a share, 0..1, of the way from `low` to `high`."""
        if not self.log:
            return self.low + share * (self.high - self.low)
        value = self.low * math.exp(share * math.log(self.high / self.low))
        return min(max(value, self.low), self.high)  # rounding leads a bit beyond

    def grid(self, levels: int) -> list[Any]:
        """So many values, bounds included, at even distances."""
        return [self.at(step / (levels - 1)) for step in range(levels)]

    def draw(self, rng: np.random.Generator) -> float:
        """One value."""
        return self.at(float(rng.random()))


@dataclass(frozen=True, kw_only=True, slots=True)
class Choice:
    """One of a few values."""

    name: str
    options: tuple[Any, ...]  # Any: JSON values
    why: str

    def holds(self, value: Any) -> bool:  # Any: a setting's value
        """Whether the value is one of them."""
        return value in self.options

    def grid(self, levels: int) -> list[Any]:
        """All of them, whatever the number of levels of ranges."""
        return list(self.options)

    def draw(self, rng: np.random.Generator) -> Any:
        """One of them."""
        return self.options[int(rng.integers(len(self.options)))]


Space = tuple[Range | Choice, ...]

DGCL: Space = (
    Range(
        name="dgcl.rho",
        low=0.02,
        high=0.5,
        log=True,
        why="a temperature: what counts is its ratio, five times either way of Table 9's 0.1; "
        "cosines divided by less than 0.02 are one-hot, by more than 0.5 nearly even",
    ),
    Range(
        name="dgcl.v",
        low=0.1,
        high=2.5,
        log=True,
        why="a temperature too, five times either way of 0.5; distances of z-scores are about 1: "
        "below 0.1 one neighbour has all the weight, and above 2.5 all have the same",
    ),
    Range(
        name="dgcl.lambda_sex",
        low=0.0,
        high=3.0,
        log=False,
        why="added to a distance of about 1, and 0, no part for sex, is a value of interest",
    ),
)
LEARNING_RATE = Range(
    name="optimizer.learning_rate",
    low=1e-5,
    high=5e-3,
    log=True,
    why="optional: it trades against rho, which scales the gradient",
)
READS = Choice(
    name="dgcl.reads",
    options=("state", "running_mean"),
    why="optional: the paper's states, or means like the night vector, which the probes of a trial "
    "read; to be believed with several seeds only",
)
MICRO: Space = (
    Range(
        name="loss.tau",
        low=0.02,
        high=0.5,
        log=True,
        why="a temperature: its ratio counts; 0.07 is Appendix C's",
    ),
    Range(
        name="loss.lambda_cl",
        low=0.01,
        high=1.0,
        log=True,
        why="a weight between two losses: ten times either way of 0.1",
    ),
    Choice(
        name="masking.fast_run",
        options=(1, 2, 4),
        why="0.5, 1 and 2 s hidden at once; whole intervals of a segment, whole merged tokens",
    ),
    Choice(
        name="masking.slow_run",
        options=(2, 4, 6),
        why="1, 2 and 3 s: breathing and SpO2 change over seconds",
    ),
)

# Higher is better in all of them: a probe, or retrieval that a collapsed encoder cannot win.
OBJECTIVES = {
    "dgcl": (
        "validation/probe",
        "validation/age_r2",
        "validation/sex_auroc",
        "validation/stage_macro_f1",
    ),
    "micro": ("validation/contrast_accuracy_blocked", "validation/contrast_accuracy"),
}
_REFUSED = {
    "dgcl": "the lowest value the contrastive loss can take moves with dgcl.v and dgcl.lambda_sex, "
    "and what is left above it shrinks as v grows: the best setting would be the one that asks for "
    "nothing",
    "micro": "its lowest value moves with loss.tau, loss.lambda_cl and the masks: the best setting "
    "would be the one that asks for nothing",
}


def dgcl_space(factors: Sequence[str]) -> Space:
    """What of DGCL has an effect with these `dgcl.factors`.

    Without sex there is no penalty. With sex alone only lambda_sex / v counts, and v is searched.
    """
    penalty = "sex" in factors and len(factors) > 1
    return tuple(item for item in DGCL if penalty or item.name != "dgcl.lambda_sex")


def require_objective(stage: str, objective: str) -> str:
    """The metric's full name, `validation/` added where it is missing.

    Raises:
        ConfigError: a loss, whose values under two settings do not compare, or no metric.
    """
    allowed = OBJECTIVES[stage]
    for name in (objective, f"validation/{objective}"):
        if name in allowed:
            return name
    last = objective.rpartition("/")[2]
    losses = ("total", "dgcl", "floor", "excess", "reconstruction", "contrastive", "koleo")
    is_loss = objective.startswith("loss") or last.startswith((*losses, "dgcl_"))
    reason = f": {_REFUSED[stage]}" if is_loss else ""
    raise ConfigError(f"--objective {objective!r} found, expected one of {allowed}{reason}")


def default_point(space: Space, values: Mapping[str, Any]) -> Overrides:
    """Where the configuration itself lies in the space.

    Args:
        space: to lie in.
        values: of the configuration, by dotted name.

    Raises:
        ConfigError: it lies outside, so that the sweep could not be compared with it.
    """
    for item in space:
        value = values[item.name]
        if not item.holds(value):
            bounds = (
                f"{item.low:g}..{item.high:g}" if isinstance(item, Range) else f"{item.options}"
            )
            raise ConfigError(
                f"{item.name}={value!r} found in the configuration to start from, expected a value "
                f"in the space, {bounds}"
            )
    return {item.name: values[item.name] for item in space}


def random_points(space: Space, num: int, seed: int) -> list[Overrides]:
    """So many points, the same ones for a seed."""
    rng = np.random.default_rng(seed)
    return [{item.name: item.draw(rng) for item in space} for _ in range(num)]


def grid_points(space: Space, levels: int) -> list[Overrides]:
    """Every combination of the values of each axis."""
    points: list[Overrides] = [{}]
    for item in space:
        points = [point | {item.name: value} for point in points for value in item.grid(levels)]
    return points


def without(points: Sequence[Overrides], taken: Sequence[Overrides]) -> list[Overrides]:
    """The points that are not among `taken`, each once."""
    left: list[Overrides] = []
    for point in points:
        if point not in taken and point not in left:
            left.append(point)
    return left
