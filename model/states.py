"""States inside the towers for the rows of a training, read batch by batch from the prefix cache on disk."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from encoders.prefix import PrefixCache
from encoders.towers import TextTower

GROUP = 32  # chunks of like length that are read together at least
Read = Callable[[Tensor, Tensor, Tensor], Tensor]  # states (C, L, W), ids (C, L), owner (C,) -> (C, D)


@dataclass(frozen=True, slots=True)
class TextBatch:
    """States of some texts before the last blocks of the text tower, chunk by chunk."""

    states: Tensor  # (C, L, W), float32
    tokens: Tensor  # (C, L) ids, 0 where padded
    owner: Tensor  # (C,), which text of the batch a chunk belongs to
    texts: int

    def vectors(self, read: Read) -> Tensor:
        """(B, D), the mean over each text's chunks; chunks of like length share a forward, with little padding."""
        lengths = TextTower.visible(self.tokens).sum(1)
        order = lengths.argsort(stable=True)
        parts = [
            read(
                self.states[rows, : int(lengths[rows].max())],
                self.tokens[rows, : int(lengths[rows].max())],
                self.owner[rows],
            )
            for rows in order.chunk(max(1, min(4, len(order) // GROUP)))
        ]
        vectors = torch.cat(parts)[order.argsort()]
        if len(vectors) == self.texts:
            return vectors  # a chunk each, in order
        sums = vectors.new_zeros(self.texts, vectors.shape[1]).index_add(0, self.owner, vectors)
        return sums / torch.bincount(self.owner, minlength=self.texts).unsqueeze(1)


@dataclass(frozen=True, slots=True)
class States:
    """The prefix cache's keys of N items. Batches lie on the backbone's device."""

    cache: PrefixCache
    images: Sequence[str]
    texts: Sequence[tuple[str, ...]]  # a key for each chunk
    views: int = 1  # of each image: view 0 is the image itself

    def part(self, rows: slice) -> "States":
        """Some of the items."""
        return States(self.cache, self.images[rows], self.texts[rows], self.views)

    def image_batch(self, rows: Sequence[int], view: int = 0) -> Tensor:
        """(B, ...) float32, what an image ``Tail`` takes."""
        return self.cache.image_states([self.images[row] for row in rows], view)

    def text_batch(self, rows: Sequence[int]) -> TextBatch:
        """The chunks of some texts."""
        keys = [self.texts[row] for row in rows]
        states, tokens = self.cache.text_states([key for chunks in keys for key in chunks])
        owner = torch.tensor([place for place, chunks in enumerate(keys) for _ in chunks], device=states.device)
        return TextBatch(states, tokens, owner, len(keys))
