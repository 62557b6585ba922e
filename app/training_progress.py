"""What a person sees while a model trains: a bar for the features and one for the epochs, or plain lines in a pipe."""

import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Protocol

from app.meter import Meter
from app.show import LINE_EVERY_S, note


class Watcher(Protocol):
    """Told of progress by whoever trains."""

    def features(self, done: int, total: int) -> None:
        """So many items have passed the towers."""

    def advance(self, epochs: float) -> None:
        """So many epochs are done, in steps of a batch."""

    def epoch(self, number: int, losses: Mapping[str, float], items_per_s: float, validation: float | None) -> None:
        """An epoch is over: mean losses, speed, and validation mAP where it was measured."""


@contextmanager
def watch_training(epochs: int) -> Iterator[Watcher]:
    """Bars with losses, rate and remaining time on a terminal, a line now and then elsewhere; 0 epochs have no bar."""
    if sys.stderr.isatty():
        with _bars(epochs) as watcher:
            yield watcher
    else:
        yield _Lines(epochs)


@contextmanager
def _bars(epochs: int) -> Iterator[Watcher]:
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    facts = TextColumn("{task.fields[facts]}")
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn(), facts)
    with Progress(*columns, console=Console(stderr=True)) as bar:
        features = bar.add_task("features", total=None, facts="")
        training = bar.add_task("epochs", total=epochs, facts="", visible=epochs > 0)

        class Bars:
            def features(self, done: int, total: int) -> None:
                bar.update(features, completed=done, total=total)

            def advance(self, epochs: float) -> None:
                bar.update(training, completed=epochs)

            def epoch(
                self, number: int, losses: Mapping[str, float], items_per_s: float, validation: float | None
            ) -> None:
                bar.update(training, completed=number, facts=_facts(losses, items_per_s, validation))

        yield Bars()


class Silent:
    """A watcher that says nothing."""

    def features(self, done: int, total: int) -> None:
        """Nothing."""

    def advance(self, epochs: float) -> None:
        """Nothing."""

    def epoch(self, number: int, losses: Mapping[str, float], items_per_s: float, validation: float | None) -> None:
        """Nothing."""


class _Lines:
    def __init__(self, epochs: int) -> None:
        self._epochs = epochs
        self._training: Meter | None = None
        self._last = Meter(0)

    def features(self, done: int, total: int) -> None:
        if done == total or self._last.elapsed_s >= LINE_EVERY_S:
            self._last = Meter(0)
            note(f"features: {done:,} of {total:,}")

    def advance(self, epochs: float) -> None:
        if epochs > 0 and self._last.elapsed_s >= LINE_EVERY_S:
            self._last = Meter(0)
            note(f"epoch {epochs:.1f} of {self._epochs}")

    def epoch(self, number: int, losses: Mapping[str, float], items_per_s: float, validation: float | None) -> None:
        self._training = self._training or Meter(self._epochs, done=number)
        self._training.done = number
        if number == self._epochs or self._last.elapsed_s >= LINE_EVERY_S:
            self._last = Meter(0)
            left = "" if self._training.eta_s is None else f", {self._training.eta_s:.0f} s left"
            note(f"epoch {number} of {self._epochs}{left}: {_facts(losses, items_per_s, validation)}")


def _facts(losses: Mapping[str, float], items_per_s: float, validation: float | None) -> str:
    parts = [f"{name} {value:.4f}" for name, value in sorted(losses.items())]
    score = [] if validation is None else [f"validation mAP {validation:.3f}"]
    return ", ".join([*parts, *score, f"{items_per_s:,.0f} items/s"])
