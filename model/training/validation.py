"""The score that selects an epoch: lone retrieval of the validation queries, never of the test queries."""

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from model.evaluation.metrics import distance_histograms, expected_average_precision
from model.losses import share_label
from model.methods.protocol import Features, Network


@dataclass(frozen=True, slots=True)
class ValidationScore:
    """Mean of both directions: tie-aware mAP@all against the training rows, and against the other validation rows."""

    seen: float
    unseen: float

    @property
    def mean(self) -> float:
        """What the best epoch maximises: a served index holds both kinds of items."""
        return (self.seen + self.unseen) / 2


def validate(network: Network, validation: Features, train: Features, bits: int) -> ValidationScore:
    """Score a network at one length. Without labels only an item's own pair is relevant, among the validation rows."""
    queries = _codes(network, validation, bits)
    if validation.labels is None or train.labels is None:
        own = np.eye(len(validation), dtype=np.bool_)
        score = _mean_precision(queries, queries, own, drop_own=False)
        return ValidationScore(score, score)
    seen = share_label(validation.labels, train.labels).cpu().numpy()
    unseen = share_label(validation.labels, validation.labels).cpu().numpy()
    return ValidationScore(
        _mean_precision(queries, _codes(network, train, bits), seen, drop_own=False),
        _mean_precision(queries, queries, unseen, drop_own=True),
    )


Codes = tuple[NDArray[np.uint8], NDArray[np.uint8]]  # image, text


def _codes(network: Network, features: Features, bits: int) -> Codes:
    with torch.inference_mode():
        images, texts = network.vectors(features)
        logits = network.image_logits(images, bits), network.text_logits(texts, bits)
    image, text = (np.packbits((side > 0).cpu().numpy(), axis=1, bitorder="little") for side in logits)
    return image, text


def _mean_precision(queries: Codes, database: Codes, relevant: NDArray[np.bool_], *, drop_own: bool) -> float:
    """Mean of image_to_text and text_to_image; ``drop_own`` takes row i of the database from query i's ranking."""
    scores = []
    for query, target in ((queries[0], database[1]), (queries[1], database[0])):
        items, found = distance_histograms(query, target, relevant)
        if drop_own:
            own = np.bitwise_count(query ^ target).sum(1, dtype=np.int64)
            rows = np.arange(len(query))
            items[rows, own] -= 1
            found[rows, own] -= relevant[rows, rows]
        precision = expected_average_precision(items, found)
        answerable = ~np.isnan(precision)
        scores.append(precision[answerable].mean() if answerable.any() else 0.0)
    return float(np.mean(scores))
