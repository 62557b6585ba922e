"""Prompts of class names, and how a text is read beside one.

Paper of ``AffinityPrompt``: PromptHash (CVPR 2025), text affinity-aware prompt (TAAP). A prompt enters as word
embeddings without positions plus one learned context vector a position; copies of the text tower's last layers then
read text and prompt together.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pad_sequence

from encoders.protocol import Backbone

LEAD_IN = "This is an image containing"


def class_prompt(names: Sequence[str]) -> str:
    """``This is an image containing a, b and c.``, underscores as blanks; the lead-in alone where there is no name."""
    words = [name.replace("_", " ") for name in names]
    if not words:
        return LEAD_IN
    *first, last = words
    return f"{LEAD_IN} {', '.join(first)} and {last}." if first else f"{LEAD_IN} {last}."


def prompt_tokens(backbone: Backbone, prompts: Sequence[str]) -> Tensor:
    """(B, P) ids of prompts, 0 where padded; of one that is longer than the context, the first chunk."""
    rows = [torch.tensor(backbone.tokenize(prompt).chunks[0]) for prompt in prompts]
    return pad_sequence(rows, batch_first=True)


def class_words(backbone: Backbone, names: Sequence[str]) -> Tensor:
    """(C, W): mean word embedding of each class name, special tokens left out."""
    tower = backbone.text_tower
    rows = [torch.tensor(backbone.tokenize(name.replace("_", " ")).chunks[0][1:-1]) for name in names]
    with torch.no_grad():
        words = [tower.words(ids.unsqueeze(0).to(backbone.device)).mean(1) for ids in rows]
    return torch.cat([torch.empty(0, tower.width, device=backbone.device), *words])


def class_bank(backbone: Backbone, names: Sequence[str]) -> Tensor:
    """(C, text_dim): the backbone's text features of each class's own prompt."""
    rows = [prompt_tokens(backbone, [class_prompt([name])]).to(backbone.device) for name in names]
    with torch.no_grad():
        features = [backbone.text_features(row) for row in rows]
    return torch.cat([torch.empty(0, backbone.text_dim, device=backbone.device), *features])


def weighted_mean(weights: Tensor, vectors: Tensor) -> Tensor:
    """(B, C) non-negative weights of classes and their (C, D) vectors -> (B, D); zeros where all weights are zero."""
    return weights @ vectors / weights.sum(1, keepdim=True).clamp(min=1e-6)


class AffinityPrompt(nn.Module):
    """A text's states beside a prompt -> the text's vector with the prompt worked in, and the prompt's own.

    The prompt is the lead-in and, where classes are given, one soft word for all of them. Where the released code reads
    the prompt at the caption's end, unprojected, and multiplies: here the prompt is read at its own end and both are
    projected, padding is not seen, and a learned gate that starts at 0 scales the product, so that an untrained prompt
    adds nothing to what the layers made of the text.
    """

    ids: Tensor  # (1, P): of the lead-in, special tokens included
    words: Tensor  # (1, P, W): their embeddings
    class_words: Tensor  # (C, W)

    def __init__(self, backbone: Backbone, names: Sequence[str], layers: int) -> None:
        super().__init__()
        self._tower = backbone.text_tower
        ids = prompt_tokens(backbone, [class_prompt([])])
        with torch.no_grad():
            words = self._tower.words(ids.to(backbone.device)).cpu()
        self.register_buffer("ids", ids)
        self.register_buffer("words", words)
        self.register_buffer("class_words", class_words(backbone, names).cpu())
        self.context = nn.Parameter(0.02 * torch.randn(ids.shape[1] + 1, self._tower.width))
        self.transformer = self._tower.tail(layers)
        self.gate = nn.Parameter(torch.zeros(()))

    def forward(self, states: Tensor, tokens: Tensor, classes: Tensor | None) -> tuple[Tensor, Tensor]:
        """Text states (B, L, W), ids (B, L) and weights of classes (B, C) -> text (B, D), prompt (B, D)."""
        words, ids = self._prompt(len(tokens), classes)
        own = words + self.context[: words.shape[1]]
        both = torch.cat([states, own], dim=1)
        visible = torch.cat([self._tower.visible(tokens), self._tower.visible(ids)], dim=1)
        read = self._tower.tokens(self.transformer.run(both, self._tower.sees(visible, both)))
        text = self._tower.read(read[:, : tokens.shape[1]], tokens)
        prompt = self._tower.read(read[:, tokens.shape[1] :], ids)
        return self._tower.project(text * (1 + self.gate * prompt)), self._tower.project(prompt)

    def _prompt(self, batch: int, classes: Tensor | None) -> tuple[Tensor, Tensor]:
        """(B, P, W) and (B, P); the soft word stands before the last token, which a tower may read at."""
        words, ids = self.words.expand(batch, -1, -1), self.ids.expand(batch, -1)
        if classes is None:
            return words, ids
        soft = weighted_mean(classes, self.class_words).unsqueeze(1)  # (B, 1, W)
        slot = ids[:, 1:2]  # any id but padding
        return (
            torch.cat([words[:, :-1], soft, words[:, -1:]], dim=1),
            torch.cat([ids[:, :-1], slot, ids[:, -1:]], dim=1),
        )
