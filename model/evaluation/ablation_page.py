"""An ablation as Markdown tables and as a picture."""

from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np

from model.durable import replacing
from model.evaluation import plots
from model.evaluation.ablation import FULL, MODES, SHORT, Cell, Mode, write_cells
from model.evaluation.leaderboard import headline_bits
from model.evaluation.results import CROSS_MODAL

GREY = "#7a8088"  # readable on light and dark pages
COMPARED = (Mode.ORACLE, Mode.SERVED)
LEGEND = "P2P ranks pairs for a pair, I2P and T2P pairs for one side, I2T and T2I lone codes for lone codes"
DATABASES = {"whole": "whole database", "unseen": "unseen database"}
NONE = "-"


def write_ablation(out: Path, method: str, caption: str, cells: Sequence[Cell]) -> Path:
    """Replace ``ablation-METHOD.json``, ``.md`` and ``.svg`` in a folder -> the Markdown file."""
    write_cells(out / f"ablation-{method}.json", cells)
    page = out / f"ablation-{method}.md"
    texts = {page: ablation_markdown(method, caption, cells), out / f"ablation-{method}.svg": _picture(cells)}
    for path, text in texts.items():
        with replacing(path) as temporary:
            temporary.write_text(text, encoding="utf-8")
    return page


def ablation_markdown(method: str, caption: str, cells: Sequence[Cell]) -> str:
    """The rows as served and as released, then what the full method loses mode by mode."""
    epochs, trained = sorted({cell.epochs for cell in cells}), Counter((cell.row, cell.mode) for cell in cells)
    most, alike = max(trained.values(), default=0), len(set(trained.values())) == 1
    modes = _compared(cells)
    oracle = "`oracle` codes were told the true labels of what they encode and are no retrieval result; "
    parts = [
        f"# Ablation of `{method}`",
        f"{caption}. mAP@all, expected over ties, mean ± sample standard deviation over "
        f"{most if alike else f'up to {most}'} seeds, "
        f"{', '.join(map(str, epochs))} epochs. {oracle if Mode.ORACLE in modes else ''}`served` codes saw what the "
        f"direction names and nothing else. {LEGEND}.",
        f"![mAP of each row, {' and '.join(modes)}](ablation-{method}.svg)",
    ]
    for database, title in DATABASES.items():
        parts += [f"## Rows, {title}", _table(*ablation_table(cells, database))]
    if len({cell.mode for cell in cells}) > 1:
        parts += ["## What the full method was given", _table(*modes_table(cells))]
    return "\n\n".join(parts) + "\n"


def ablation_table(cells: Sequence[Cell], database: str) -> tuple[list[str], list[list[str]]]:
    """Headings and rows: direction and row, oracle and served figures side by side."""
    lengths = _lengths(cells)
    columns = [(mode, bits) for mode in _compared(cells) for bits in lengths]
    headings = ["direction", "row", *(f"{mode} {bits}" for mode, bits in columns)]
    rows = []
    for direction in _directions(cells):
        for row in dict.fromkeys(cell.row for cell in cells):
            found = [_figure(cells, row, mode, bits, (direction,), database) for mode, bits in columns]
            if any(one != NONE for one in found):
                rows.append([SHORT[direction], row, *found])
    return headings, rows


def modes_table(cells: Sequence[Cell]) -> tuple[list[str], list[list[str]]]:
    """Headings and rows: what the full method's encoder was given; the mean of I2T and T2I, pairs apart."""
    lengths = _lengths(cells)
    headings = ["given", "direction", *(f"{bits} bits, {database}" for bits in lengths for database in DATABASES)]
    rows = []
    for mode, what in MODES.items():
        for name, directions in _groups(cells).items():
            found = [_figure(cells, FULL, mode, bits, directions, base) for bits in lengths for base in DATABASES]
            if any(one != NONE for one in found):
                rows.append([what, name, *found])
    return headings, rows


def _figure(cells: Sequence[Cell], row: str, mode: Mode, bits: int, directions: tuple[str, ...], database: str) -> str:
    values = _values(cells, row, mode, bits, directions, database)
    if not values:
        return NONE
    spread = f" ± {np.std(values, ddof=1):.3f}" if len(values) > 1 else ""
    return f"{np.mean(values):.3f}{spread}"


def _values(
    cells: Sequence[Cell], row: str, mode: Mode, bits: int, directions: tuple[str, ...], database: str
) -> list[float]:
    """One for each seed that has the directions: their mean."""
    found = [
        [getattr(one, database) for one in cell.figures if one.bits == bits and one.direction in directions]
        for cell in cells
        if (cell.row, cell.mode) == (row, mode)
    ]
    return [float(np.mean(values)) for values in found if values]


def _picture(cells: Sequence[Cell]) -> str:
    bits = headline_bits(_lengths(cells))
    name, directions = next(iter(_groups(cells).items()))
    panels = {
        DATABASES[database]: {
            str(mode): {
                row: _values(cells, row, mode, bits, directions, database)
                for row in dict.fromkeys(cell.row for cell in cells)
            }
            for mode in _compared(cells)
        }
        for database in DATABASES
    }
    return plots.coloured(plots.rows_of_dots(panels, x=f"mAP@all at {bits} bits, {name}"), GREY)


def _compared(cells: Sequence[Cell]) -> list[Mode]:
    """Both builds, or the served one where nothing was measured as released."""
    found = {cell.mode for cell in cells}
    return [mode for mode in COMPARED if mode in found]


def _directions(cells: Sequence[Cell]) -> list[str]:
    found = {one.direction for cell in cells for one in cell.figures}
    return [direction for direction in SHORT if direction in found]


def _groups(cells: Sequence[Cell]) -> dict[str, tuple[str, ...]]:
    """Name -> directions whose mean is taken: of lone codes both, of pairs none, as they saw different things."""
    found = _directions(cells)
    groups: dict[str, tuple[str, ...]] = {SHORT[one]: (one,) for one in found if one not in CROSS_MODAL}
    if set(CROSS_MODAL) <= set(found):
        groups["mean of I2T and T2I"] = CROSS_MODAL
    return groups


def _lengths(cells: Iterable[Cell]) -> list[int]:
    return sorted({one.bits for cell in cells for one in cell.figures})


def _table(headings: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [headings, ["---"] * len(headings), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)
