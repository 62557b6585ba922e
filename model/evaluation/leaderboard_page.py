"""``leaderboard.html`` and its figures, from the rows and the differences."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from model.durable import replacing
from model.evaluation import plots
from model.evaluation.compare import TIMED
from model.evaluation.difference import DIFFERENCES, RESAMPLINGS, Difference
from model.evaluation.leaderboard import DRAWS, FILE, Row, headline_bits, ranked, write_rows
from model.evaluation.page import chart, render
from model.evaluation.pooling import POOLED
from model.evaluation.results import CROSS_MODAL

BENCHMARKS = {"MIRFLICKR": "flickr", "NUS-WIDE": "nus", "COCO": "coco"}  # and what names a data set of theirs
NONE = "-"
GREY = "#7a8088"  # readable on light and dark pages
DATABASES = {"all": "whole", "unseen": "unseen"}  # as tables call them
PANELS = {"whole database": "all", "unseen database": "unseen"}
PValues = Mapping[tuple[str, str, str, str], float]  # (data, captions, method, the next) -> p


def leaderboard_page(rows: Sequence[Row], p_values: PValues, differences: Sequence[Difference] = ()) -> str:
    """HTML of all rows: a section for each data set, caption variant and protocol; controls apart."""
    keys = sorted({(row.data, row.captions, row.protocol) for row in rows if row.competes}, key=_section_order)
    return render(
        "leaderboard.html.j2",
        sections=[{**_section(rows, *key, p_values), "contests": _contests(differences, *key)} for key in keys],
        caveat=caveat(rows),
        timed=TIMED,
        draws=f"{DRAWS:,}",
        resamplings=f"{RESAMPLINGS:,}",
    )


def write_board(out: Path, rows: Sequence[Row], p_values: PValues, differences: Sequence[Difference]) -> None:
    """Replace ``leaderboard.json``, ``.html`` and ``.svg``, ``time.svg`` and ``differences.json``.

    The pictures are the first figures of the page: mAP by code length, and by seconds of training.

    A p that an earlier page showed between two methods is gone where they were not compared together now.
    """
    write_rows(out / FILE, rows)
    write_rows(out / DIFFERENCES, differences)
    page = leaderboard_page(rows, p_values, differences)
    for name, text in (
        ("leaderboard.html", page),
        ("leaderboard.svg", _picture(rows, _figure)),
        ("time.svg", _picture(rows, _time_figure)),
    ):
        with replacing(out / name) as temporary:
            temporary.write_text(text, encoding="utf-8")


def board_table(rows: Sequence[Row]) -> tuple[list[str], list[list[str]]]:
    """Headings and rows for the command line: cross-modal figures and those of pairs, best first in each group."""
    crossing = [row for row in rows if row.direction in CROSS_MODAL or row.protocol == "paired"]
    crossing.sort(key=lambda row: (row.protocol, row.bits, row.direction, row.database, -row.map_expected_mean))
    headings = ["protocol", "bits", "direction", "database", "method", "mAP", "seeds"]
    cells = [
        [row.protocol, str(row.bits), row.direction, row.database, row.method, _figures([row]), str(row.seeds)]
        for row in crossing
    ]
    return headings, cells


def difference_table(differences: Sequence[Difference]) -> tuple[list[str], list[list[str]]]:
    """Headings and rows of one reference's differences, in points of mAP; the method that is most above it first."""
    lengths = sorted({bits for one in differences for bits in one.by_length}, key=int)
    headings = ["method", "database", f"points above {differences[0].reference}", "95 % interval", "verdict"]
    headings += [*(f"{bits} bits" for bits in lengths), "by seed", "seeds", "queries", "direction"]
    cells = [
        [
            one.method,
            DATABASES[one.database],
            _points(one.mean),
            f"{_points(one.lower)} to {_points(one.upper)}",
            one.verdict,
            *(_interval(one.by_length.get(bits)) for bits in lengths),
            ", ".join(map(_points, one.by_seed)),
            str(one.seeds),
            f"{one.queries:,}",
            one.contest,
        ]
        for contest in dict.fromkeys(one.contest for one in differences)
        for one in _by_level([one for one in differences if one.contest == contest])
    ]
    return headings, cells


def _picture(rows: Sequence[Row], figure: Callable[[Sequence[Row], str, str], str]) -> str:
    keys = sorted({(row.data, row.captions, row.protocol) for row in rows if row.competes}, key=_section_order)
    return plots.coloured(figure(rows, *keys[0][:2]) if keys else plots.spreads({}), GREY)


def caveat(rows: Sequence[Row]) -> str:
    """What the ranks do not say."""
    names = sorted({name for row in rows for name in row.data.split(POOLED)})
    unrun = [title for title, part in BENCHMARKS.items() if not any(part in name for name in names)]
    elsewhere = f" Ranks here are not ranks on {_listed(unrun)}, where nothing was run." if unrun else ""
    towers = "Towers: the default ones (EfficientNet-Lite0 and MiniLM), frozen, not CLIP."
    return f"Data: {', '.join(names)}. {towers}{elsewhere}"


def _section(rows: Sequence[Row], data: str, captions: str, protocol: str, p_values: PValues) -> dict[str, Any]:
    here = [row for row in rows if (row.data, row.captions) == (data, captions)]
    mine = [row for row in here if row.protocol == protocol and row.competes]
    controls = [row for row in here if not row.competes]
    lengths = sorted({row.bits for row in mine})
    headline = headline_bits(lengths)
    order = [method for method in ranked(here, headline) if any(row.method == method for row in mine)]
    following = [*order[1:], ""]
    return {
        "data": data,
        "captions": captions,
        "protocol": protocol,
        "lengths": lengths,
        "sorted_at": headline,
        "leading": " and ".join(_leading(mine)),
        "figures": [chart(draw(rows, data, captions)) for draw in (_figure, _time_figure) if protocol == "lone"],
        "lines": [
            {
                "method": method,
                "cells": _cells(mine, method, lengths),
                **_costs([row for row in mine if row.method == method], headline),
                "p": _p(p_values.get((data, captions, method, after))) if protocol == "lone" else NONE,
            }
            for method, after in zip(order, following, strict=True)
        ],
        "details": [
            {"method": method, "direction": direction, "database": database, "cells": cells}
            for method in order
            for direction in sorted({row.direction for row in mine})
            for database in ("all", "unseen")
            if any(cells := [_figures(_pick(mine, method, database, bits, (direction,))) for bits in lengths])
        ],
        "controls": [
            {"method": method, "cells": _cells(controls, method, lengths)}
            for method in sorted({row.method for row in controls})
            if protocol == "lone"
        ],
        "control_protocol": ", ".join(sorted({row.protocol for row in controls})),
    }


def _contests(differences: Sequence[Difference], data: str, captions: str, protocol: str) -> list[dict[str, Any]]:
    """What the page shows of each reference."""
    here = [one for one in differences if (one.data, one.captions, one.protocol) == (data, captions, protocol)]
    contests = []
    for reference, contest in dict.fromkeys((one.reference, one.contest) for one in here):
        mine = [one for one in here if (one.reference, one.contest) == (reference, contest)]
        headings, cells = difference_table(mine)
        ranges = {
            f"{one.method}, {DATABASES[one.database]}": (100 * one.lower, 100 * one.mean, 100 * one.upper)
            for one in _by_level(mine)
        }
        contests.append(
            {
                "reference": reference,
                "headings": headings,
                "lines": cells,
                "figure": chart(plots.brackets(ranges, x=f"points of mAP above {reference}", level=0)),
                "directions": contest,
            }
        )
    return contests


def _by_level(differences: Sequence[Difference]) -> list[Difference]:
    level = {one.method: one.mean for one in differences if one.database == "all"}
    return sorted(differences, key=lambda one: (-level.get(one.method, 0.0), one.method, one.database))


def _interval(values: Sequence[float] | None) -> str:
    """A mean and its ends."""
    return NONE if values is None else "{} ({} to {})".format(*map(_points, values))


def _points(share: float) -> str:
    return f"{100 * share:+.2f}"


def _cells(rows: Sequence[Row], method: str, lengths: Sequence[int]) -> list[tuple[str, str]]:
    whole, unseen = (
        [_figures(_pick(rows, method, database, bits, _leading(rows))) or NONE for bits in lengths]
        for database in ("all", "unseen")
    )
    return list(zip(whole, unseen, strict=True))


def _leading(rows: Sequence[Row]) -> tuple[str, ...]:
    """The directions whose mean stands in front: both cross-modal ones, or pair_to_pair; other masks stand apart."""
    found = {row.direction for row in rows}
    return tuple(one for one in CROSS_MODAL if one in found) or tuple(sorted(found & {"pair_to_pair"} or found))


def _pick(rows: Sequence[Row], method: str, database: str, bits: int, directions: Sequence[str]) -> list[Row]:
    return [
        row
        for row in rows
        if (row.method, row.database, row.bits) == (method, database, bits) and row.direction in directions
    ]


def _figures(rows: Sequence[Row]) -> str:
    """Mean over directions, with the mean of their deviations."""
    if not rows:
        return ""
    mean = f"{np.mean([row.map_expected_mean for row in rows]):.3f}"
    deviations = [row.map_expected_std for row in rows if row.map_expected_std is not None]
    return f"{mean} ± {np.mean(deviations):.3f}" if deviations else mean


def _costs(rows: Sequence[Row], bits: int) -> dict[str, str]:
    at = [row for row in rows if row.bits == bits] or list(rows)
    return {
        "seeds": str(max(row.seeds for row in rows)),
        "trials": NONE if at[0].trials is None else str(at[0].trials),
        "train_s": f"{at[0].train_s:,.1f}" if at[0].train_s >= 1 else f"{at[0].train_s:.2g}",
        "encode_per_s": f"{at[0].encode_per_s:,.0f}",
        "code_bytes": " / ".join(str(length // 8) for length in sorted({row.bits for row in rows})),
    }


def _lone(rows: Sequence[Row], data: str, captions: str) -> list[Row]:
    """What figures show: floors, which have nothing to choose, only where there is nothing else."""
    here = [row for row in rows if (row.data, row.captions, row.protocol) == (data, captions, "lone") and row.competes]
    return [row for row in here if row.trials != 0] or here


def _figure(rows: Sequence[Row], data: str, captions: str) -> str:
    here = _lone(rows, data, captions)
    order = ranked(here, headline_bits([row.bits for row in here]))
    panels: dict[str, dict[str, tuple[list[int], list[float], list[float]]]] = {}
    for title, database in PANELS.items():
        panels[title] = {}
        for method in order:
            lengths = sorted({row.bits for row in here if (row.method, row.database) == (method, database)})
            picked = [_pick(here, method, database, bits, CROSS_MODAL) for bits in lengths]
            means, deviations = zip(*map(_mean, picked), strict=True) if picked else ((), ())
            panels[title][method] = (lengths, list(means), list(deviations))
    return plots.spreads(panels)


def _time_figure(rows: Sequence[Row], data: str, captions: str) -> str:
    """Seconds of training, and mAP at the length that ranks."""
    here = _lone(rows, data, captions)
    bits = headline_bits([row.bits for row in here])
    panels: dict[str, dict[str, tuple[float, float, float]]] = {}
    for title, database in PANELS.items():
        picked = {method: _pick(here, method, database, bits, CROSS_MODAL) for method in ranked(here, bits)}
        panels[title] = {method: (part[0].train_s, *_mean(part)) for method, part in picked.items() if part}
    return plots.places(panels, x="training, s", y=f"lone mAP@all, {bits} bits")


def _mean(rows: Sequence[Row]) -> tuple[float, float]:
    """Of directions, with the mean of their deviations; 0 for one seed."""
    mean = np.mean([row.map_expected_mean for row in rows])
    return float(mean), float(np.mean([row.map_expected_std or 0.0 for row in rows]))


def _p(value: float | None) -> str:
    if value is None:
        return NONE
    return "< 0.001" if value < 1e-3 else f"{value:.3f}"


def _listed(names: Sequence[str]) -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} or {names[-1]}"


def _section_order(key: tuple[str, str, str]) -> tuple[str, str, str]:
    data, captions, protocol = key
    return (
        "" if POOLED in data else data,
        "" if captions == "title" else captions,
        "" if protocol == "lone" else protocol,
    )
