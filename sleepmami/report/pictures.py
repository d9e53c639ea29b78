"""Pictures of a page: each drawn for a light and for a dark screen, with words that say the same.

Figures are made without pyplot, which would keep global state. Colours are Okabe and Ito's or
viridis, which the colour-blind can tell apart, and never the only difference: shapes, dashes or
texts say it as well. Print is always light.
"""

from __future__ import annotations

import base64
import io
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from matplotlib import rc_context
from matplotlib.figure import Figure
from PIL import Image

from sleepmami.psg import Stage

DPI = 160
CSS_PX_PER_IN = 96
PANEL_IN = 4.5  # width of what lies beside others on a wide screen and fills a telephone
BROAD_IN = 6.0  # width of what needs a row of its own
NUM_SERIES = 7
NUM_COLOURS = 255


@dataclass(frozen=True, kw_only=True, slots=True)
class Theme:
    """Colours on one background.

    Attributes:
        page: the background.
        ink: axes and text.
        soft: grids, and what is not known.
        bad: what is wrong.
        series: of models, in their order; markers and dashes go with them.
        stages: of sleep stages.
    """

    page: str
    ink: str
    soft: str
    bad: str
    series: tuple[str, ...]
    stages: Mapping[Stage, str]

    @contextmanager
    def applied(self) -> Iterator[None]:
        """Matplotlib's own parts in these colours, while a figure is made and written."""
        ink, page = self.ink, self.page
        settings: Any = dict.fromkeys(  # Any: matplotlib's type lists each name
            ("text.color", "axes.labelcolor", "axes.titlecolor", "xtick.color", "ytick.color"), ink
        )
        settings |= dict.fromkeys(("figure.facecolor", "axes.facecolor", "savefig.facecolor"), page)
        settings |= {
            "axes.edgecolor": ink,
            "axes.spines.right": False,
            "axes.spines.top": False,
            "axes.titlesize": 9.5,
            "font.size": 9,
            "grid.color": self.soft,
            "grid.linewidth": 0.5,
            "legend.frameon": False,
            "legend.fontsize": 8.5,
            "text.parse_math": False,  # a dollar in a name is a dollar
        }
        with rc_context(settings):
            yield


LIGHT = Theme(
    page="#FFFFFF",
    ink="#1D2329",
    soft="#B4BCC4",
    bad="#B3261E",
    series=("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#8A6D00", "#3B8EC2", "#555B61"),
    stages={
        Stage.WAKE: "#E69F00",
        Stage.REM: "#D55E00",
        Stage.N1: "#56B4E9",
        Stage.N2: "#0072B2",
        Stage.N3: "#332288",
        Stage.UNKNOWN: "#BBBBBB",
    },
)
DARK = Theme(
    page="#1D2328",
    ink="#E6E9EC",
    soft="#57626C",
    bad="#FF8A80",
    series=("#56B4E9", "#F0803C", "#2EC49A", "#E3A1C7", "#F0E442", "#9CC9F0", "#B8BFC6"),
    stages={
        Stage.WAKE: "#E69F00",
        Stage.REM: "#F0703A",
        Stage.N1: "#8FD0F5",
        Stage.N2: "#2E8BC0",
        Stage.N3: "#9A8FE0",
        Stage.UNKNOWN: "#7A858F",
    },
)
MARKERS = ("o", "s", "^", "D", "v", "P", "X")
DASHES = ("-", "--", "-.", ":", (0, (5, 1, 1, 1, 1, 1)), (0, (1, 2)), (0, (8, 2)))

Draw = Callable[[Theme], Figure]


@dataclass(frozen=True, kw_only=True, slots=True)
class Picture:
    """One picture of a page, and the words for those who do not see it.

    Attributes:
        name: of its file, without ending.
        alt: what it shows, with the finding.
        caption: how to read it.
        light: PNG on white, which is the one beside the page and in print.
        dark: PNG on a dark background.
        width_px: at which nothing in it is scaled.
    """

    name: str
    alt: str
    caption: str
    light: bytes
    dark: bytes
    width_px: int

    @property
    def light_uri(self) -> str:
        """The light PNG inside the page."""
        return data_uri(self.light)

    @property
    def dark_uri(self) -> str:
        """The dark PNG inside the page."""
        return data_uri(self.dark)


def picture(name: str, draw: Draw, *, alt: str, caption: str = "") -> Picture:
    """Draw a figure on both backgrounds."""
    pngs = []
    for theme in (LIGHT, DARK):
        with theme.applied():
            figure = draw(theme)
            pngs.append(png(figure))
    width_px = round(figure.get_figwidth() * CSS_PX_PER_IN)
    return Picture(
        name=name, alt=alt, caption=caption, light=pngs[0], dark=pngs[1], width_px=width_px
    )


def png(figure: Figure) -> bytes:
    """The figure as a PNG; the same figure gives the same bytes."""
    out = io.BytesIO()
    figure.savefig(out, format="png", dpi=DPI, metadata={"Software": None})
    few = io.BytesIO()
    # a palette takes a third of the bytes, and a page holds each picture twice
    Image.open(out).convert("RGB").quantize(NUM_COLOURS, dither=Image.Dither.NONE).save(
        few, format="png", optimize=True, dpi=(DPI, DPI)
    )
    return few.getvalue()


def data_uri(image: bytes) -> str:
    """A PNG as an address that holds it."""
    return "data:image/png;base64," + base64.b64encode(image).decode()
