"""``index.html`` of a report: what the figures say first, then tables, charts, diagnostics and contact sheets."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from model.durable import replacing
from model.evaluation import plots
from model.evaluation.diagnostics import MARGIN_BINS, MARGIN_RANGE, Diagnostics
from model.evaluation.figures import Figures
from model.evaluation.page import chart, render
from model.evaluation.report import Inspection, Report, report_files
from model.evaluation.results import CROSS_MODAL, Result, as_table

Side = Callable[[Result], Mapping[str, Figures]]


def write_report(report: Report, folder: Path) -> Path:
    """Write page, JSON and CSV files, each replaced in one step, the page last; its path is returned."""
    for name, text in {**report_files(report), "index.html": report_page(report)}.items():
        with replacing(folder / name) as temporary:
            temporary.write_text(text, encoding="utf-8")
    return folder / "index.html"


def report_page(report: Report) -> str:
    """Self-contained HTML."""
    headline = report.inspections[report.headline]
    protocols = list(dict.fromkeys(result.protocol for result in report.results))
    return render(
        "report.html.j2",
        report=report,
        headline=headline,
        verdicts=_verdicts(report, headline),
        cards=_cards(report, headline),
        tables=[
            {"protocol": protocol, "table": _table(report, protocol), "cutoffs": _cutoffs(report, protocol)}
            for protocol in protocols
        ],
        curves=[_curves(report, direction) for direction in _directions(report)],
        health=[line for one in report.inspections for line in _health(one)],
        looks=_looks(headline),
    )


def _verdicts(report: Report, headline: Inspection) -> list[tuple[str, str]]:
    """(kind of banner, sentence): every alarm, else the headline's checks, and what the control did."""
    alarms = [
        check.in_words(f"{modality} codes of {one.bits} bits, {one.captions} captions")
        for one in report.inspections
        for modality, check in one.leaks.items()
        if check.alarm
    ]
    if alarms:
        return [("alarm", alarm) for alarm in alarms]
    calm = [
        ("ok" if check.enough else "unsure", check.in_words(f"{modality} codes of {headline.bits} bits"))
        for modality, check in headline.leaks.items()
    ]
    control = report.control
    if control.enough:
        does = (
            "sets the alarm off" if control.alarm else "does NOT set the alarm off, so trust none of the verdicts above"
        )
        sentence = (
            f"Control: a coder that sees only the labels agrees on {control.agreement:.1%} of the bits and {does}."
        )
        calm.append(("unsure" if control.alarm else "alarm", sentence))
    return calm


def _cards(report: Report, headline: Inspection) -> list[tuple[str, str]]:
    """(figure, what it is) of the headline result."""
    result = next(one for one in report.results if (one.bits, one.captions) == (headline.bits, headline.captions))
    if not set(CROSS_MODAL) <= set(result.whole):
        return [(f"{one.map_all.expected:.3f}", f"mAP, {name}") for name, one in result.whole.items()]
    whole, unseen = result.mean
    first = result.whole[CROSS_MODAL[0]]
    cards = [(f"{whole:.3f}", f"mAP@all, {headline.bits} bits, whole database, mean of both directions")]
    if result.unseen:
        cards.append((f"{unseen:.3f}", "the same on the unseen database: items that were not trained on"))
    cards.append((f"{first.chance:.3f}", "chance: what random codes reach"))
    cards.append((f"{first.queries:,}", f"queries with a relevant item; {first.left_out:,} without one left out"))
    return cards


def _table(report: Report, protocol: str) -> tuple[list[str], list[list[str]]]:
    results = [result for result in report.results if result.protocol == protocol]
    headings, rows = as_table(sorted(results, key=lambda result: (result.captions != results[0].captions, result.bits)))
    return headings[1:], [row[1:] for row in rows]


def _cutoffs(report: Report, protocol: str) -> list[dict[str, Any]]:
    lines = []
    for result in report.results:
        if result.protocol != protocol:
            continue
        for direction in result.whole:
            sides = (("whole", result.whole), ("unseen", result.unseen))
            for database, figures in ((name, side[direction]) for name, side in sides if direction in side):
                start = [result.captions, str(result.bits), direction, database]
                for name in ("map_at", "precision_at", "recall_at", "ndcg_at"):
                    values = {k: f"{value:.3f}" for k, value in getattr(figures, name).items()}
                    lines.append({"start": [*start, name.replace("_at", "@K").replace("map", "mAP")], "values": values})
    cutoffs = sorted({k for line in lines for k in line["values"]})
    return [{"cutoffs": cutoffs, "lines": lines}] if lines else []


def _directions(report: Report) -> list[str]:
    found = list(dict.fromkeys(direction for result in report.results for direction in result.whole))
    return [one for one in CROSS_MODAL if one in found] or found


def _curves(report: Report, direction: str) -> dict[str, Any]:
    """Charts of one direction, under the headline's protocol and captions; a line for each length and database."""
    first = report.results[0]
    results = [one for one in report.results if (one.protocol, one.captions) == (first.protocol, first.captions)]
    named: dict[str, Figures] = {}
    for result in results:
        named[f"{result.bits} bits"] = result.whole[direction]
        if direction in result.unseen:
            named[f"{result.bits} bits, unseen"] = result.unseen[direction]
    chance = {"chance": next(iter(named.values())).chance}
    radius = {
        name: [step / (len(one.radius_precision) - 1) for step in range(len(one.radius_precision))]
        for name, one in named.items()
    }
    return {
        "direction": direction,
        "protocol": first.protocol,
        "captions": first.captions,
        "charts": [
            _figure(
                "Precision and recall",
                plots.lines(
                    {name: _points(one) for name, one in named.items()},
                    x="recall",
                    y="precision",
                    levels=chance,
                ),
                "Precision where the ranking first reaches each recall, mean over queries.",
            ),
            _figure(
                "Precision of the first N",
                plots.lines(
                    {name: (list(one.precision_at), list(one.precision_at.values())) for name, one in named.items()},
                    x="N",
                    y="precision",
                    log_x=True,
                    levels=chance,
                ),
                "Expected over the orders within ties.",
            ),
            _figure(
                "Precision by radius",
                plots.lines(
                    {name: (radius[name], one.radius_precision) for name, one in named.items()},
                    x="radius / bits",
                    y="precision",
                    levels=chance,
                ),
                "A query that finds nothing inside the radius counts as 0.",
            ),
            _figure(
                "Recall by radius",
                plots.lines(
                    {name: (radius[name], one.radius_recall) for name, one in named.items()},
                    x="radius / bits",
                    y="recall",
                ),
                "Share of the relevant items inside the radius.",
            ),
            _figure(
                "What ties are worth",
                plots.brackets(
                    {name: (one.map_all.worst, one.map_all.expected, one.map_all.best) for name, one in named.items()},
                    x="mAP@all",
                ),
                "mAP from the worst to the best order within ties; the dot is the expectation over all orders.",
            ),
        ],
    }


def _points(figures: Figures) -> plots.Line:
    recall, precision = zip(*figures.pr_curve, strict=True)
    return recall, precision


def _health(one: Inspection) -> list[list[str]]:
    lines = []
    for modality, found in one.codes.items():
        check = one.leaks.get(modality)
        verdict = "-" if check is None or not check.enough else f"{check.agreement:.1%} of {check.threshold:.1%}"
        lines.append(
            [
                str(one.bits),
                one.captions,
                modality.value,
                str(len(found.dead)),
                f"{found.effective_bits:.1f}",
                f"{found.off_diagonal.mean():.3f}",
                f"{found.distinct_ratio:.1%}",
                f"{found.collision_rate:.2e}",
                "-" if one.pairs is None else f"{one.pairs.agreement:.1%} ({one.pairs.shuffled:.1%})",
                verdict + (" ALARM" if check is not None and check.alarm else ""),
            ]
        )
    return lines


def _looks(one: Inspection) -> list[dict[str, Any]]:
    """Charts of the headline's codes."""
    sides = {modality.value: found for modality, found in one.codes.items()}
    largest = max(size for found in sides.values() for size in found.buckets)
    edges = [float(2**power) for power in range(int(np.log2(largest)) + 2)]
    looks = [
        _figure(
            "Bit balance",
            plots.points(
                {name: found.balance.tolist() for name, found in sides.items()},
                x="bit",
                y="share of ones",
                limits=(0, 1),
                middle=0.5,
            ),
            "A bit that half of the items have says most; one at 0 or 1 says nothing.",
        ),
        _figure(
            "Bucket sizes",
            plots.steps(
                {name: _bucket_counts(found, edges) for name, found in sides.items()},
                x="items that share one code",
                y="buckets",
                edges=edges,
                log=True,
            ),
            "How many codes are shared by how many items of the database.",
        ),
    ]
    margins = {name: found.margins / found.margins.sum() for name, found in sides.items() if found.margins is not None}
    if margins:
        looks.append(
            _figure(
                "Margins",
                plots.steps(
                    margins,
                    x="margin / mean margin",
                    y="share of bits",
                    edges=np.linspace(0, MARGIN_RANGE, MARGIN_BINS + 1).tolist(),
                ),
                "How far logits are from zero, where a bit flips; the last bin holds all beyond.",
            )
        )
    looks += [
        _figure(
            f"Correlation of {name} bits",
            plots.heat(found.correlation, x="bit", y="bit"),
            "Off the diagonal, 0 is best: a bit that repeats another is wasted.",
        )
        for name, found in sides.items()
    ]
    return looks


def _bucket_counts(found: Diagnostics, edges: Sequence[float]) -> list[float]:
    sizes, counts = zip(*found.buckets.items(), strict=True)
    return [float(count) for count in np.histogram(sizes, edges, weights=counts)[0]]


def _figure(title: str, svg: str, caption: str) -> dict[str, Any]:
    return {"title": title, "svg": chart(svg), "caption": caption}
