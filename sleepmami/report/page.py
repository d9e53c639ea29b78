"""A template and pictures as one HTML page that loads nothing from elsewhere."""

from __future__ import annotations

import base64
import io

from jinja2 import Environment, PackageLoader, StrictUndefined
from matplotlib.figure import Figure


def page(template: str, **values: object) -> str:
    """A template of this package, filled in; a value that it lacks is an error."""
    environment = Environment(
        loader=PackageLoader("sleepmami.report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template(template).render(**values)


def data_uri(figure: Figure) -> str:
    """The picture as a PNG inside the page."""
    png = io.BytesIO()
    figure.savefig(png, format="png", dpi=160)
    return "data:image/png;base64," + base64.b64encode(png.getvalue()).decode()
