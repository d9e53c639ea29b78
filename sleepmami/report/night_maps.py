"""Maps of night vectors: a plane of two numbers per night, a panel for each thing known of nights.

Figs. 6 and 10. Shapes: N nights.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Literal

import numpy as np
from matplotlib.axes import Axes
from matplotlib.collections import PathCollection
from matplotlib.figure import Figure
from numpy.typing import NDArray

from sleepmami.errors import ConfigError
from sleepmami.report.figures import principal_components
from sleepmami.report.pictures import PANEL_IN, Picture, Theme, picture

MapKind = Literal["pca", "umap"]
MIN_UMAP_NIGHTS = 4  # fewer have no neighbourhood
UMAP_NEIGHBOURS = 15
SEXES = ((1, "female", 1, "o"), (0, "male", 0, "^"))  # code, name, number of its colour, shape


@dataclass(frozen=True, kw_only=True, slots=True)
class NightPeople:
    """What is known of N nights; NaN where it is not.

    Attributes:
        age_years: of each night.
        bmi: in kg/m^2.
        female: 1 or 0.
    """

    age_years: NDArray[np.float64]
    bmi: NDArray[np.float64]
    female: NDArray[np.float64]


@dataclass(frozen=True, kw_only=True, slots=True)
class Plane:
    """Where nights lie.

    Attributes:
        xy: [N, 2].
        axes: what the two are called, with the variance that they explain.
        explained: share of the variance in both; NaN where the way has no such number.
    """

    xy: NDArray[np.float32]
    axes: tuple[str, str]
    explained: float


def plane(vectors: NDArray[np.float32], kind: MapKind = "pca") -> Plane:
    """Night vectors [N, width], scaled to length 1 here, on two axes.

    Raises:
        ConfigError: UMAP is asked for and not installed, or of fewer than MIN_UMAP_NIGHTS nights.
    """
    length = np.linalg.norm(vectors, axis=1, keepdims=True)
    unit = vectors / np.maximum(length, 1e-12)
    if kind == "umap":
        return Plane(xy=_umap(unit), axes=("UMAP 1", "UMAP 2"), explained=float("nan"))
    xy, share = principal_components(unit, np.ones(len(unit), bool), 2)
    names = (f"PC1 ({share[0]:.0%} of the variance)", f"PC2 ({share[1]:.0%})")
    return Plane(xy=xy, axes=names, explained=float(share.sum()))


def _umap(unit: NDArray[np.float32]) -> NDArray[np.float32]:
    try:
        from umap import UMAP
    except ModuleNotFoundError as error:
        raise ConfigError(
            f"map=umap: found no {error.name}; this needs: pip install 'sleepmami[umap]', or take "
            "map=pca"
        ) from error
    if len(unit) < MIN_UMAP_NIGHTS:
        raise ConfigError(
            f"map=umap: found {len(unit)} nights; expected {MIN_UMAP_NIGHTS} or more, or map=pca"
        )
    # one thread and a fixed state: the same nights lie in the same places
    model = UMAP(n_neighbors=min(UMAP_NEIGHBOURS, len(unit) - 1), random_state=0, n_jobs=1)
    return np.asarray(model.fit_transform(unit), np.float32)


def map_pictures(where: Plane, people: NightPeople, prefix: str) -> list[Picture]:
    """Panels by age, sex and BMI."""
    age, sex, bmi = map_findings(where, people)
    num = len(where.xy)
    return [
        picture(
            f"{prefix}_age",
            partial(quantity_map, where, people.age_years, "age (years)"),
            alt=f"Map of {num} nights coloured by age. {age}",
        ),
        picture(
            f"{prefix}_sex",
            partial(sex_map, where, people.female),
            alt=f"Map of {num} nights, circles for women and triangles for men. {sex}",
        ),
        picture(
            f"{prefix}_bmi",
            partial(quantity_map, where, people.bmi, "BMI (kg/m\u00b2)"),
            alt=f"Map of {num} nights coloured by BMI. {bmi}",
        ),
    ]


def map_findings(where: Plane, people: NightPeople) -> tuple[str, str, str]:
    """What the plane says of age, sex and BMI, a sentence each."""
    return (
        _strongest(where, people.age_years, "Age"),
        _sex_finding(where, people.female),
        _strongest(where, people.bmi, "BMI"),
    )


def quantity_map(where: Plane, values: NDArray[np.float64], title: str, theme: Theme) -> Figure:
    """Points by a number in viridis; unknown ones are grey crosses, and lie below the others."""
    figure, axes = _empty(where, title)
    known = _known(axes, where, values, theme)
    if len(known):
        low, high = np.percentile(values[known], [2, 98])
        x, y = where.xy[known].T
        points = axes.scatter(
            x,
            y,
            c=values[known],
            s=_size(where),
            cmap="viridis",
            vmin=low,
            vmax=high,
            edgecolors=theme.ink,
            linewidths=0.2,
        )
        figure.colorbar(points, ax=axes, shrink=0.85)
    return figure


def sex_map(where: Plane, female: NDArray[np.float64], theme: Theme) -> Figure:
    """Each sex in a colour and a shape of its own, for whoever sees no colours."""
    figure, axes = _empty(where, "sex")
    known = _known(axes, where, female, theme)
    for code, name, colour, marker in SEXES:
        x, y = where.xy[known][female[known] == code].T
        axes.scatter(
            x,
            y,
            _size(where),
            color=theme.series[colour],
            marker=marker,
            alpha=0.75,
            linewidths=0,
            label=name,
        )
    legend = axes.legend(loc="best")
    for handle in legend.legend_handles:
        if isinstance(handle, PathCollection):
            handle.set_sizes([30.0])  # points may be too small to tell their shapes
    return figure


def _empty(where: Plane, title: str) -> tuple[Figure, Axes]:
    figure = Figure(figsize=(PANEL_IN, 3.5), layout="constrained")
    axes = figure.subplots()
    axes.set_title(title)
    axes.set_xlabel(where.axes[0])
    axes.set_ylabel(where.axes[1])
    return figure, axes


def _known(
    axes: Axes, where: Plane, values: NDArray[np.float64], theme: Theme
) -> NDArray[np.int64]:
    """Draw the unknown; the others in an order in which no group hides another."""
    unknown = np.isnan(values)
    label = "unknown" if unknown.any() else None
    x, y = where.xy[unknown].T
    axes.scatter(
        x,
        y,
        s=_size(where),
        color=theme.soft,
        marker="x",
        label=label,
        linewidths=1,
    )
    shuffled = np.random.default_rng(0).permutation(len(values))
    return shuffled[~unknown[shuffled]]


def _size(where: Plane) -> float:
    return float(np.clip(400 / np.sqrt(len(where.xy)), 5, 30))


def _strongest(where: Plane, values: NDArray[np.float64], what: str) -> str:
    """Which axis goes with a number, in words."""
    known = np.isfinite(values)
    if known.sum() < 3:
        return f"{what} is known of too few nights."
    found = [_correlation(where.xy[known, axis], values[known]) for axis in (0, 1)]
    axis = int(np.argmax(np.abs(found)))
    name = where.axes[axis].partition(" (")[0]
    text = f"{found[axis]:.2f}".replace("-", "\u2212")
    return f"{what} goes with {name} most, at a correlation of {text}."


def _correlation(one: NDArray[np.float32], other: NDArray[np.float64]) -> float:
    if np.ptp(one) == 0 or np.ptp(other) == 0:
        return 0.0
    return float(np.corrcoef(one, other)[0, 1])


def _sex_finding(where: Plane, female: NDArray[np.float64]) -> str:
    known = np.isfinite(female)
    counts: Sequence[int] = [int((female == code).sum()) for code, *_ in SEXES]
    if min(counts) == 0:
        return f"There are {counts[0]} women and {counts[1]} men."
    spread = where.xy[known].std(0)
    apart = where.xy[female == 1].mean(0) - where.xy[female == 0].mean(0)
    ratio = float(np.max(np.abs(apart) / np.maximum(spread, 1e-12)))
    return (
        f"The centres of {counts[0]} women and {counts[1]} men lie {ratio:.1f} standard deviations "
        "apart."
    )
