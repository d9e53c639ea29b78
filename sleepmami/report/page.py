"""A template of this package as one HTML page that loads nothing from elsewhere."""

from __future__ import annotations

from jinja2 import Environment, PackageLoader, StrictUndefined


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
