"""From a code set to figures of every direction, and how they are shown: JSON and table."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from model.evaluation.codes import CodeSet, Protocol
from model.evaluation.figures import Figures, figures, figures_json
from model.hasher import Modality

CROSS_MODAL = ("image_to_text", "text_to_image")


@dataclass(frozen=True, slots=True)
class Result:
    """All directions of one protocol, code length and caption variant."""

    bits: int
    protocol: Protocol
    captions: str
    whole: Mapping[str, Figures]  # direction -> figures over the whole database
    unseen: Mapping[str, Figures]  # over the rows that were not trained on; empty where there are none
    skipped: int  # items that could not be encoded

    @property
    def mean(self) -> tuple[float, float]:
        """Expected mAP@all, mean of both cross-modal directions: (whole database, unseen database)."""
        whole, unseen = (
            float(np.mean([side[direction].map_all.expected for direction in CROSS_MODAL])) if side else 0.0
            for side in (self.whole, self.unseen)
        )
        return whole, unseen


def masks_of(direction: str) -> tuple[list[str], list[str]]:
    """What was there when the codes of query and database were made; figures of two masks are never averaged."""
    query, database = direction.split("_to_")
    return _mask(query), _mask(database)


def _mask(side: str) -> list[str]:
    if side == Protocol.KEYWORDS:
        return ["true labels"]
    return ["image", "text"] if Modality(side) is Modality.PAIR else [side]


def evaluate_codes(codes: CodeSet, advance: Callable[[int], None] = lambda rankings: None) -> Result:
    """Score every direction that the protocol covers against the whole and the unseen database.

    ``advance`` is told of rankings, of which there are ``rankings(codes)``.
    """

    def score(rows: slice | np.ndarray[Any, np.dtype[np.bool_]]) -> dict[str, Figures]:
        return {
            direction: figures(
                codes.queries[source],
                codes.database[target][rows],
                codes.query_labels,
                codes.database_labels[rows],
                codes.order[rows],
                advance,
            )
            for direction, (source, target) in codes.directions.items()
        }

    unseen = score(codes.unseen) if codes.unseen.any() else {}
    return Result(codes.bits, codes.protocol, codes.captions, score(slice(None)), unseen, len(codes.skipped))


def rankings(codes: CodeSet) -> int:
    """How many rankings an evaluation looks at: one for each query, direction and database."""
    return len(codes.query_labels) * len(codes.directions) * (2 if codes.unseen.any() else 1)


def as_json(results: Sequence[Result]) -> dict[str, Any]:
    """``{protocol: {direction: {bits: {map_all: {expected, …}, …, unseen: {…}}}}}``; outer figures: the whole database.

    Of several caption variants the first met is the headline; the others stand in its ``other_captions``.
    """
    tree: dict[str, dict[str, dict[str, Any]]] = {}
    for result in results:
        for direction in result.whole:
            entry = {**_sides(result, direction), "captions": result.captions, "skipped": result.skipped}
            entry["masks"] = dict(zip(("query", "database"), masks_of(direction), strict=True))
            lengths = tree.setdefault(result.protocol, {}).setdefault(direction, {})
            headline = lengths.setdefault(str(result.bits), entry)
            if headline is not entry:
                headline.setdefault("other_captions", {})[result.captions] = entry
    return tree


def one_as_json(result: Result) -> dict[str, Any]:
    """One object: with one direction its figures, with several ``directions`` of them."""
    sizes: dict[str, Any] = {"protocol": result.protocol.value, "bits": result.bits}
    if len(result.whole) == 1:
        direction = next(iter(result.whole))
        return {**sizes, "direction": direction, **_sides(result, direction)}
    first = next(iter(result.whole.values()))
    directions = {direction: _sides(result, direction) for direction in result.whole}
    sizes |= {"queries": first.queries, "left_out": first.left_out, "database": first.database, "chance": first.chance}
    return {**sizes, "directions": directions}


def as_table(results: Sequence[Result]) -> tuple[list[str], list[list[str]]]:
    """Headings and rows of results of one protocol: a row for each variant, length and direction.

    The mean of both cross-modal directions stands below them.
    """
    headings = ["protocol", "captions", "bits", "direction", "whole database", "worst to best tie order"]
    headings += ["unseen database", "P@10", "within radius 2", "found nothing", "chance"]
    headings += ["query saw", "database saw"]
    headline = results[0].captions if results else ""
    rows = []
    for result in results:
        captions = result.captions if result.captions == headline else f"{result.captions} (not the headline)"
        start = [result.protocol, captions, str(result.bits)]
        rows += [[*start, direction, *_cells(result, direction)] for direction in result.whole]
        if set(CROSS_MODAL) <= set(result.whole):
            whole, unseen = result.mean
            shown = f"{unseen:.4f}" if result.unseen else ""
            rows.append([*start, "mean of both cross-modal", f"{whole:.4f}", "", shown, "", "", "", "", "", ""])
    return headings, rows


def _cells(result: Result, direction: str) -> list[str]:
    whole, unseen = result.whole[direction], result.unseen.get(direction)
    ties = whole.map_all
    chance = [whole.chance] if unseen is None else [whole.chance, unseen.chance]
    return [
        f"{ties.expected:.4f}",
        f"{ties.worst:.4f} to {ties.best:.4f}",
        "" if unseen is None else f"{unseen.map_all.expected:.4f}",
        f"{whole.precision_at[10]:.4f}" if 10 in whole.precision_at else "",
        f"{whole.lookup.precision:.4f}",
        f"{whole.lookup.found_nothing:.1%}",
        " / ".join(f"{share:.3f}" for share in chance),
        *(" + ".join(mask) for mask in masks_of(direction)),
    ]


def _sides(result: Result, direction: str) -> dict[str, Any]:
    entry = figures_json(result.whole[direction])
    if direction in result.unseen:
        entry["unseen"] = figures_json(result.unseen[direction])
    return entry
