"""Keyword queries: the true labels of each query, as a user would type them, against image codes.

The query side is told the labels that decide relevance: this says how well a user who knows the classes finds them, and
nothing about texts. It is no lone figure, stands in no leaderboard, and is never averaged with one.
"""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from model.evaluation.codes import CodeSet, Protocol
from model.hasher import KeywordHasher, Modality


def keyword_codes(hasher: KeywordHasher, codes: CodeSet, class_names: Sequence[str]) -> CodeSet:
    """The image codes of a lone code set, with its queries' labels as keywords.

    A query without a label that the model knows, and that can be typed, takes no part.
    """
    known = np.array([name in hasher.keywords and "," not in name for name in class_names])  # a comma parts names
    asked = (codes.query_labels & known).any(1)
    sets, set_of = np.unique(codes.query_labels[asked] & known, axis=0, return_inverse=True)
    words = [", ".join(name for name, on in zip(class_names, row, strict=True) if on) for row in sets]
    encoded = hasher.encode_keywords(words)
    return replace(
        codes,
        protocol=Protocol.KEYWORDS,
        queries={Modality.TEXT: encoded.codes[set_of]},
        database={Modality.IMAGE: codes.database[Modality.IMAGE]},
        query_labels=codes.query_labels[asked],
        query_ids=tuple(id for id, one in zip(codes.query_ids, asked, strict=True) if one),
        query_margins={Modality.TEXT: encoded.margins[set_of]},
        database_margins={Modality.IMAGE: codes.database_margins[Modality.IMAGE]},
    )
