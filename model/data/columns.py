"""Which class each column of a label matrix is: known orders, told apart by classes that must lie inside others."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from model.errors import ArchiveError

CLASSES_FILE = "classes.txt"


@dataclass(frozen=True, slots=True)
class Inside:
    """Of the items of class ``inner``, at least this share must be of class ``outer`` too."""

    inner: str
    outer: str
    share: float


@dataclass(frozen=True, slots=True)
class Columns:
    """The class names in column order."""

    names: tuple[str, ...]
    order: str  # what this order is called
    doubts: tuple[str, ...]  # columns that look wrong, one sentence each


def doubtful_columns(labels: NDArray[np.uint8], names: Sequence[str], inside: Sequence[Inside]) -> list[str]:
    """The columns that break a containment, one sentence each; classes without items break none."""
    column = {name: position for position, name in enumerate(names)}
    doubts = []
    for rule in inside:
        if rule.inner not in column or rule.outer not in column:
            continue
        inner, outer = column[rule.inner], column[rule.outer]
        items = labels[:, inner] == 1
        count, both = int(items.sum()), int(labels[items, outer].sum())
        if both < rule.share * count:
            doubts.append(
                f"column {inner + 1} ({rule.inner!r}) looks wrong: {both / count:.1%} of its {count:,} items are "
                f"{rule.outer!r} (column {outer + 1}) too, expected at least {rule.share:.0%}"
            )
    return doubts


def name_columns(
    labels: NDArray[np.uint8],
    *,
    stated: Sequence[str] | None,
    orders: Mapping[str, tuple[str, ...]],
    inside: Sequence[Inside],
) -> Columns:
    """The stated names, or those of the first known order in which every containment holds.

    Raises:
        ArchiveError: no known order has as many columns, or fits; or the stated names are too few, many or repeated.
    """
    width = labels.shape[1]
    if stated is not None:
        if len(stated) != width or len(set(stated)) != width or not all(stated):
            raise ArchiveError(
                f"{CLASSES_FILE}: expected {width:,} different class names, one a line, as many as label columns, "
                f"found {len(stated):,} lines with {len(set(filter(None, stated))):,} different names"
            )
        return Columns(tuple(stated), CLASSES_FILE, tuple(doubtful_columns(labels, stated, inside)))
    fitting = {order: names for order, names in orders.items() if len(names) == width}
    way_out = f"write the class names, one a line in column order, to {CLASSES_FILE} beside the label file"
    if not fitting:
        known = " or ".join(sorted({str(len(names)) for names in orders.values()}))
        raise ArchiveError(f"label file: expected {known} columns, found {width}; {way_out}")
    doubts = {order: doubtful_columns(labels, names, inside) for order, names in fitting.items()}
    order = min(doubts, key=lambda name: len(doubts[name]))  # the first of those with the fewest
    if doubts[order]:
        raise ArchiveError(
            f"label file: no known column order fits ({', '.join(fitting)}); in the nearest, {order}, "
            f"{'; '.join(doubts[order])}. Check the label file, or {way_out}"
        )
    return Columns(fitting[order], order, ())
