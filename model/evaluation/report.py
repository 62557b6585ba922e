"""The report of an evaluation: what it holds, as JSON and CSV; ``report_page`` makes the page of it."""

import csv
import io
import json
import os
import platform
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from model.evaluation.codes import CodeSet, Protocol
from model.evaluation.contact_sheets import Sheet, contact_sheets, sheets_json
from model.evaluation.diagnostics import Diagnostics, PairAgreement, diagnose, pair_agreement
from model.evaluation.figures import Figures
from model.evaluation.label_only import fit_label_coder
from model.evaluation.leak import LeakCheck, check_leak
from model.evaluation.results import Result, as_json
from model.hasher import Modality
from model.items import ItemArchive
from model.manifest import Manifest

HEADLINE_BITS = 64


@dataclass(frozen=True, slots=True)
class Inspection:
    """What the codes of one length and caption variant look like, whatever they retrieve."""

    bits: int
    captions: str
    codes: Mapping[Modality, Diagnostics]  # of the database
    leaks: Mapping[Modality, LeakCheck]
    pairs: PairAgreement | None  # image against text codes of the database; None where one is missing

    def as_json(self) -> dict[str, Any]:
        """Plain values."""
        return {
            "bits": self.bits,
            "captions": self.captions,
            "codes": {modality: found.as_json() for modality, found in self.codes.items()},
            "leak": {modality: check.as_json() for modality, check in self.leaks.items()},
            "pairs": None if self.pairs is None else asdict(self.pairs),
        }


@dataclass(frozen=True, slots=True)
class Report:
    """Everything that the page shows."""

    title: str
    facts: Mapping[str, str]  # how the figures came about
    results: Sequence[Result]
    inspections: Sequence[Inspection]  # in the order of the code sets that are not mere views of others
    headline: int  # position in ``inspections`` of the code set that the sheets and matrices show
    control: LeakCheck  # of a coder that sees labels alone, at the headline's length
    sheets: Mapping[str, Sequence[Sheet]]  # by direction

    def as_json(self) -> dict[str, Any]:
        """``report.json``: facts, figures as ``crossbit evaluate --json`` gives them, diagnostics, sheets."""
        return {
            "title": self.title,
            "facts": dict(self.facts),
            "figures": as_json(self.results),
            "diagnostics": [one.as_json() for one in self.inspections],
            "leak_control": self.control.as_json(),
            "sheets": sheets_json(self.sheets),
        }


def build_report(
    evaluated: Sequence[tuple[CodeSet, Result]],
    archive: ItemArchive,
    manifest: Manifest,
    seconds: float,
    advance: Callable[[int], None] = lambda code_sets: None,
) -> Report:
    """Look at every code set of one artifact, and draw contact sheets for the headline; ``seconds`` of evaluating."""

    def looked_at(codes: CodeSet) -> Inspection:
        found = inspect(codes)
        advance(1)
        return found

    made = [codes for codes, _ in evaluated if codes.protocol is not Protocol.PAIRED]  # paired ones hold the same codes
    advance(len(evaluated) - len(made))
    headline = next((place for place, codes in enumerate(made) if codes.bits == HEADLINE_BITS), 0)
    shown = made[headline]
    return Report(
        title=f"{manifest.name} on {archive.info.name}",
        facts=_facts(made, archive, manifest, seconds),
        results=[result for _, result in evaluated],
        inspections=[looked_at(codes) for codes in made],
        headline=headline,
        control=_control(shown),
        sheets={direction: contact_sheets(shown, archive, direction) for direction in _crossing(shown)},
    )


def inspect(codes: CodeSet) -> Inspection:
    """Diagnostics of the database's codes, and the leak check of each modality."""
    both = Modality.IMAGE in codes.database and Modality.TEXT in codes.database
    return Inspection(
        bits=codes.bits,
        captions=codes.captions,
        codes={
            modality: diagnose(packed, codes.database_margins.get(modality))
            for modality, packed in codes.database.items()
        },
        leaks={
            modality: _leak(codes, codes.database[modality], codes.queries[modality]) for modality in _shared(codes)
        },
        pairs=pair_agreement(codes.database[Modality.IMAGE], codes.database[Modality.TEXT]) if both else None,
    )


def report_files(report: Report) -> dict[str, str]:
    """Name -> text of the files beside the page."""
    return {
        "report.json": json.dumps(report.as_json(), indent=1, sort_keys=True, ensure_ascii=False) + "\n",
        "metrics.csv": _csv(METRIC_COLUMNS, _metric_lines(report)),
        "diagnostics.csv": _csv(DIAGNOSTIC_COLUMNS, _diagnostic_lines(report)),
        "sheets.csv": _csv(SHEET_COLUMNS, _sheet_lines(report)),
    }


def _shared(codes: CodeSet) -> list[Modality]:
    return [modality for modality in codes.database if modality in codes.queries]


def _crossing(codes: CodeSet) -> list[str]:
    """The directions that the sheets show: across modalities where there are such, all otherwise."""
    across = [name for name, (source, target) in codes.directions.items() if source != target]
    return across or list(codes.directions)


def _leak(codes: CodeSet, database: NDArray[np.uint8], queries: NDArray[np.uint8]) -> LeakCheck:
    known = _known(codes)
    return check_leak(
        database[known],
        codes.database_labels[known],
        np.concatenate([database[~known], queries]),
        np.concatenate([codes.database_labels[~known], codes.query_labels]),
    )


def _known(codes: CodeSet) -> NDArray[np.bool_]:
    """Database rows that majorities are taken from: those trained on, or all where none was."""
    return np.ones_like(codes.unseen) if codes.unseen.all() else ~codes.unseen


def _control(codes: CodeSet) -> LeakCheck:
    coder = fit_label_coder(codes.database_labels[_known(codes)], codes.bits)
    return _leak(codes, coder.encode(codes.database_labels), coder.encode(codes.query_labels))


def _facts(made: Sequence[CodeSet], archive: ItemArchive, manifest: Manifest, seconds: float) -> dict[str, str]:
    info, training = archive.info, manifest.training
    first = made[0]
    counts = {
        "queries": len(first.query_ids),
        "database": len(first.database_ids),
        "of them unseen": int(first.unseen.sum()),
        "training": manifest.data["train"],
        "validation": manifest.data["validation"],
    }
    seed = re.search(r"^seed = (\d+)$", training["recipe"], re.MULTILINE)
    return {
        "data": f"{info.name} {info.revision} ({info.licence})",
        "split": ", ".join(f"{what} {count:,}" for what, count in counts.items()),
        "split hash": info.split_hash,
        "relevance": "an item is relevant to a query if they share at least one label",
        "protocol": ", ".join(f"{one.value}: {MEANINGS[one]}" for one in dict.fromkeys(c.protocol for c in made)),
        "captions": f"{first.captions}: the headline; model trained on {manifest.data['captions']}",
        "method": f"{manifest.method}; supervision: {training['supervision']}",
        "training seed": seed[1] if seed else "unknown",
        "backbone": manifest.backbone,
        "fingerprint": "; ".join(f"{bits} bits {manifest.fingerprints[str(bits)]}" for bits in _lengths(made)),
        "left out": f"{len(first.skipped)} items that could not be encoded",
        "hardware": f"{_processor()}, {os.cpu_count()} cores, device {training['device']} in training",
        "wall time": f"{seconds:.1f} s for encoding (features from the cache where it has them) and all figures",
        "training time": f"{training['seconds']:.1f} s from cached features"
        if "seconds" in training
        else "not recorded",
    }


MEANINGS = {
    Protocol.LONE: "each code from one modality of one item, no label",
    Protocol.PAIRED: "at least one side fuses an item's own image and text, no label",
    Protocol.ORACLE: "the encoder was handed the true labels; this is not a retrieval result",
    Protocol.ELSEWHERE: "codes made by another program",
}


def _lengths(made: Sequence[CodeSet]) -> list[int]:
    return sorted({codes.bits for codes in made})


def _processor() -> str:
    try:
        found = re.search(r"^model name\s*: (.+)$", Path("/proc/cpuinfo").read_text(encoding="utf-8"), re.MULTILINE)
    except OSError:
        found = None
    return found[1] if found else platform.processor() or platform.machine()


METRIC_COLUMNS = ("protocol", "captions", "bits", "direction", "database", "metric", "at", "value")
DIAGNOSTIC_COLUMNS = ("captions", "bits", "modality", "bit", "share_of_ones", "mean_abs_correlation")
SHEET_COLUMNS = ("direction", "query", "rank", "item", "distance", "relevant")
Cells = tuple[object, ...]


def _csv(headings: Sequence[str], lines: Iterable[Cells]) -> str:
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(headings)
    writer.writerows(lines)
    return out.getvalue()


def _metric_lines(report: Report) -> Iterator[Cells]:
    for result in report.results:
        for database, side in (("all", result.whole), ("unseen", result.unseen)):
            for direction, figures in side.items():
                for line in _lines(figures):
                    yield (result.protocol.value, result.captions, result.bits, direction, database, *line)


def _diagnostic_lines(report: Report) -> Iterator[Cells]:
    for one in report.inspections:
        for modality, found in one.codes.items():
            others = (np.abs(found.correlation).sum(1) - np.diag(found.correlation)) / (found.bits - 1)
            for bit, (share, correlation) in enumerate(zip(found.balance, others, strict=True)):
                yield one.captions, one.bits, modality.value, bit, float(share), float(correlation)


def _sheet_lines(report: Report) -> Iterator[Cells]:
    for direction, sheets in report.sheets.items():
        for sheet in sheets:
            for rank, hit in enumerate(sheet.hits, start=1):
                yield direction, sheet.query.id, rank, hit.item.id, hit.distance, hit.relevant


def _lines(figures: Figures) -> Iterator[tuple[str, str, float]]:
    """Metric, what it is at, value."""
    for treatment, value in asdict(figures.map_all).items():
        yield "map_all", treatment, value
    for treatment, value in asdict(figures.zero_counted).items():
        yield "map_all_zero_counted", treatment, value
    for name in ("map_at", "precision_at", "recall_at", "ndcg_at"):
        for k, value in getattr(figures, name).items():
            yield name, str(k), value
    for name in ("radius_precision", "radius_recall", "radius_found_nothing"):
        for radius, value in enumerate(getattr(figures, name)):
            yield name, str(radius), value
    for recall, precision in figures.pr_curve:
        yield "precision_at_recall", f"{recall:g}", precision
    yield "chance", "", figures.chance
    yield "queries", "", figures.queries
    yield "left_out", "", figures.left_out
    yield "database", "", figures.database
