"""Label prompts: a set of classes told as a caption would tell it, so that labels become a second kind of text.

Paper: SODA (arXiv 2510.09664), the ground-truth label prompts of its teacher. ``TrainingPrompts`` alone turns label
rows into prompts, and objectives alone hold one; what serves says the same sentences about classes that a user names.
"""

import logging
from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn
from torch.nn.functional import normalize
from torch.nn.utils.rnn import pad_sequence

from encoders.protocol import Backbone
from encoders.towers import TextTower
from model.anchors import spoken

JOINED, IMAGE_CONTAINING, BARE, PER_CLASS, LEARNED = FORMS = (
    "joined",
    "image_containing",
    "bare",
    "per_class",
    "learned",
)
log = logging.getLogger(__name__)

Read = Callable[[Tensor, Tensor], Tensor]  # states (T, L, W) before tuned blocks and ids (T, L) -> (T, text_dim)


def label_sentences(names: Sequence[str], form: str) -> list[str]:
    """The sentences whose mean stands for some classes, given in class order: one for all, or one for each.

    ``a photo of dog, red apple and tree.``; ``image_containing`` has another lead-in, ``bare`` none.
    """
    if form in (PER_CLASS, LEARNED):
        return [sentence for name in names for sentence in label_sentences([name], JOINED)]
    words = spoken([name.lower() for name in names])
    if form == BARE:
        return [words]
    return [f"an image containing {words}." if form == IMAGE_CONTAINING else f"a photo of {words}."]


def fitting_sentences(backbone: Backbone, names: Sequence[str], form: str) -> list[str]:
    """``label_sentences``, one for each class where the one for all is longer than the tower's context."""
    sentences = label_sentences(names, form)
    if len(sentences) == 1 and len(backbone.tokenize(sentences[0]).chunks) > 1:
        return label_sentences(names, PER_CLASS)
    return sentences


def mean_prompt(weights: Tensor, features: Tensor) -> Tensor:
    """(S, T) weights of sentences and their (T, D) features -> (S, D) unit vectors."""
    return normalize(weights @ features, dim=1)


class TrainingPrompts(nn.Module):
    """Training rows -> vectors of their label prompts; a row without labels has a zero vector.

    With ``tail`` the sentences stop before the tower's last blocks, which the caller goes through.
    """

    sets: Tensor  # (S, C) multi-hot: the label sets that there are
    weights: Tensor  # (S, T): which sentences a label set is the mean of
    set_of: Tensor  # (N,): the label set of a row
    features: Tensor  # (T, text_dim): of the sentences, as the frozen tower reads them
    states: Tensor  # (T, L, W) before the last blocks, with ``tail`` alone
    tokens: Tensor  # (T, L)

    def __init__(
        self, backbone: Backbone, names: Sequence[str], labels: Tensor, form: str, tail: int | None = None
    ) -> None:
        super().__init__()
        sets, set_of = labels.cpu().unique(dim=0, return_inverse=True)
        told = _told(backbone, [_named(names, row) for row in sets], form)
        place = {one: number for number, one in enumerate(dict.fromkeys(one for some in told for one in some))}
        weights = torch.zeros(len(sets), len(place))
        for number, some in enumerate(told):
            weights[number, [place[one] for one in some]] = 1.0
        self.register_buffer("sets", sets, persistent=False)
        self.register_buffer("weights", weights, persistent=False)
        self.register_buffer("set_of", set_of, persistent=False)
        self.register_buffer("features", sentence_features(backbone, list(place)).cpu(), persistent=False)
        if tail is not None:
            tokens = pad_sequence([_ids(backbone, one) for one in place], batch_first=True)
            with torch.no_grad():
                states = backbone.text_tower.prefix(tokens.to(backbone.device), tail)
            self.register_buffer("tokens", tokens, persistent=False)
            self.register_buffer("states", states.cpu(), persistent=False)

    def forward(self, rows: Tensor, read: Read | None = None) -> Tensor:
        """(B,) -> (B, text_dim); ``read`` goes through the tower's last blocks."""
        weights = self.weights[self.set_of[rows]]
        if read is None:
            return mean_prompt(weights, self.features)
        used = weights.any(0)
        tokens = self.tokens[used]
        length = int(TextTower.visible(tokens).sum(1).max())
        return mean_prompt(weights[:, used], read(self.states[used, :length], tokens[:, :length]))


def sentence_features(backbone: Backbone, sentences: Sequence[str]) -> Tensor:
    """(T, text_dim), each read alone."""
    with torch.no_grad():
        rows = [backbone.text_features(_ids(backbone, one).unsqueeze(0).to(backbone.device)) for one in sentences]
    return torch.cat([torch.zeros(0, backbone.text_dim, device=backbone.device), *rows])


def _told(backbone: Backbone, sets: Sequence[Sequence[str]], form: str) -> list[list[str]]:
    """What the prompt of each label set says, nothing of an empty one; the log counts those that were too long."""
    told = [fitting_sentences(backbone, names, form) if names else [] for names in sets]
    parted = sum(len(said) > len(label_sentences(names, form)) for names, said in zip(sets, told, strict=True) if names)
    if parted:
        log.warning(
            "label prompts: %d of %d label sets do not fit into the text tower's context in the form %r; each of their "
            "classes gets a sentence of its own",
            parted,
            len(sets),
            form,
        )
    return told


def _ids(backbone: Backbone, sentence: str) -> Tensor:
    return torch.tensor(backbone.tokenize(sentence).chunks[0])


def _named(names: Sequence[str], row: Tensor) -> list[str]:
    return [names[column] for column in row.nonzero().squeeze(1).tolist()]
