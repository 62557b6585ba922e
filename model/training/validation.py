"""The score that selects an epoch: label-free retrieval of the validation queries, never of the test queries.

A network says which directions count (``Network.selects``): image_to_text and text_to_image, and for one that fuses
also those with a pair on the database's side or on both. A build as released, whose codes have seen the labels, is
scored with the labels of the validation items in its prompts.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
import torch
from numpy.typing import NDArray

from model.evaluation.metrics import distance_histograms, expected_average_precision
from model.hasher import Modality
from model.losses import share_label
from model.methods.protocol import Features, Network


@dataclass(frozen=True, slots=True)
class ValidationScore:
    """Mean of the directions: tie-aware mAP@all against the training rows, and against the other validation rows."""

    seen: float
    unseen: float
    directions: Mapping[str, tuple[float, float]] = field(default_factory=dict)  # name -> (seen, unseen)

    @property
    def mean(self) -> float:
        """What the best epoch maximises: a served index holds both kinds of items."""
        return (self.seen + self.unseen) / 2


Codes = Mapping[Modality, NDArray[np.uint8]]  # (N, bits / 8) each


def validate(network: Network, validation: Features, train: Features, bits: int) -> ValidationScore:
    """Score a network at one length. Without labels only an item's own code is relevant, among the validation rows."""
    queries = _codes(network, validation, bits)
    if validation.labels is None or train.labels is None:
        own = np.eye(len(validation), dtype=np.bool_)
        # a code's distance to itself says nothing
        crossing = [sides for sides in network.selects if sides[0] is not sides[1]]
        found = {sides: _precision(queries[sides[0]], queries[sides[1]], own) for sides in crossing}
        return _score(found, found)
    database = _codes(network, train, bits)
    known = share_label(validation.labels, train.labels).cpu().numpy()
    others = share_label(validation.labels, validation.labels).cpu().numpy()
    return _score(
        {sides: _precision(queries[sides[0]], database[sides[1]], known) for sides in network.selects},
        {sides: _precision(queries[sides[0]], queries[sides[1]], others, drop_own=True) for sides in network.selects},
    )


Found = Mapping[tuple[Modality, Modality], float]


def _score(seen: Found, unseen: Found) -> ValidationScore:
    directions = {f"{query}_to_{target}": (seen[query, target], unseen[query, target]) for query, target in seen}
    return ValidationScore(float(np.mean(list(seen.values()))), float(np.mean(list(unseen.values()))), directions)


def _codes(network: Network, features: Features, bits: int) -> Codes:
    with torch.inference_mode():
        logits = {side: network.logits(side, rows, bits) for side, rows in network.vectors(features).items()}
    return {side: np.packbits((rows > 0).cpu().numpy(), axis=1, bitorder="little") for side, rows in logits.items()}


def _precision(
    queries: NDArray[np.uint8], database: NDArray[np.uint8], relevant: NDArray[np.bool_], *, drop_own: bool = False
) -> float:
    """Of one direction; ``drop_own`` takes row i of the database from query i's ranking."""
    items, found = distance_histograms(queries, database, relevant)
    if drop_own:
        own = np.bitwise_count(queries ^ database).sum(1, dtype=np.int64)
        rows = np.arange(len(queries))
        items[rows, own] -= 1
        found[rows, own] -= relevant[rows, rows]
    precision = expected_average_precision(items, found)
    answerable = ~np.isnan(precision)
    return float(precision[answerable].mean()) if answerable.any() else 0.0
