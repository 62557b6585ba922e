"""Methods that are served, by name. Adding one is a file in ``model/methods`` and a line here."""

from importlib import import_module
from types import ModuleType

from model.errors import RecipeError

METHODS = {
    "baseline": "model.methods.baseline",
    "baseline-pair": "model.methods.baseline_pair",
    "cmcl-global": "model.methods.cmcl",
    "cmhh-loss": "model.methods.cmhh",
    "crossbit": "model.methods.crossbit",
    "dchmt": "model.methods.dchmt",
    "dcmh-loss": "model.methods.dcmh",
    "dhaph": "model.methods.dhaph",
    "dnph": "model.methods.dnph",
    "dsph": "model.methods.dsph",
    "itq": "model.methods.itq",
    "lsh": "model.methods.lsh",
    "pghmh": "model.methods.pghmh",
    "prompthash": "model.methods.prompthash",
    "random": "model.methods.random_codes",
    "soda": "model.methods.soda",
}


def method_module(name: str) -> ModuleType:
    """The module of a method, as ``model/methods/protocol.py`` describes it.

    Raises:
        RecipeError: no such method; the message lists those that exist.
    """
    if name not in METHODS:
        raise RecipeError(f"method: expected one of {', '.join(sorted(METHODS))}, found {name!r}")
    return import_module(METHODS[name])
