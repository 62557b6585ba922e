"""The published ablations: which parts of a method are on in each row, as served and as released.

A row is a recipe with some values set. It is trained in both builds on the same features, split and epochs: ``lone``
codes never see a label, ``oracle`` codes are told the true ones of every query and database item, as published.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from model.errors import RecipeError
from model.evaluation.ablation import Mode
from model.training.recipe import DEFAULT_BACKBONE, Recipe, load_recipe


@dataclass(frozen=True, slots=True)
class Ablation:
    """A method's rows, in the order of the paper's table."""

    lone: str  # recipe of the served build
    oracle: str  # recipe of the build as released
    parts: Mapping[str, tuple[tuple[str, ...], tuple[str, ...]]]  # -> keys of [config] that it switches: lone, oracle
    rows: Mapping[str, tuple[str, ...]]  # name -> the parts that are on
    budget: tuple[tuple[str, ...], tuple[str, ...]]  # values of few epochs: lone, oracle
    caption: str

    def recipes(self, row: str, overrides: Sequence[str]) -> Iterator[tuple[Mode, Recipe]]:
        """What a row is measured in, and the training of each; ``overrides`` are values of both builds.

        Raises:
            RecipeError: one of them is not a value of both builds.
        """
        lone, oracle = (
            [f"backbone={DEFAULT_BACKBONE}", *self.budget[build], *overrides, *self._switches(row, build)]
            for build in range(2)
        )
        published = load_recipe(self.oracle, oracle)
        yield Mode.LONE, load_recipe(self.lone, lone)
        yield Mode.ORACLE, published
        if row == FULL:
            yield Mode.OTHER, published
            yield Mode.FUSED, load_recipe(self.oracle, [*oracle, "config.prompts=none"])

    def _switches(self, row: str, build: int) -> list[str]:
        on = self.rows[row]
        return [
            f"config.{key}={'true' if part in on else 'false'}"
            for part, keys in self.parts.items()
            for key in keys[build]
        ]


ABLATIONS = {
    "prompthash": Ablation(
        lone="prompthash",
        oracle="prompthash-published",
        parts={  # what the labels tell the released prompt, the served one has to predict
            "taap": (("taap", "predicted_prompt"), ("taap",)),
            "agsf": (("agsf",), ("agsf",)),
            "pacl": (("pacl",), ("pacl",)),
        },
        rows={
            "baseline": (),
            "TAAP only": ("taap",),
            "AGSF only": ("agsf",),
            "no AGSF": ("taap", "pacl"),
            "no PACL": ("taap", "agsf"),
            "full": ("taap", "agsf", "pacl"),
        },
        budget=(("optimiser.batch=64",), ()),
        caption="PromptHash-style re-implementation on {data}; not a reproduction; parts reconstructed from forks "
        "(TriPAH, PGHMH)",
    ),
}
FULL = "full"  # the row that is also measured in the modes between oracle and lone


def ablation_of(method: str) -> Ablation:
    """The ablation of a method.

    Raises:
        RecipeError: it has none.
    """
    if method not in ABLATIONS:
        raise RecipeError(f"expected a method with a published ablation ({', '.join(ABLATIONS)}), found {method!r}")
    return ABLATIONS[method]
