"""A run's recipe: one TOML file parsed into frozen dataclasses; unknown or contradictory values are refused."""

import dataclasses
import json
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from importlib.resources import files
from pathlib import Path
from typing import Any, TypeVar, get_args, get_origin, get_type_hints

from model.errors import RecipeError
from model.training.methods import closed_form, trained_module

Parsed = TypeVar("Parsed")
DEFAULT_BACKBONE = "effnet-lite0+minilm"
ALGORITHMS = ("adamw", "bertadam")
TABLES = ("config", "optimiser", "selection")


@dataclass(frozen=True, slots=True)
class Optimiser:
    """Adam with linear warm-up and cosine decay to zero; ``model/training/optimiser.py`` describes the algorithms."""

    algorithm: str = "adamw"  # or bertadam
    rate: float = 3e-3  # peak
    weight_decay: float = 0.02
    beta1: float = 0.9
    beta2: float = 0.98
    epochs: int = 30
    batch: int = 256  # items
    warmup: float = 0.05  # share of all steps
    clip_norm: float = 5.0  # of the whole gradient, or of each tensor's with bertadam

    def __post_init__(self) -> None:
        if self.algorithm not in ALGORITHMS:
            raise ValueError(f"algorithm: expected one of {', '.join(ALGORITHMS)}, found {self.algorithm!r}")
        if self.epochs < 1 or self.batch < 2:
            raise ValueError(f"expected epochs >= 1 and batch >= 2, found {self.epochs} and {self.batch}")
        if self.rate <= 0 or self.clip_norm <= 0 or not 0 <= self.warmup < 1:
            raise ValueError(
                f"expected rate > 0, clip_norm > 0 and 0 <= warmup < 1, "
                f"found {self.rate}, {self.clip_norm} and {self.warmup}"
            )


@dataclass(frozen=True, slots=True)
class Selection:
    """Which epoch is kept: the best lone mAP of the validation queries."""

    bits: int = 64
    every: int = 1  # epochs between validations

    def __post_init__(self) -> None:
        if self.every < 1:
            raise ValueError(f"every: expected at least 1 epoch, found {self.every}")


@dataclass(frozen=True, slots=True)
class Recipe:
    """Everything that decides a run, beside the data set's content.

    A method that is solved in closed form reads neither ``optimiser`` nor ``selection``, and its file has neither.
    """

    name: str
    config: Any  # the method's own frozen Config; its class is known to the registry alone
    method: str = "baseline"
    backbone: str = DEFAULT_BACKBONE
    captions: str = ""  # caption variant; empty for the data set's headline variant
    seed: int = 0
    optimiser: Optimiser = field(default_factory=Optimiser)
    selection: Selection = field(default_factory=Selection)

    def __post_init__(self) -> None:
        if not self.closed_form and self.selection.bits not in self.config.bits:
            raise ValueError(
                f"selection.bits: expected one of method bits {self.config.bits}, found {self.selection.bits}"
            )

    @property
    def closed_form(self) -> bool:
        """Whether the method is solved instead of trained epoch by epoch."""
        return closed_form(self.method) is not None

    def to_toml(self) -> str:
        """The resolved recipe: every value written out, readable by ``load_recipe``."""
        plain = [f.name for f in dataclasses.fields(self) if f.name not in TABLES]
        lines = [f"{name} = {_toml(getattr(self, name))}" for name in plain]
        for name in TABLES[:1] if self.closed_form else TABLES:
            lines += ["", f"[{name}]"]
            lines += [f"{key} = {_toml(value)}" for key, value in dataclasses.asdict(getattr(self, name)).items()]
        return "\n".join(lines) + "\n"


def load_recipe(source: str, overrides: Sequence[str] = ()) -> Recipe:
    """Read a recipe from a path or by the name of a shipped one, then apply ``key=value`` overrides (dotted keys).

    Raises:
        RecipeError: no such recipe, or a key or value that is unknown, of the wrong type or contradictory.
    """
    path = Path(source)
    if path.suffix != ".toml":
        path = Path(str(files("model.training") / "recipes" / f"{source}.toml"))
    if not path.is_file():
        raise RecipeError(f"expected a .toml file or one of {', '.join(shipped_recipes())}, found {source!r}")
    try:
        raw = tomllib.loads(path.read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise RecipeError(f"{path} is not TOML: {error}") from error
    raw.setdefault("name", path.stem)
    for override in overrides:
        _override(raw, override)
    return parse_recipe(raw)


def parse_recipe(raw: Mapping[str, Any]) -> Recipe:
    """Check every key and type of a recipe's tables.

    Raises:
        RecipeError: names the key, what was expected and what was found.
    """
    method = raw.get("method", "baseline")
    superfluous = [name for name in TABLES[1:] if name in raw]
    if closed_form(method) is not None and superfluous:
        raise RecipeError(f"[{superfluous[0]}]: {method} is solved in closed form and has no such table; remove it")
    kinds = (trained_module(method).Config, Optimiser, Selection)
    parsed = {name: _parse(name, kind, raw.get(name, {})) for name, kind in zip(TABLES, kinds, strict=True)}
    return _parse("recipe", Recipe, {**raw, **parsed})


def shipped_recipes() -> list[str]:
    """Names of the recipes inside the package, sorted."""
    return sorted(path.stem for path in Path(str(files("model.training") / "recipes")).glob("*.toml"))


def _override(raw: dict[str, Any], override: str) -> None:
    key, equals, text = override.partition("=")
    if not equals or not key:
        raise RecipeError(f"--set: expected key=value, found {override!r}")
    try:
        value = tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        value = text  # a bare word is a string
    *tables, name = key.split(".")
    for table in tables:
        raw = raw.setdefault(table, {})
        if not isinstance(raw, dict):
            raise RecipeError(f"--set {override}: {table!r} is a value, not a table")
    raw[name] = value


def _parse(where: str, kind: type[Parsed], raw: Mapping[str, Any]) -> Parsed:
    if not isinstance(raw, Mapping):
        raise RecipeError(f"[{where}]: expected a table, found {raw!r}")
    hints = get_type_hints(kind)
    unknown = sorted(raw.keys() - hints.keys())
    if unknown:
        raise RecipeError(f"[{where}]: unknown {', '.join(unknown)}; known: {', '.join(hints)}")
    values = {key: _convert(f"{where}.{key}", hints[key], value) for key, value in raw.items()}
    try:
        return kind(**values)
    except (TypeError, ValueError) as error:
        raise RecipeError(f"[{where}] {error}") from error


def _convert(where: str, hint: Any, value: Any) -> Any:  # noqa: ANN401  a recipe holds values of every TOML type
    if get_origin(hint) is tuple and isinstance(value, list):
        return tuple(_convert(where, get_args(hint)[0], entry) for entry in value)
    if hint is float and type(value) is int:
        return float(value)
    if hint in (int, float, str, bool) and type(value) is not hint:
        raise RecipeError(f"{where}: expected {hint.__name__}, found {value!r}")
    return value


def _toml(value: Any) -> str:  # noqa: ANN401  a recipe holds values of every TOML type
    return json.dumps(list(value) if isinstance(value, tuple) else value)
