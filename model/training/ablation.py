"""Ablations: which parts of a method are on in each row, as served and as released.

A row is a recipe with some values set. It is trained in both builds on the same features, split and epochs: ``served``
codes never see a label, ``oracle`` codes are told the true ones of every query and database item, as published. A part
that the release does not have, or a method without a release, is ablated as served alone.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from model.errors import RecipeError
from model.evaluation.ablation import FULL, Mode
from model.training.recipe import DEFAULT_BACKBONE, Recipe, load_recipe

Values = tuple[str, ...]  # key=value of a recipe


@dataclass(frozen=True, slots=True)
class Row:
    """What a row sets in each build."""

    served: Values
    released: Values | None = None  # None: the release has no such row


@dataclass(frozen=True, slots=True)
class Ablation:
    """A method's rows, in the order of the table."""

    served: str  # recipe of the served build
    released: str | None  # recipe of the build as released, where there is one
    rows: Mapping[str, Row]
    caption: str
    budget: Values = ()  # values of the served build in few epochs

    def recipes(self, row: str, overrides: Sequence[str]) -> Iterator[tuple[Mode, Recipe]]:
        """What a row is measured in, and the training of each; ``overrides`` are values of both builds.

        Raises:
            RecipeError: one of them is not a value of both builds.
        """
        values, shared = self.rows[row], [f"backbone={DEFAULT_BACKBONE}", *overrides]
        served = load_recipe(self.served, [*self.budget, *shared, *values.served])
        if self.released is None or values.released is None:
            yield Mode.SERVED, served
            return
        released = load_recipe(self.released, [*shared, *values.released])
        yield Mode.SERVED, served
        yield Mode.ORACLE, released
        if row == FULL:
            yield Mode.OTHER, released
            yield Mode.FUSED, load_recipe(self.released, [*shared, *values.released, "config.prompts=none"])


def _parts(*on: str) -> Row:
    """A row of the published ablation of PromptHash: what labels tell the released prompt, the served one predicts."""
    known = {part: f"{str(part in on).lower()}" for part in ("taap", "agsf", "pacl")}
    values = tuple(f"config.{part}={value}" for part, value in known.items())
    return Row((*values, f"config.predicted_prompt={known['taap']}"), values)


def _likelihood(*values: str) -> Row:
    """A row of SODA by its specification's likelihood: what its variants change does not show beside the contrast."""
    return Row(("config.contrast=0", "config.w_x=1", "config.w_n=0.1", *values))


ABLATIONS = {
    "prompthash": Ablation(
        served="prompthash",
        released="prompthash-published",
        rows={
            "baseline": _parts(),
            "TAAP only": _parts("taap"),
            "AGSF only": _parts("agsf"),
            "no AGSF": _parts("taap", "pacl"),
            "no PACL": _parts("taap", "agsf"),
            FULL: _parts("taap", "agsf", "pacl"),
        },
        budget=("optimiser.batch=64",),
        caption="PromptHash-style re-implementation on {data}; not a reproduction; parts reconstructed from forks "
        "(TriPAH, PGHMH)",
    ),
    "pghmh": Ablation(
        served="pghmh",
        released="pghmh-published",
        rows={
            "LF-lite": Row(("config.predicted_anchors=false", "config.token_attention=false")),
            "bank without u": Row(("config.sample_token=false",)),
            "u without bank": Row(("config.class_bank=false",)),
            "F as released": Row(("config.token_attention=false",)),
            "shuffled names": Row(("config.shuffled_names=true",)),
            "gate of sides": Row(("config.item_gate=true",)),
            "no contrast on codes": Row(("config.contrast=0",)),
            FULL: Row((), ()),
        },
        caption="PGHMH-style re-implementation on {data}; not a reproduction; rows are those of its label-free form, "
        "which no paper has",
    ),
    "soda": Ablation(
        served="soda",
        released=None,
        rows={
            "no label teacher": Row(("config.teacher=false",)),
            "no Gap": Row(("config.w_g=0",)),
            "no Q": Row(("config.w_q=0",)),
            "likelihood, no contrast": _likelihood(),
            "likelihood, theta half": _likelihood("config.theta=half"),
            "likelihood, theta cos": _likelihood("config.theta=cos"),
            "likelihood of Jaccard": _likelihood("config.similarity=jaccard"),
            "bare labels": Row(("config.label_prompt=bare",)),
            "prompt per class": Row(("config.label_prompt=per_class",)),
            "image head learns on": Row(("config.image_rate=1",)),
            "label head shared with text": Row(("config.shared_label_head=true",)),
            FULL: Row(()),
        },
        caption="SODA-style re-implementation on {data}; not a reproduction: the paper's formulas are not known",
    ),
    "crossbit": Ablation(
        served="crossbit",
        released=None,
        rows={
            "no guesses in the target": Row(("config.guessed=0",)),
            "no guessed classes": Row(("config.guessed=0", "config.odds=false")),
            "guesses without the row alone": Row(("config.served_guesses=0",)),
            "500 landmarks": Row(("config.landmarks=500",)),
            "labels not in the target": Row(("config.guessed=1",)),
            "no contrast within a modality": Row(("config.within=0",)),
            "no quantisation": Row(("config.quantisation=0",)),
            "no auxiliary code": Row(("config.auxiliary_bits=0",)),
            FULL: Row(()),
        },
        caption="Our own method on {data}; a row changes one part",
    ),
}


def ablation_of(method: str) -> Ablation:
    """The ablation of a method.

    Raises:
        RecipeError: it has none.
    """
    if method not in ABLATIONS:
        raise RecipeError(f"expected a method with an ablation ({', '.join(ABLATIONS)}), found {method!r}")
    return ABLATIONS[method]
