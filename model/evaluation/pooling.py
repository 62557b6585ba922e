"""Outcomes on several splits of the same items as one: a query of several splits counts once, by its mean."""

from collections.abc import Sequence

import numpy as np

from model.errors import ArchiveError
from model.evaluation.compare import Outcome, Score

POOLED = " + "  # between the names of the splits, in the name of what they are together


def pool(query_ids: Sequence[Sequence[str]], outcomes: Sequence[Sequence[Outcome]]) -> list[Outcome]:
    """One outcome for each length and seed that every split has, with the mean of each figure.

    Args:
        query_ids: of each split, in the order of its average precisions.
        outcomes: of one method, by split.

    Raises:
        ArchiveError: an outcome has another number of queries than its split.
    """
    by_training = [{(one.bits, one.seed): one for one in some} for some in outcomes]
    shared = sorted(set.intersection(*map(set, by_training)))
    return [_pooled(query_ids, [found[key] for found in by_training]) for key in shared]


def _pooled(query_ids: Sequence[Sequence[str]], parts: Sequence[Outcome]) -> Outcome:
    scores = [{(score.protocol, score.direction): score for score in part.scores} for part in parts]
    sides = [side for side in scores[0] if all(side in found for found in scores)]
    return Outcome(
        bits=parts[0].bits,
        seed=parts[0].seed,
        train_s=float(np.mean([part.train_s for part in parts])),
        encode_per_s=float(np.mean([part.encode_per_s for part in parts])),
        scores=[_mean(query_ids, [found[side] for found in scores]) for side in sides],
    )


def _mean(query_ids: Sequence[Sequence[str]], scores: Sequence[Score]) -> Score:
    unseen = [score.unseen for score in scores if score.unseen is not None]
    precisions = [score.unseen_average_precision for score in scores if score.unseen_average_precision is not None]
    has_unseen = len(unseen) == len(precisions) == len(scores)
    return Score(
        protocol=scores[0].protocol,
        direction=scores[0].direction,
        whole=float(np.mean([score.whole for score in scores])),
        unseen=float(np.mean(unseen)) if has_unseen else None,
        average_precision=_by_query(query_ids, [score.average_precision for score in scores]),
        unseen_average_precision=_by_query(query_ids, precisions) if has_unseen else None,
    )


def _by_query(query_ids: Sequence[Sequence[str]], precisions: Sequence[Sequence[float | None]]) -> list[float | None]:
    """Of each query of any split, in the order of ids; None for one without a relevant item in all of its splits."""
    if [len(ids) for ids in query_ids] != [len(values) for values in precisions]:
        raise ArchiveError(
            f"expected average precisions of {[len(ids) for ids in query_ids]} queries, found "
            f"{[len(values) for values in precisions]}; measure again"
        )
    ids, places = np.unique(np.concatenate([np.asarray(one) for one in query_ids]), return_inverse=True)
    values = np.concatenate([np.array(one, dtype=np.float64) for one in precisions])
    known = ~np.isnan(values)
    sums = np.bincount(places[known], weights=values[known], minlength=len(ids))
    counts = np.bincount(places[known], minlength=len(ids))
    return [float(total / count) if count else None for total, count in zip(sums, counts, strict=True)]
