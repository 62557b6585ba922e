"""How many settings were tried on validation queries before a shipped recipe was frozen: what its chances were."""

import tomllib
from importlib.resources import files


def trials_of(recipe: str) -> int | None:
    """The settings tried, that of the recipe counted; None where nobody counted them."""
    counts: dict[str, int] = tomllib.loads(files("model.training").joinpath("trials.toml").read_text(encoding="utf-8"))
    return counts.get(recipe)
