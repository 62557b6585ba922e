"""Methods that can be trained: those that are served, and those as released, which no service can reach.

A method as released is told the labels when it encodes; its artifact is for ``crossbit evaluate --oracle`` alone.
"""

from importlib import import_module
from types import ModuleType
from typing import TYPE_CHECKING

from model.errors import RecipeError
from model.evaluation.published import PUBLISHED
from model.registry import METHODS, method_module

if TYPE_CHECKING:
    from model.methods.protocol import Fit


def trained_module(name: str) -> ModuleType:
    """The module of a method, as ``model/methods/protocol.py`` describes it.

    Raises:
        RecipeError: no such method; the message lists those that exist.
    """
    if name in PUBLISHED:
        return import_module(PUBLISHED[name])
    if name not in METHODS:
        raise RecipeError(f"method: expected one of {', '.join(sorted([*METHODS, *PUBLISHED]))}, found {name!r}")
    return method_module(name)


def closed_form(name: str) -> "Fit | None":
    """The ``fit`` of a method that is solved in closed form; None for one that is trained by its ``Objective``.

    Raises:
        RecipeError: no such method.
    """
    return getattr(trained_module(name), "fit", None)
