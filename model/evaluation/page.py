"""Self-contained HTML pages: every value escaped, charts inline, nothing fetched from anywhere."""

from functools import cache
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup


@cache
def _environment() -> Environment:
    return Environment(
        loader=PackageLoader("model.evaluation", "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )


def render(template: str, **values: Any) -> str:  # noqa: ANN401  a template's own values
    """The page of a template in ``templates``."""
    return _environment().get_template(template).render(**values)


def chart(svg: str) -> Markup:
    """A chart of ``plots``, which escapes its own texts, as it stands."""
    return Markup(svg)  # noqa: S704  made by matplotlib
