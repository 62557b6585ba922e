"""``Figures``: everything said about the retrieval of all queries in one direction against one database."""

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from model.evaluation import metrics
from model.evaluation.counts import Counts, count

CUTOFFS = (1, 5, 10, 50, 100, 500, 1000, 5000)  # K of the figures at K; those above the database's size are left out
LOOKUP_RADIUS = 2


@dataclass(frozen=True, slots=True)
class Ties:
    """One figure under four treatments of items at equal distance."""

    expected: float  # mean over every order within ties
    stable: float  # ties in the data set's shuffled row order
    best: float  # relevant items first
    worst: float  # relevant items last


@dataclass(frozen=True, slots=True)
class Lookup:
    """Precision inside a small radius: what a hash table would return."""

    precision: float  # a query that finds nothing counts as 0
    precision_where_found: float  # mean over the other queries; 0 where there are none
    found_nothing: float  # share of the queries


@dataclass(frozen=True, slots=True)
class Figures:
    """Means over the queries that have a relevant item. Order within ties counts by expectation unless it is named."""

    map_all: Ties  # mean average precision over the whole ranking
    zero_counted: Ties  # the same with 0 for each query without a relevant item, as released evaluators count
    map_at: Mapping[int, float]  # by K; average precision of the first K, divided by min(K, relevant items)
    precision_at: Mapping[int, float]
    recall_at: Mapping[int, float]
    ndcg_at: Mapping[int, float]  # gain 2^(shared labels) - 1
    radius_precision: tuple[float, ...]  # by radius 0..bits; a query that finds nothing counts as 0
    radius_recall: tuple[float, ...]
    radius_found_nothing: tuple[float, ...]  # share of the queries
    pr_curve: tuple[tuple[float, float], ...]  # (recall, precision), ascending recall
    lookup: Lookup  # inside radius 2
    chance: float  # mean share of relevant items: what random codes reach
    queries: int  # that have at least one relevant item
    left_out: int  # queries without one
    database: int
    average_precision: NDArray[np.float64]  # (all queries,), expected; NaN where left out; for paired tests


def figures(
    queries: NDArray[np.uint8],
    database: NDArray[np.uint8],
    query_labels: NDArray[np.bool_],
    database_labels: NDArray[np.bool_],
    order: NDArray[np.int64],
    advance: Callable[[int], None] = lambda queries: None,
) -> Figures:
    """Rank (N, bits / 8) database codes for (Q, bits / 8) query codes; relevant items share a label.

    ``order`` (N,) breaks ties of the stable treatment, smallest first.
    """
    return figures_from(count(queries, database, query_labels, database_labels, order, advance))


def figures_from(counts: Counts) -> Figures:
    """The figures of counted queries; all of them are 0 where no query has a relevant item."""
    total = len(counts.items)
    size = int(counts.items[0].sum()) if total else 0
    answerable = counts.relevant.sum(1) > 0
    per_query = np.full(total, np.nan)
    one = counts.select(answerable)
    ties = {
        "expected": metrics.expected_average_precision(one.items, one.relevant),
        "stable": one.stable,
        "best": metrics.best_average_precision(one.items, one.relevant),
        "worst": metrics.worst_average_precision(one.items, one.relevant),
    }
    per_query[answerable] = ties["expected"]
    cutoffs = [cutoff for cutoff in CUTOFFS if cutoff <= size]
    precision, recall, nothing = metrics.by_radius(one.items, one.relevant)
    return Figures(
        map_all=Ties(**{name: _mean(values) for name, values in ties.items()}),
        zero_counted=Ties(**{name: float(values.sum()) / max(total, 1) for name, values in ties.items()}),
        map_at={k: _mean(metrics.expected_average_precision(one.items, one.relevant, k)) for k in cutoffs},
        precision_at={k: _mean(metrics.expected_found(one.items, one.relevant, k) / k) for k in cutoffs},
        recall_at={k: _mean(metrics.expected_found(one.items, one.relevant, k) / one.relevant.sum(1)) for k in cutoffs},
        ndcg_at={k: _mean(metrics.expected_ndcg(one.items, one.gains, one.shared, k)) for k in cutoffs},
        radius_precision=_means(precision),
        radius_recall=_means(recall),
        radius_found_nothing=_means(nothing),
        pr_curve=_pr_curve(one),
        lookup=_lookup(precision[:, LOOKUP_RADIUS], nothing[:, LOOKUP_RADIUS]),
        chance=_mean(one.relevant.sum(1) / max(size, 1)),
        queries=int(answerable.sum()),
        left_out=int((~answerable).sum()),
        database=size,
        average_precision=per_query,
    )


def figures_json(figures: Figures) -> dict[str, Any]:
    """Plain JSON values without the single queries; K as text."""
    at = {
        name: {str(k): value for k, value in getattr(figures, name).items()}
        for name in ("map_at", "precision_at", "recall_at", "ndcg_at")
    }
    return {
        **at,
        "map_all": asdict(figures.map_all),
        "zero_counted": {"map_all": asdict(figures.zero_counted)},
        "radius": {
            "precision": list(figures.radius_precision),
            "recall": list(figures.radius_recall),
            "found_nothing": list(figures.radius_found_nothing),
        },
        "pr_curve": [list(point) for point in figures.pr_curve],
        f"radius_{LOOKUP_RADIUS}": asdict(figures.lookup),
        "chance": figures.chance,
        "queries": figures.queries,
        "left_out": figures.left_out,
        "database": figures.database,
    }


def _pr_curve(counts: Counts) -> tuple[tuple[float, float], ...]:
    levels = metrics.RECALL_LEVELS
    precision = _means(metrics.precision_at_recall(counts.items, counts.relevant, levels))
    return tuple(zip(map(float, levels), precision, strict=True))


def _lookup(precision: NDArray[np.float64], nothing: NDArray[np.bool_]) -> Lookup:
    return Lookup(_mean(precision), _mean(precision[~nothing]), _mean(nothing))


def _mean(values: NDArray[Any]) -> float:
    return float(values.mean()) if len(values) else 0.0


def _means(values: NDArray[Any]) -> tuple[float, ...]:
    """Mean of each column."""
    return tuple(map(float, values.mean(0) if len(values) else np.zeros(values.shape[1])))
