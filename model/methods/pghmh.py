"""``pghmh``: PGHMH as it can be served: a pair, an image alone or a text alone, in one Hamming space, without a label.

Paper: PGHMH (Prompt-Guided Hierarchical Multi-modal Hashing; released code vindahi/PGHMH); section numbers are those of
its specification. Map: F of 2.5 -> ``fusion.LengthOneFusion``, its order (2.6) -> ``MapFusion``; 3-token attention ->
``TokenFusion``; class bank, predicted anchor and how a text is read beside it (6.2) -> ``anchors``; f and its mask
(5.5) -> ``Network.look``; heads and decoders -> ``heads``; modality dropout and consistency (5.5) -> ``masks``; level
1, inter-modal alignment, and level 2, anchor guidance -> ``Objective._levels``; level 3 -> ``_likelihood`` over
``banks.PairBank`` and ``_reconstruction``. Without ``predicted_anchors`` it is LF-lite (6.1): anchors are sentences of
the true classes, targets in training alone. ``model/evaluation/published/pghmh.py`` is the method as released, whose
codes have seen the true labels.

Known deviations:
- no label reaches an encoder; an absent side is a learned vector in u and in F, and no token at all in ``TokenFusion``;
- InfoNCE has one positive a row, and items of one class repel each other: in both levels label overlap (Jaccard) says
  how much two items attract. The same contrast acts on the codes of every length, across and within masks
  (``contrast``): it is what trains partial codes best, and the levels have small weights beside it;
- classes that enter the anchor are predicted out of fold by small classifiers of each side (``out_of_fold``), or as in
  6.2 by cosine with the class bank, with the loss L_y. Without class names the anchor has a sample token alone;
- an input layer for each side (scaling, linear, ReLU, dropout) leads to v and t, and what F gives is normalised before
  it is averaged. The text as read beside the anchor is added to the text as it is, through a map that starts at zero;
- the bank holds pair codes alone, is sampled, filled by a pass before the first step, and fresh codes of every mask
  are compared with it; logits span +-``logit_range``, similar pairs are re-weighted. The reconstructed long code is the
  bank's of that step, not of the last epoch, and that of the pair, also for a partial code;
- tanh codes are pulled to their signs (``quantisation``);
- terms are means over the lengths, and weights and rates are those of the default recipe: frozen towers of two
  families replace a tuned CLIP. Where there are no labels every item passes under every mask: its own codes are all
  that is alike.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits

from encoders.protocol import Backbone
from model.anchors import AnchorReader, Anchors, Inputs, TrueAnchors
from model.banks import Likelihood, PairBank
from model.fusion import ItemGate, MapFusion, TokenFusion
from model.hasher import Modality
from model.heads import Decoders, InputLayer, MultiLengthHeads, ResidualMLP
from model.losses import Attraction, label_overlap, overlap_contrast, quantisation
from model.masks import MASKS, Look, MaskedCodes, contrast_masks, draw_masks, partial_consistency
from model.methods import protocol
from model.methods.protocol import Features, ParameterGroup
from model.ranks import shared


@dataclass(frozen=True, slots=True)
class Config:
    """The ``[config]`` table of a recipe."""

    bits: tuple[int, ...] = (16, 32, 64, 128)  # served code lengths
    auxiliary_bits: int = 256  # the long code that others are reconstructed to, served where it is one of ``bits``
    predicted_anchors: bool = True  # LF-pred; else LF-lite
    token_attention: bool = True  # 3-token attention; else F as released
    item_gate: bool = False  # each pair weighs its sides; else half and half
    class_bank: bool = True  # E: the anchor has a category token
    sample_token: bool = True  # u: the anchor has a sample token
    out_of_fold: bool = True  # classes from out-of-fold classifiers; else from u, with L_y
    shuffled_names: bool = False  # control: every class goes by the name of another
    tuned_blocks: int = 0  # of each tower, the last ones; 0: frozen towers
    image_views: int = 1  # fixed crops and mirror images of each training image, where blocks are tuned
    prompt_layers: int = 2  # of the prompt transformer, copies of the text tower's last; 0: the anchor reads no text
    context: int = 16  # m, learned tokens
    width: int = 384
    fusion_hidden: int = 1024
    fusion_heads: int = 8
    hidden: int = 1024  # of the residual MLP R
    layers: int = 1
    dropout: float = 0.3
    standardise_images: bool = True
    standardise_texts: bool = True
    every_mask: bool = False  # each item under every mask in each step; else one drawn by these shares
    pair_share: float = 0.6
    image_share: float = 0.2
    text_share: float = 0.2
    contrast: float = 1.0
    temperature: float = 0.2  # of the contrast on codes
    within: float = 0.5  # weight of the contrast within a mask
    consistency: float = 1.0  # of partial codes with the pair's
    align: float = 0.05  # level 1, w_g
    anchor: float = 0.05  # level 2, w_l
    feature_temperature: float = 0.07
    classes: float = 1.0  # L_y
    likelihood: float = 0.3  # w_c
    auxiliary: float = 1.0  # mu, of the likelihood of the long code
    reconstruction: float = 0.05
    quantisation: float = 0.1
    logit_range: float = 16.0
    max_positive_weight: float = 8.0
    bank_rows: int = 1000
    tuned_rate: float = 0.01  # of the optimiser's: tuned blocks and prompt transformer
    fusion_rate: float = 0.1  # of the optimiser's: F

    def __post_init__(self) -> None:
        if not self.bits or any(b < 8 or b % 8 for b in _lengths(self)) or len(set(self.bits)) != len(self.bits):
            raise ValueError(f"bits: expected different multiples of 8, found {self.bits} and {self.auxiliary_bits}")
        if not 0 <= self.dropout < 1 or min(self.bank_rows, self.image_views, self.context) < 1:
            raise ValueError("expected 0 <= dropout < 1, and bank_rows, image_views and context of at least 1")
        if min(self.pair_share, self.image_share, self.text_share) < 0 or self.pair_share <= 0:
            raise ValueError(
                "expected shares of the masks of at least 0, and more for the pair: its bank is the target"
            )
        if self.predicted_anchors and not (self.class_bank or self.sample_token):
            raise ValueError("predicted_anchors: expected class_bank or sample_token, which anchors are made of")
        if self.predicted_anchors and self.out_of_fold and self.tuned_blocks:
            raise ValueError("out_of_fold: expected frozen towers, whose features it predicts from; set it to false")
        if self.reconstruction and (not self.auxiliary_bits or set(self.bits) == {self.auxiliary_bits}):
            raise ValueError(
                "reconstruction: expected auxiliary_bits, the code that is reconstructed, and bits that differ from "
                f"it, found {self.auxiliary_bits} and {self.bits}; set reconstruction to 0 to do without"
            )
        if self.token_attention and self.width % self.fusion_heads:
            raise ValueError(f"fusion_heads: expected a divisor of width {self.width}, found {self.fusion_heads}")
        if min(self.temperature, self.feature_temperature) <= 0:
            raise ValueError("temperature and feature_temperature: expected more than 0")
        if self.image_views > 1 and not self.tuned_blocks:
            raise ValueError("image_views: expected tuned_blocks, features of frozen towers have one view")


class Network(protocol.FusingNetwork, protocol.ReadingNetwork):
    """Features or states of either side or both -> f, the vector of all three masks -> shared heads."""

    def __init__(self, config: Config, backbone: Backbone, names: Sequence[str]) -> None:
        super().__init__()
        self.config, self.lengths, self.vector_dim, self.pair_dim = config, config.bits, config.width, config.width
        self.image_tail, self.image_views = config.tuned_blocks or None, config.image_views
        reads = config.tuned_blocks or (config.predicted_anchors and config.prompt_layers)
        self.text_tail = config.tuned_blocks if reads else None
        self._borrowed = (backbone,)  # in a tuple: no part of this module
        self.names = _shuffled(names) if config.shuffled_names else tuple(names)
        if config.tuned_blocks:
            self.image_blocks = backbone.image_tower.tail(config.tuned_blocks)
            self.text_blocks = backbone.text_tower.tail(config.tuned_blocks)
        self.image_input = InputLayer(backbone.image_dim, config.width, config.dropout)
        self.text_input = InputLayer(backbone.text_dim, config.width, config.dropout)
        self.image_norm, self.text_norm = nn.LayerNorm(config.width), nn.LayerNorm(config.width)
        self.no_image, self.no_text = (nn.Parameter(torch.randn(config.width)) for _ in range(2))  # e_v, e_t
        if config.predicted_anchors:
            category = config.class_bank and bool(names)
            sample = config.sample_token or not category
            sizes = {"layers": config.prompt_layers, "context": config.context}
            reader = AnchorReader(backbone, config.width, **sizes, category=category, sample=sample)
            self.anchors = Anchors(backbone, self.names, config.width, reader=reader, out_of_fold=config.out_of_fold)
        self.fusion = _fusion(config)
        if config.item_gate:
            self.gate = ItemGate(config.width)
        self.heads = MultiLengthHeads(config.width, _lengths(config))

    @classmethod
    def build(cls, config: Config, backbone: Backbone, classes: Sequence[str]) -> "Network":
        """As the constructor."""
        return cls(config, backbone, classes)

    @property
    def backbone(self) -> Backbone:
        """Frozen."""
        return self._borrowed[0]

    def parameter_groups(self) -> list[ParameterGroup]:
        """Towers' blocks, prompt transformer and F learn slowly; context, gate and absent vectors do not decay."""
        starts = [("image_blocks.", "text_blocks.", "anchors.reader.transformer."), ("fusion.",)]
        starts += [("anchors.reader.context", "anchors.reader.gate", "no_image", "no_text"), ("",)]
        rates = [self.config.tuned_rate, self.config.fusion_rate, 1.0, 1.0]
        groups: list[list[nn.Parameter]] = [[] for _ in starts]
        for name, parameter in self.named_parameters():
            if parameter.requires_grad:
                groups[next(place for place, some in enumerate(starts) if name.startswith(some))].append(parameter)
        numbered = enumerate(zip(groups, rates, strict=True))
        return [ParameterGroup(group, rate, decays=place != 2) for place, (group, rate) in numbered if group]

    def look(
        self, images: Tensor | None, texts: Tensor | None, tokens: Tensor | None, classes: Tensor | None = None
    ) -> Look:
        """Sections 2.6, 5.5 and 6; None is what an input lacks. Out-of-fold ``classes`` (B, C) are for training."""
        given = images if texts is None else texts
        if given is None:
            raise ValueError("expected an image, a text or both, found neither")
        present = images is not None, texts is not None
        if images is not None and self.config.tuned_blocks:
            images = self.image_blocks(images).features
        image = self.no_image.expand(len(given), -1) if images is None else self.image_norm(self.image_input(images))
        texts, states = self._leave_text(texts, tokens)
        entered = None if texts is None else self.text_input(texts)
        text = self.no_text.expand(len(given), -1) if entered is None else self.text_norm(entered)
        anchor = guess = None
        if self.config.predicted_anchors:
            found = self.anchors(Inputs(image + text, images, texts, states, tokens), classes)
            anchor, guess = found.anchor, found.guess
            if entered is not None and found.text is not None:
                text = self.text_norm(entered + found.text)
        image, text = self.fusion((image, text), present, anchor)
        if self.config.item_gate and all(present):
            mean = self.gate(image, text)
        else:
            there = [side for side, is_there in zip((image, text), present, strict=True) if is_there]
            mean = torch.stack(there).mean(0)
        fused = 2 * mean  # of one scale, whatever the mask
        return Look(fused, image if present[0] else None, text if present[1] else None, anchor, guess)

    def read_images(self, inputs: Tensor) -> Tensor:
        """(B, image_dim) or states -> (B, width)."""
        return self.look(inputs, None, None).fused

    def read_texts(self, inputs: Tensor, tokens: Tensor | None) -> Tensor:
        """(B, text_dim), or states and ids -> (B, width)."""
        return self.look(None, inputs, tokens).fused

    def read_pairs(self, images: Tensor, texts: Tensor, tokens: Tensor | None) -> Tensor:
        """Both -> (B, width)."""
        return self.look(images, texts, tokens).fused

    def image_logits(self, vectors: Tensor, bits: int) -> Tensor:
        """(B, width) -> (B, bits)."""
        logits: Tensor = self.heads(vectors, bits)
        return logits

    def text_logits(self, vectors: Tensor, bits: int) -> Tensor:
        """(B, width) -> (B, bits)."""
        return self.image_logits(vectors, bits)

    def pair_logits(self, vectors: Tensor, bits: int) -> Tensor:
        """(B, width) -> (B, bits)."""
        return self.image_logits(vectors, bits)

    def _leave_text(self, inputs: Tensor | None, tokens: Tensor | None) -> tuple[Tensor | None, Tensor | None]:
        """Features (B, text_dim), and the states that a prompt transformer reads."""
        if inputs is None or tokens is None:
            return inputs, None
        tower = self.backbone.text_tower
        states = self.text_blocks.run(inputs, tower.attention(tokens)) if self.config.tuned_blocks else inputs
        return tower.leave(states, tokens).features, states


class Objective(protocol.Objective):
    """Losses over the training rows, each item under a drawn mask; labels stay on this side."""

    guesses: Tensor  # (2, N, C) out-of-fold probabilities from images and from texts

    def __init__(self, config: Config, network: Network, train: Features) -> None:
        super().__init__()
        self.config = config
        self._borrowed = (network, train)  # in a tuple: neither is part of this module's state
        self.bank = PairBank(len(train), _lengths(config))
        if config.reconstruction:
            self.decoders = Decoders(config.bits, config.auxiliary_bits)
        self.folded = config.predicted_anchors and config.class_bank and config.out_of_fold and bool(network.names)
        if self.folded and train.labels is not None:
            self.register_buffer("guesses", train.labels.new_zeros(2, *train.labels.shape))
        if config.anchor and train.labels is not None:
            target_dim = config.width
            if not config.predicted_anchors:
                self.true_anchors = TrueAnchors(network.backbone, network.names, train.labels)
                target_dim = network.backbone.text_dim
            mlp = ResidualMLP(config.width, config.hidden, config.layers, config.dropout)
            self.projection = nn.Sequential(mlp, nn.Linear(config.width, target_dim))  # R

    def begin(self) -> None:
        """Fit scalings and class predictors, then fill the bank with one pass."""
        config, (network, train) = self.config, self._borrowed
        if config.standardise_images:
            network.image_input.scaling.fit(train.images)
        if config.standardise_texts:
            network.text_input.scaling.fit(train.texts)
        if self.folded and train.labels is not None:
            folds = (network.anchors.image_classes, train.images), (network.anchors.text_classes, train.texts)
            for seed, (classes, features) in enumerate(folds):
                self.guesses[seed].copy_(classes.fit(features, train.labels, seed=seed))
        with torch.no_grad():
            for rows in torch.arange(len(train), device=train.images.device).split(protocol.READ):
                look = self._look(Modality.PAIR, rows)
                self.bank.write(rows, self._codes(look))

    def losses(self, rows: Tensor, generator: torch.Generator) -> dict[str, Tensor]:
        """Named terms for the training rows (B,), each a mean over the code lengths."""
        config, labels, rows = self.config, self._borrowed[1].labels, rows.to(self.bank.of(self.config.bits[0]).device)
        crop = int(torch.randint(config.image_views, (), generator=generator))
        shares = (config.pair_share, config.image_share, config.text_share)
        every = config.every_mask or labels is None
        drawn = dict.fromkeys(MASKS, rows) if every else draw_masks(rows, shares, generator)
        looks = {mask: self._look(mask, own, crop) for mask, own in drawn.items()}
        masked = [MaskedCodes(mask, drawn[mask], self._codes(look)) for mask, look in looks.items()]
        for one in masked:
            if one.mask is Modality.PAIR:
                self.bank.write(one.rows, one.codes)
        joined = torch.cat([one.rows for one in masked])
        codes = {bits: torch.cat([one.codes[bits] for one in masked]) for bits in self.bank.lengths}
        contrast = contrast_masks(masked, self._overlap, config.temperature, config.within)
        signs = [quantisation(own.abs(), torch.ones_like(own)) for own in codes.values()]
        terms = {
            "contrast": config.contrast * contrast,
            "quantisation": config.quantisation * torch.stack(signs).mean(),
        }
        consistency = partial_consistency(masked, self.bank)
        if consistency is not None:
            terms["consistency"] = config.consistency * consistency
        if config.reconstruction:
            terms["reconstruction"] = config.reconstruction * self._reconstruction(joined, codes)
        if labels is None:
            return terms
        return terms | self._likelihood(joined, codes, labels, generator) | self._levels(looks, drawn, labels)

    def _look(self, mask: Modality, rows: Tensor, crop: int = 0) -> Look:
        """Training rows as an encoder sees them, but that predicted classes are out of fold."""
        (network, train), places, classes = self._borrowed, rows.tolist(), self._guessed(mask, rows)
        images = None if mask is Modality.TEXT else protocol.image_inputs(network, train, places, crop)
        looks: list[Look] = []

        def look(*given: Tensor | None) -> Tensor:
            looks.append(network.look(*given))
            return looks[-1].joined()

        def read(states: Tensor, tokens: Tensor, owner: Tensor) -> Tensor:
            own = [None if side is None else side[owner] for side in (images, classes)]
            return look(own[0], states, tokens, own[1])

        if mask is Modality.IMAGE:
            joined = shared(look)(images, None, None, classes)
        elif network.text_tail is None or train.states is None:
            joined = shared(look)(images, train.texts[rows], None, classes)
        else:
            joined = train.states.text_batch(places).vectors(shared(read))
        return looks[0].parted(joined)

    def _guessed(self, mask: Modality, rows: Tensor) -> Tensor | None:
        if not self.folded:
            return None
        both = self.guesses[:, rows]
        return both.mean(0) if mask is Modality.PAIR else both[0 if mask is Modality.IMAGE else 1]

    def _codes(self, look: Look) -> dict[int, Tensor]:
        heads = self._borrowed[0].heads
        return {bits: heads(look.fused, bits).tanh() for bits in self.bank.lengths}

    def _overlap(self, a: Tensor, b: Tensor) -> Tensor:
        """(A, B): how alike the items of two lists of rows should be; one without labels is like itself alone."""
        labels = self._borrowed[1].labels
        own = (a[:, None] == b).float()
        return own if labels is None else torch.maximum(label_overlap(labels[a], labels[b]), own)

    def _reconstruction(self, rows: Tensor, codes: Mapping[int, Tensor]) -> Tensor:
        """Level 3: from each short code the signs of the pair's long one."""
        target = torch.where(self.bank.of(self.config.auxiliary_bits)[rows] > 0, 1.0, -1.0)
        return torch.stack([quantisation(self.decoders(codes[b], b), target) for b in self.decoders.lengths]).mean()

    def _likelihood(
        self, rows: Tensor, codes: dict[int, Tensor], labels: Tensor, generator: torch.Generator
    ) -> dict[str, Tensor]:
        """Level 3: codes of every mask against the bank of pairs, the long code at the weight mu."""
        config = self.config
        if not config.likelihood:
            return {}
        how = Likelihood(config.bank_rows, config.logit_range, config.max_positive_weight)
        found = self.bank.likelihood(rows, codes, labels, generator, how)
        weighted = [value * (config.auxiliary if bits == config.auxiliary_bits else 1) for bits, value in found.items()]
        return {"likelihood": config.likelihood * torch.stack(weighted).mean()} if weighted else {}

    def _levels(
        self, looks: Mapping[Modality, Look], drawn: Mapping[Modality, Tensor], labels: Tensor
    ) -> dict[str, Tensor]:
        """Levels 1 and 2 on features, and L_y; labelled items alone."""
        config, tau = self.config, self.config.feature_temperature
        found: dict[str, list[Tensor]] = {"align": [], "anchor": [], "classes": []}
        for mask, look in looks.items():
            known = labels[drawn[mask]].any(1)
            rows = drawn[mask][known]
            if not len(rows):
                continue
            alike = Attraction.of(self._overlap(rows, rows))
            if look.image is not None and look.text is not None:
                found["align"].append(overlap_contrast(look.image[known], look.text[known], alike, tau))
            if config.anchor:
                anchor = self.true_anchors(rows) if look.anchor is None else look.anchor[known]
                found["anchor"].append(overlap_contrast(self.projection(look.fused)[known], anchor, alike, tau))
            if look.guess is not None:
                found["classes"].append(binary_cross_entropy_with_logits(look.guess[known], labels[rows]))
        return {name: getattr(config, name) * torch.stack(some).mean() for name, some in found.items() if some}


def _fusion(config: Config) -> TokenFusion | MapFusion:
    dropout = min(config.dropout, 0.1)
    if config.token_attention:
        return TokenFusion(config.width, heads=config.fusion_heads, hidden=config.fusion_hidden, dropout=dropout)
    return MapFusion(config.width, hidden=config.fusion_hidden, dropout=dropout)


def _shuffled(names: Sequence[str]) -> tuple[str, ...]:
    """Every class by the name of the one before it in a drawn order."""
    order = torch.randperm(len(names), generator=torch.Generator().manual_seed(0)).tolist()
    other = dict(zip(order, [*order[1:], *order[:1]], strict=True))
    return tuple(names[other[place]] for place in range(len(names)))


def _lengths(config: Config) -> tuple[int, ...]:
    return tuple(dict.fromkeys([*config.bits, *([config.auxiliary_bits] if config.auxiliary_bits else [])]))
