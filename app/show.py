"""What the command line shows: tables and progress for people, plain lines for pipes, one JSON object with --json."""

import json
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import typer

from app.jobs import Skipped
from app.meter import Meter

if TYPE_CHECKING:
    from rich.progress import Progress

LINE_EVERY_S = 5.0  # between two progress lines where there is no terminal
LISTED_SKIPPED = 20


def show_json(value: object) -> None:
    """One JSON object on standard output, with sorted keys."""
    typer.echo(json.dumps(value, indent=2, sort_keys=True, ensure_ascii=False))


def show_table(columns: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """A table on a terminal, tab-separated lines with a heading elsewhere."""
    lines = [[str(cell) for cell in row] for row in rows]
    if not sys.stdout.isatty():
        for line in [list(columns), *lines]:
            typer.echo("\t".join(" ".join(cell.split()) for cell in line))
        return
    from rich.console import Console
    from rich.table import Table

    table = Table(*columns, header_style="bold", box=None)
    for line in lines:
        table.add_row(*(cell.replace("[", r"\[") for cell in line))
    Console().print(table)


def show_entry(entry: dict[str, Any], *, as_json: bool) -> None:  # Any: JSON
    """One thing's facts: an object, or a table of fields."""
    if as_json:
        show_json(entry)
    else:
        show_table(["field", "value"], sorted(_flat(entry)))


def show_entries(what: str, entries: list[dict[str, Any]], *, as_json: bool) -> None:  # Any: JSON
    """Several things, one a row; a line where there are none."""
    if as_json:
        show_json({what: entries})
    elif entries:
        show_table(list(entries[0]), [list(entry.values()) for entry in entries])
    else:
        note(f"no {what} yet")


def show_hits(hits: Sequence[Mapping[str, Any]]) -> None:  # Any: JSON
    """Hits of a search, one a row; those of the pair column with what their codes were made from."""
    columns = ["rank", "distance", "id", "text"]
    rows = [[hit["rank"], hit["distance"], hit["id"], hit["text"] or ""] for hit in hits]
    if any("presence" in hit for hit in hits):
        columns.append("made from")
        for row, hit in zip(rows, hits, strict=True):
            row.append(" + ".join(part for part, has in hit.get("presence", {}).items() if has))
    show_table(columns, rows)


def note(text: str) -> None:
    """A line on standard error, so that standard output stays for results."""
    typer.echo(text, err=True)


def note_skipped(skipped: Sequence[Skipped], total: int | None = None) -> None:
    """List items that were left out, with the reasons; ``total`` where only the first of them are given."""
    for one in skipped[:LISTED_SKIPPED]:
        note(f"skipped {one.id}: {one.reason}")
    more = (len(skipped) if total is None else total) - LISTED_SKIPPED
    if more > 0:
        note(f"skipped {more:,} more")


def note_truncated(tokens: int) -> None:
    """Say that texts were longer than what the model reads, if any was."""
    if tokens:
        note(f"{tokens:,} tokens of text did not reach the encoder; shorten what is longer than it reads")


def data_progress() -> "Progress":
    """Rich's own progress, for work that takes one; silent where there is no terminal."""
    from rich.console import Console
    from rich.progress import Progress

    return Progress(console=Console(stderr=True), disable=not sys.stderr.isatty())


@contextmanager
def progress(what: str, total: int | None) -> Iterator[Callable[[int], None]]:
    """Gives a function that counts items as done: a bar on a terminal, a line every few seconds elsewhere.

    ``total`` is None where nobody knows it.
    """
    if sys.stderr.isatty():
        with _bar(what, total) as advance:
            yield advance
    else:
        yield _lines(what, total)


@contextmanager
def _bar(what: str, total: int | None) -> Iterator[Callable[[int], None]]:
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    speed = TextColumn("{task.fields[rate]}")
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), speed, TimeRemainingColumn())
    meter = Meter(total)
    with Progress(*columns, console=Console(stderr=True)) as bar:
        task = bar.add_task(what, total=total, rate="")

        def advance(count: int) -> None:
            meter.add(count)
            bar.update(task, advance=count, rate=_speed(meter))

        yield advance


def _lines(what: str, total: int | None) -> Callable[[int], None]:
    meter, last = Meter(total), Meter(total)

    def advance(count: int) -> None:
        nonlocal last
        meter.add(count)
        if meter.done == total or last.elapsed_s >= LINE_EVERY_S:
            last = Meter(total)
            left = "" if meter.eta_s is None else f", {meter.eta_s:.0f} s left"
            whole = "" if total is None else f" of {total:,}"
            note(f"{what}: {meter.done:,}{whole}, {_speed(meter)}{left}")

    return advance


def _speed(meter: Meter) -> str:
    return "" if meter.rate is None else f"{meter.rate:,.1f}/s"


def _flat(entry: dict[str, Any], prefix: str = "") -> Iterator[tuple[str, str]]:  # Any: JSON
    """Leaves of nested tables under dotted names, rounded for reading."""
    for name, value in entry.items():
        if isinstance(value, dict):
            yield from _flat(value, f"{prefix}{name}.")
        elif isinstance(value, list):
            yield f"{prefix}{name}", ", ".join(map(str, value))
        else:
            yield f"{prefix}{name}", f"{value:.4g}" if isinstance(value, float) else str(value)
