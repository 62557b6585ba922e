"""Semantic anchors: what the classes of an item say, as a vector.

Paper: PGHMH, its prompt-guided part. As released, a prompt names the true classes of whatever is encoded. Here a
sentence about true classes is a target in training alone (``class_sentences``, section 6.1 of the specification), and
what an encoder reads is made of classes that it predicts itself (``Anchors``, section 6.2).
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.functional import normalize

from encoders.protocol import Backbone
from model.class_folds import ClassFolds
from model.prompts import weighted_mean

LEAD_INS = ("An image showing", "A photo depicting", "A picture of", "This is an image with")


def spoken(names: Sequence[str]) -> str:
    """``a``, or ``a, b and c``; underscores as blanks."""
    *first, last = [name.replace("_", " ") for name in names]
    return f"{', '.join(first)} and {last}" if first else last


def class_sentences(backbone: Backbone, label_sets: Sequence[Sequence[str]]) -> Tensor:
    """(S, text_dim) unit vectors: the mean over all lead-ins of the text features of each set of class names.

    A sentence that is longer than the context is read in chunks, whose mean counts: nothing is cut.
    """
    rows = [_features(backbone, [f"{lead_in} {spoken(names)}" for lead_in in LEAD_INS]) for names in label_sets]
    return normalize(torch.stack(rows), dim=1) if rows else torch.zeros(0, backbone.text_dim)


def _features(backbone: Backbone, sentences: Sequence[str]) -> Tensor:
    chunks = [ids for sentence in sentences for ids in backbone.tokenize(sentence).chunks]
    with torch.no_grad():
        features = [backbone.text_features(torch.tensor([ids], device=backbone.device)) for ids in chunks]
    return torch.cat(features).mean(0)


class TrueAnchors(nn.Module):
    """Rows of a training set -> sentences of their true classes (section 6.1), read once for each label set."""

    sentences: Tensor  # (S, text_dim); zeros for an empty set
    set_of: Tensor  # (N,) which set a row has

    def __init__(self, backbone: Backbone, names: Sequence[str], labels: Tensor) -> None:
        super().__init__()
        sets, set_of = labels.unique(dim=0, return_inverse=True)
        named = [[names[one] for one in row.nonzero().squeeze(1).tolist()] for row in sets]
        sentences = torch.zeros(len(named), backbone.text_dim)
        sentences[sets.any(1).cpu()] = class_sentences(backbone, [some for some in named if some]).cpu()
        self.register_buffer("sentences", sentences)
        self.register_buffer("set_of", set_of)

    def forward(self, rows: Tensor) -> Tensor:
        """(B,) -> (B, text_dim)."""
        return self.sentences[self.set_of[rows]]


@dataclass(frozen=True, slots=True)
class Inputs:
    """What anchors are predicted from; None is a side, or a part of one, that is not there."""

    u: Tensor  # (B, width), LN(v) + LN(t)
    images: Tensor | None  # (B, image_dim) features
    texts: Tensor | None  # (B, text_dim) features
    states: Tensor | None  # (B, L, W) of the text, before its tower leaves
    tokens: Tensor | None  # (B, L) ids


@dataclass(frozen=True, slots=True)
class Anchored:
    """What comes of them."""

    anchor: Tensor  # (B, width), p
    text: Tensor | None  # (B, width), what the text gains beside the anchor
    guess: Tensor | None  # (B, C) class logits, where they are learned here


class Anchors(nn.Module):
    """Steps 2 to 4: classes from the input, anchor tokens of them, and how a text is read beside these.

    With ``out_of_fold`` the classes come from small classifiers of each side, otherwise from u. Without class names
    there is a sample token alone.
    """

    bank: Tensor  # (C, text_dim) unit vectors, E; none without class names

    def __init__(
        self, backbone: Backbone, names: Sequence[str], width: int, *, reader: "AnchorReader", out_of_fold: bool
    ) -> None:
        super().__init__()
        self.reader, self.out_of_fold = reader, out_of_fold
        self.leave, self.norm = nn.Linear(backbone.text_dim, width), nn.LayerNorm(width)
        if reader.layers:
            self.text_norm = nn.LayerNorm(backbone.text_dim)
            self.text = nn.Linear(backbone.text_dim, width, bias=False)
            nn.init.zeros_(self.text.weight)  # an untrained anchor leaves the text as it is
        if reader.category is None:
            return
        self.register_buffer("bank", class_sentences(backbone, [[name] for name in names]).cpu())
        if out_of_fold:
            self.image_classes = ClassFolds(backbone.image_dim, len(names))
            self.text_classes = ClassFolds(backbone.text_dim, len(names))
        else:
            self.query, self.scale = nn.Linear(width, backbone.text_dim), nn.Parameter(torch.tensor(10.0))
            self.bias = nn.Parameter(torch.zeros(len(names)))

    def forward(self, inputs: Inputs, classes: Tensor | None) -> Anchored:
        """``classes`` (B, C) stand in for the predicted ones: out-of-fold ones, in training."""
        mixture = guess = None
        if self.reader.category is not None:
            if classes is None and not self.out_of_fold:  # step 2
                guess = self.scale * normalize(self.query(inputs.u), dim=1) @ self.bank.T + self.bias
            mixture = weighted_mean(self._classes(inputs, classes, guess), self.bank)
        text, anchor = self.reader(mixture, inputs.u, inputs.states, inputs.tokens)
        gained = None if text is None else self.text(self.text_norm(text))
        return Anchored(self.norm(self.leave(anchor)), gained, guess)

    def _classes(self, inputs: Inputs, classes: Tensor | None, guess: Tensor | None) -> Tensor:
        """(B, C) probabilities; those of a pair are the mean of its sides'."""
        if classes is not None:
            return classes
        if guess is not None:
            return guess.sigmoid()
        sides = [] if inputs.images is None else [self.image_classes(inputs.images)]
        sides += [] if inputs.texts is None else [self.text_classes(inputs.texts)]
        return torch.stack(sides).mean(0)


class AnchorReader(nn.Module):
    """Steps 3 and 4: context, category and sample tokens, read beside the text by copies of its tower's last layers.

    ``layers=0`` reads nothing: the anchor is the sum of category and sample token, and the text stays as it is.
    """

    def __init__(
        self, backbone: Backbone, width: int, *, layers: int, context: int, category: bool, sample: bool
    ) -> None:
        super().__init__()
        tower = self._tower = backbone.text_tower
        self.layers = layers
        self.category = nn.Linear(backbone.text_dim, tower.width) if category else None  # W_e
        self.sample = nn.Linear(width, tower.width) if sample else None  # W_s
        if layers:
            self.context = nn.Parameter(0.02 * torch.randn(context, tower.width))
            self.transformer = tower.tail(layers)
            self.gate = nn.Parameter(torch.zeros(()))  # alpha

    def forward(
        self, mixture: Tensor | None, u: Tensor, states: Tensor | None, tokens: Tensor | None
    ) -> tuple[Tensor | None, Tensor]:
        """Category vector (B, text_dim), u (B, width), text states (B, L, W) and ids (B, L); None where absent.

        -> the text (B, text_dim), None where there is none or nothing was read, and its anchor (B, text_dim).
        """
        own = [self.category(mixture)] if self.category is not None and mixture is not None else []
        own += [self.sample(u)] if self.sample is not None else []
        if not self.layers:
            return None, self._tower.project(self._tower.tokens(torch.stack(own).sum(0).unsqueeze(1))[:, 0])
        anchors = [self.context.expand(len(u), -1, -1), torch.stack(own, dim=1)]  # (B, A, W) together
        length = 0 if states is None else states.shape[1]
        both = torch.cat(anchors if states is None else [states, *anchors], dim=1)
        visible = both.new_ones(both.shape[:2], dtype=torch.bool)
        if tokens is not None:
            visible[:, :length] = self._tower.visible(tokens)
        read = self._tower.tokens(self.transformer.run(both, self._tower.sees(visible, both)))
        # a': behind the context, the category token, or the sample's where it stands alone
        anchor = read[:, length + len(self.context)]
        if tokens is None:
            return None, self._tower.project(anchor)
        text = self._tower.read(read[:, :length] * (1 + self.gate * anchor.unsqueeze(1)), tokens)
        return self._tower.project(text), self._tower.project(anchor)
