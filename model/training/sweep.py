"""Hyper-parameter search: settings of a recipe, tried on the validation queries; test queries are never read.

Settings are points of a scrambled Halton sequence (Halton 1960; Owen, "A randomized Halton algorithm", 2017) over the
recipe's space: even coverage in any number of dimensions, and the n-th point is the same whoever asks, so a sweep that
was interrupted goes on, and one of more trials has the trials of a smaller one.
"""

import hashlib
import json
import tempfile
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from importlib.resources import files
from math import exp, log
from pathlib import Path
from typing import Any

from scipy.stats import qmc

from model.durable import replacing
from model.errors import RecipeError, TrainingDiverged
from model.items import ItemArchive
from model.training.pipeline import Prepared
from model.training.recipe import Recipe, parse_recipe
from model.training.run import EpochReport, new_network, train
from model.training.validation import ValidationScore

VALIDATIONS = 5  # in a trial; the last epoch is one
TABLES = ("config", "optimiser")  # that a space may set: what else is in a recipe decides the rows and the judge
GIVEN = ("config.bits", "optimiser.epochs")  # by the sweep, to every trial


@dataclass(frozen=True, slots=True)
class Range:
    """Numbers from ``low`` to ``high``, evenly, or evenly in their logarithms."""

    low: float
    high: float
    log: bool = False

    def at(self, share: float) -> float:
        """The number at a share in [0, 1) of the way, to three significant digits."""
        if self.log:
            return float(f"{exp(log(self.low) + share * (log(self.high) - log(self.low))):.3g}")
        return float(f"{self.low + share * (self.high - self.low):.3g}")


@dataclass(frozen=True, slots=True)
class Choices:
    """Some values, each as likely."""

    values: Sequence[Any]  # Any: what a recipe holds

    def at(self, share: float) -> Any:  # noqa: ANN401  a recipe holds values of every TOML type
        """The value at a share in [0, 1) of the way."""
        return self.values[int(share * len(self.values))]


Space = Mapping[str, Range | Choices]  # dotted key of a recipe -> what is tried


@dataclass(frozen=True, slots=True)
class Trial:
    """One training of one setting, and its best epoch on the validation queries."""

    values: Mapping[str, Any]  # dotted key -> value; empty: the recipe itself
    seed: int
    epochs: int
    seen: float  # mAP@all, mean of both directions, against the training rows
    unseen: float  # against the other validation rows


def read_space(recipe: Recipe, path: Path | None = None) -> Space:
    """The shipped space of a recipe, or the one in a TOML file of the same form: under its name or else its method's.

    Raises:
        RecipeError: there is none, or it is not of that form.
    """
    source = path or Path(str(files("model.training") / "spaces.toml"))
    try:
        spaces = tomllib.loads(source.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise RecipeError(f"{source} is not a TOML file of spaces: {error}") from error
    named = next((name for name in (recipe.name, recipe.method) if name in spaces), None)
    if named is None:
        listed = ", ".join(spaces)
        raise RecipeError(
            f"{source.name}: expected a space for one of {listed}, found {recipe.name!r} of method {recipe.method!r}"
        )
    space = spaces[named]
    if not isinstance(space, dict) or not space:
        raise RecipeError(f"{source.name}, {named}: expected a table of keys and what to try for each, found {space!r}")
    return {key: _dimension(key, value) for key, value in space.items()}


def _dimension(key: str, value: Any) -> Range | Choices:  # noqa: ANN401  from TOML
    if key.partition(".")[0] not in TABLES or "." not in key:
        raise RecipeError(f"space: expected keys of {' and '.join(TABLES)}, such as optimiser.rate, found {key!r}")
    if key in GIVEN:
        raise RecipeError(f"space: expected no {key}, which a sweep sets itself; give --bits or --epochs, or --set")
    if isinstance(value, list) and value:
        return Choices(value)
    if not isinstance(value, dict) or not {"low", "high"} <= value.keys() <= {"low", "high", "log"}:
        raise RecipeError(f"space, {key}: expected a list of values or low, high and log = true, found {value!r}")
    if (
        any(type(value[end]) not in (int, float) for end in ("low", "high"))
        or type(value.get("log", False)) is not bool
    ):
        raise RecipeError(f"space, {key}: expected numbers for low and high and true or false for log, found {value!r}")
    found = Range(**value)
    if not found.low < found.high or (found.log and found.low <= 0):
        raise RecipeError(f"space, {key}: expected low < high, above 0 if log, found {found.low} and {found.high}")
    return found


def settings_of(space: Space, count: int) -> Iterator[Mapping[str, Any]]:
    """The recipe itself, and then ``count - 1`` points of its space."""
    yield {}
    if count > 1:
        points = qmc.Halton(len(space), scramble=True, rng=0).random(count - 1)
        for point in points:
            yield {key: side.at(float(share)) for (key, side), share in zip(space.items(), point, strict=True)}


def trial_recipe(recipe: Recipe, values: Mapping[str, Any], seed: int, epochs: int, bits: int) -> Recipe:
    """The recipe with a trial's values, seed and epochs, at the trial's length alone.

    Raises:
        RecipeError: a value is not one of the recipe, or it is solved in closed form, without epochs to try.
    """
    if recipe.closed_form:
        raise RecipeError(f"expected a recipe that is trained epoch by epoch, found {recipe.method}, a closed form")
    raw: dict[str, Any] = tomllib.loads(recipe.to_toml())
    for key, value in values.items():
        table, _, name = key.partition(".")
        raw[table][name] = value
    raw["seed"], raw["config"]["bits"], raw["selection"]["bits"] = seed, [bits], bits
    raw["optimiser"]["epochs"], raw["selection"]["every"] = epochs, max(1, epochs // VALIDATIONS)
    return parse_recipe(raw)


class TrialLog:
    """The finished trials of a recipe on a data set: lines of JSON, a key and a trial, that are only ever added to."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._known: dict[str, Trial] = {}
        if path.is_file():
            for line in path.read_text(encoding="utf-8").splitlines():
                with suppress(json.JSONDecodeError):  # an empty line, or one that a kill has cut
                    of, trial = json.loads(line)
                    self._known[of] = Trial(**trial)

    def find(self, of: str) -> Trial | None:
        """The trial that was kept under this key."""
        return self._known.get(of)

    def add(self, of: str, trial: Trial) -> None:
        """Keep a trial."""
        self._path.parent.mkdir(parents=True, exist_ok=True)
        with self._path.open("a", encoding="utf-8") as file:
            file.write("\n" + json.dumps([of, asdict(trial)], sort_keys=True))
        self._known[of] = trial


@dataclass(frozen=True, slots=True)
class Sweep:
    """Runs trials of one recipe on prepared rows, each once."""

    recipe: Recipe
    bits: int
    archive: ItemArchive
    ready: Prepared
    log: TrialLog

    def trial(self, values: Mapping[str, Any], seed: int, epochs: int) -> Trial:
        """A trial that was run before, or is now; its score is 0 where the loss is not finite.

        Raises:
            RecipeError: a value is not one of the recipe.
        """
        recipe, info = trial_recipe(self.recipe, values, seed, epochs, self.bits), self.archive.info
        decisive = json.dumps([recipe.to_toml(), info.name, info.revision, info.split_hash, self.ready.fingerprint])
        of = hashlib.sha256(decisive.encode()).hexdigest()[:24]
        found = self.log.find(of)
        if found is None:
            found = self._run(recipe, values)
            self.log.add(of, found)
        return found

    def _run(self, recipe: Recipe, values: Mapping[str, Any]) -> Trial:
        best = ValidationScore(0.0, 0.0)

        def watch(report: EpochReport) -> None:
            nonlocal best
            if report.validation is not None:
                best = max(best, report.validation, key=lambda score: score.mean)

        with tempfile.TemporaryDirectory() as folder:
            try:
                train(
                    recipe,
                    Path(folder),
                    new_network(recipe, self.ready.backbone, self.archive.info.class_names),
                    self.ready.train,
                    self.ready.validation,
                    identity={},
                    device=self.ready.backbone.device,
                    report=watch,
                )
            except TrainingDiverged:
                best = ValidationScore(0.0, 0.0)
        return Trial(values, recipe.seed, recipe.optimiser.epochs, round(best.seen, 6), round(best.unseen, 6))


@dataclass(frozen=True, slots=True)
class Setting:
    """A setting's trials of the most epochs that it had, one a seed."""

    values: Mapping[str, Any]
    trials: Sequence[Trial]

    @property
    def seen(self) -> float:
        """Mean of the seeds."""
        return sum(trial.seen for trial in self.trials) / len(self.trials)

    @property
    def unseen(self) -> float:
        """Mean of the seeds."""
        return sum(trial.unseen for trial in self.trials) / len(self.trials)

    @property
    def score(self) -> float:
        """What is maximised: the mean of both databases, as for an epoch."""
        return (self.seen + self.unseen) / 2


def ranking(trials: Sequence[Trial]) -> list[Setting]:
    """Settings, the best first; finalists before others, whose scores are of fewer epochs or of a lucky seed."""
    settings: dict[str, dict[tuple[int, int], Trial]] = {}
    for trial in trials:
        settings.setdefault(json.dumps(trial.values, sort_keys=True), {})[trial.epochs, trial.seed] = trial
    found = []
    for members in settings.values():
        longest = max(epochs for epochs, _ in members)
        kept = [trial for (epochs, _), trial in members.items() if epochs == longest]
        found.append(Setting(kept[0].values, kept))
    return sorted(found, key=lambda one: (one.trials[0].epochs, len(one.trials), one.score), reverse=True)


def write_trials(path: Path, ranked: Sequence[Setting]) -> None:
    """Replace the list of a sweep's trials, a line each, the best setting first."""
    lines = [json.dumps(asdict(trial), sort_keys=True) for setting in ranked for trial in setting.trials]
    with replacing(path) as temporary:
        temporary.write_text("[\n" + ",\n".join(lines) + "\n]\n", encoding="utf-8")
