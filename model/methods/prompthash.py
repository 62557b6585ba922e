"""``prompthash``: PromptHash as it can be served. One modality, no label, no company: PromptHash-U.

Paper: PromptHash (CVPR 2025, arXiv 2503.16064). Map: TAAP -> ``prompts.AffinityPrompt``; AGSF ->
``fusion.GatedFusion``; shared residual MLP and hash encoders of several lengths -> ``heads``; affinity terms over
buffers and quantisation -> ``banks.CodeBanks``; reconstruction of the auxiliary code -> ``Objective.decoders``; PACL
and the global image-text term -> ``overlap_contrast`` on the codes; tuned last blocks of both towers ->
``tuned_blocks``. ``model/evaluation/published/prompthash.py`` is the method as released, whose codes have seen the true
labels.

Known deviations, each because the released encoder needs the true labels, the other modality and its batch:
- AGSF scans the two sides of one item, not a batch; the side that a lone input lacks is a learned vector, as is the
  prompt of an image;
- a text is read beside a prompt without class names: lead-in and learned context. With ``predicted_prompt`` classes
  that are predicted from the same modality enter both modalities; training rows get out-of-fold predictions;
- what is averaged is normalised first; the prompt is read at its own end, padding is not seen, layers of the prompt
  transformer are copies of the tower's, and the context is trained;
- PACL and the global term have one positive a row, and items of one class repel each other: here label overlap
  (Jaccard) says how much two items attract, on the codes of every length, across and within modalities. Without
  ``pacl`` the released global term is left. The affinity temperature is constant: the released one is inert;
- one input layer per modality, and weights and rates of the default recipe, because frozen towers of two families
  replace a tuned CLIP;
- a fused teacher that sees both modalities and the true class names (``teacher``) exists in training alone.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from encoders.protocol import Backbone
from model.banks import CodeBanks, Codes, Likelihood
from model.class_folds import ClassFolds
from model.fusion import GatedFusion
from model.heads import InputLayer, InputScaling, MultiLengthHeads, ResidualMLP
from model.losses import Attraction, info_nce, label_overlap, overlap_contrast, quantisation
from model.methods import protocol
from model.methods.protocol import Features, ParameterGroup
from model.prompts import AffinityPrompt, class_bank, weighted_mean
from model.ranks import shared


@dataclass(frozen=True, slots=True)
class Config:
    """The ``[config]`` table of a recipe."""

    bits: tuple[int, ...] = (16, 32, 64, 128)  # served code lengths
    auxiliary_bits: int = 256  # trained beside them, never served; 0 for none
    taap: bool = True  # texts are read beside a prompt
    agsf: bool = True  # gated fusion with the absent side and the prompt
    pacl: bool = True  # label-overlap contrast on codes; else one-positive InfoNCE on features
    predicted_prompt: bool = False  # classes predicted from the same modality enter as its prompt, where there are some
    tuned_blocks: int = 0  # of each tower, the last ones; 0: frozen towers
    image_views: int = 1  # fixed crops and mirror images of each training image, where blocks are tuned
    prompt_layers: int = 2  # of the prompt transformer, copies of the text tower's last
    width: int = 384  # of the shared features
    hidden: int = 1024  # of the residual MLP
    layers: int = 1  # of the residual MLP
    fusion_hidden: int = 2048  # of AGSF's transformer layer
    fusion_heads: int = 4
    dropout: float = 0.3
    standardise_images: bool = True
    standardise_texts: bool = True
    contrast: float = 1.0
    temperature: float = 0.2  # of the contrast on codes
    within: float = 0.5  # share of the contrast within each modality
    info_nce: float = 0.1  # without PACL: global image-text term on features
    feature_temperature: float = 0.07
    local: float = 0.0  # contrast of features with prompts of the true classes, in training
    intra: float = 0.0  # likelihood within a modality
    inter: float = 0.0  # likelihood across modalities
    logit_range: float = 16.0
    max_positive_weight: float = 8.0
    bank_rows: int = 1000
    quantisation: float = 0.1
    reconstruction: float = 0.0
    teacher: float = 0.0  # distillation from the fused teacher
    tuned_rate: float = 0.01  # of the optimiser's: tuned blocks and prompt transformer
    fusion_rate: float = 0.1  # of the optimiser's: AGSF

    def __post_init__(self) -> None:
        lengths = _lengths(self)
        if not self.bits or any(bits < 8 or bits % 8 for bits in lengths) or len(set(lengths)) != len(lengths):
            raise ValueError(f"bits and auxiliary_bits: expected different positive multiples of 8, found {lengths}")
        if not 0 <= self.dropout < 1:
            raise ValueError(f"dropout: expected 0 <= dropout < 1, found {self.dropout}")
        if min(self.bank_rows, self.image_views) < 1 or min(self.tuned_blocks, self.prompt_layers) < 0:
            raise ValueError("expected bank_rows and image_views of at least 1, tuned_blocks and prompt_layers of 0")
        if self.predicted_prompt and self.tuned_blocks:
            raise ValueError(
                "predicted_prompt: expected frozen towers, whose features it predicts from; tuned_blocks=0"
            )
        if self.reconstruction and not self.auxiliary_bits:
            raise ValueError("reconstruction: expected auxiliary_bits, the code that is reconstructed; found 0")
        if self.teacher and (self.tuned_blocks or not self.agsf):
            raise ValueError("teacher: expected agsf, which fuses its modalities, and frozen towers; tuned_blocks=0")
        if 2 * self.width % self.fusion_heads:
            raise ValueError(f"fusion_heads: expected a divisor of {2 * self.width}, found {self.fusion_heads}")
        if min(self.temperature, self.feature_temperature) <= 0:
            raise ValueError("temperature and feature_temperature: expected more than 0")
        if self.image_views > 1 and not self.tuned_blocks:
            raise ValueError("image_views: expected tuned_blocks, features of frozen towers have one view")


class LoneFusion(nn.Module):
    """AGSF with learned vectors for whatever an input lacks; all are (B, width)."""

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.fusion = GatedFusion(
            config.width, heads=config.fusion_heads, hidden=config.fusion_hidden, dropout=min(config.dropout, 0.1)
        )
        self.own_norm, self.fused_norm = nn.LayerNorm(config.width), nn.LayerNorm(config.width)
        self.no_image, self.no_text, self.no_prompt = (nn.Parameter(torch.randn(config.width)) for _ in range(3))

    def image(self, own: Tensor, prompt: Tensor | None, text: Tensor | None = None) -> Tensor:
        """i = (i0 + i2) / 2 with (i1, _) = F(i0, t0) and (i2, _) = F(i1, p0); section 2.5."""
        own, other = self.own_norm(own), self._or(text, self.no_text, own)
        first, _ = self.fusion(own, other)
        second, _ = self.fusion(first, self.no_prompt.expand_as(own) if prompt is None else prompt)
        half: Tensor = 0.5 * (own + self.fused_norm(second))
        return half

    def text(self, own: Tensor, image: Tensor | None = None) -> Tensor:
        """t = (t0 + t1) / 2 with (_, t1) = F(i0, t0)."""
        own, other = self.own_norm(own), self._or(image, self.no_image, own)
        _, fused = self.fusion(other, own)
        half: Tensor = 0.5 * (own + self.fused_norm(fused))
        return half

    def _or(self, given: Tensor | None, absent: Tensor, like: Tensor) -> Tensor:
        return absent.expand_as(like) if given is None else self.own_norm(given)


class Network(protocol.ReadingNetwork):
    """Towers' features or states -> shared features, which are the vectors -> heads, one for each code length."""

    class_bank: Tensor  # (C, text_dim)

    def __init__(self, config: Config, backbone: Backbone, names: Sequence[str]) -> None:
        super().__init__()
        self.config, self.lengths, self.vector_dim = config, config.bits, config.width
        self.image_tail, self.image_views = config.tuned_blocks or None, config.image_views
        self.text_tail = config.tuned_blocks if config.taap or config.tuned_blocks else None
        self._text_tower = None if self.text_tail is None else backbone.text_tower
        if config.tuned_blocks:
            self.image_blocks = backbone.image_tower.tail(config.tuned_blocks)
            self.text_blocks = backbone.text_tower.tail(config.tuned_blocks)
        if config.taap:
            self.prompt = AffinityPrompt(backbone, names, config.prompt_layers)
        self.predicts = config.predicted_prompt and len(names) > 0  # without classes there is nothing to predict
        if self.predicts:
            self.image_classes = ClassFolds(backbone.image_dim, len(names))
            self.text_classes = ClassFolds(backbone.text_dim, len(names))
        if _has_class_prompts(config):
            self.register_buffer("class_bank", class_bank(backbone, names).cpu())
            self.prompt_scaling = InputScaling(backbone.text_dim)
            self.prompt_input = InputLayer(backbone.text_dim, config.width, config.dropout)
        predicted = backbone.text_dim if self.predicts else 0
        self.image_input = InputLayer(backbone.image_dim + predicted, config.width, config.dropout)
        self.text_input = InputLayer(backbone.text_dim + predicted, config.width, config.dropout)
        if config.agsf:
            self.lone = LoneFusion(config)
        self.mlp = ResidualMLP(config.width, config.hidden, config.layers, config.dropout)
        self.heads = MultiLengthHeads(config.width, _lengths(config))

    @classmethod
    def build(cls, config: Config, backbone: Backbone, names: Sequence[str]) -> "Network":
        """As the constructor."""
        return cls(config, backbone, names)

    def parameter_groups(self) -> list[ParameterGroup]:
        """Towers' blocks and AGSF learn slowly; context and gate do not decay."""
        slow = [("image_blocks.", "text_blocks.", "prompt.transformer."), ("lone.fusion.",), ("prompt.",), ("",)]
        rates = [self.config.tuned_rate, self.config.fusion_rate, 1.0, 1.0]
        groups: list[list[nn.Parameter]] = [[] for _ in slow]
        for name, parameter in self.named_parameters():
            if parameter.requires_grad:
                groups[next(place for place, starts in enumerate(slow) if name.startswith(starts))].append(parameter)
        return [
            ParameterGroup(group, rate, decays=place != 2)
            for place, (group, rate) in enumerate(zip(groups, rates, strict=True))
            if group
        ]

    def read_images(self, inputs: Tensor, classes: Tensor | None = None) -> Tensor:
        """``classes`` (B, C) stand in for the network's own predictions: out-of-fold ones, in training."""
        own, prompt = self.enter_image(inputs, classes)
        shared: Tensor = self.mlp(self.lone.image(own, prompt) if self.config.agsf else own)
        return shared

    def read_texts(self, inputs: Tensor, tokens: Tensor | None, classes: Tensor | None = None) -> Tensor:
        """``classes`` as in ``read_images``."""
        own = self.enter_text(inputs, tokens, classes)
        shared: Tensor = self.mlp(self.lone.text(own) if self.config.agsf else own)
        return shared

    def enter_image(self, inputs: Tensor, classes: Tensor | None) -> tuple[Tensor, Tensor | None]:
        """i0 and p0, (B, width) each; no prompt where there are no classes to make it of."""
        features = self.image_blocks(inputs).features if self.config.tuned_blocks else inputs
        if classes is None and self.predicts:
            classes = self.image_classes(features)
        vector = None if classes is None else self.class_vector(classes)
        own: Tensor = self.image_input(self._beside(features, vector))
        return own, None if vector is None else self.prompt_input(vector)

    def enter_text(self, inputs: Tensor, tokens: Tensor | None, classes: Tensor | None) -> Tensor:
        """t0 (B, width), by TAAP where it is on."""
        if tokens is None or self._text_tower is None:
            features, states = inputs, None
        else:
            states = inputs
            if self.config.tuned_blocks:
                states = self.text_blocks.run(inputs, self._text_tower.attention(tokens))
            features = self._text_tower.leave(states, tokens).features
        if classes is None and self.predicts:
            classes = self.text_classes(features)
        vector = None if classes is None else self.class_vector(classes)
        if states is not None and tokens is not None and self.config.taap:
            features, _ = self.prompt(states, tokens, classes)
        own: Tensor = self.text_input(self._beside(features, vector))
        return own

    def class_vector(self, classes: Tensor) -> Tensor:
        """(B, C) weights of classes -> (B, text_dim), the mean of their prompts' features, standardised."""
        vector: Tensor = self.prompt_scaling(weighted_mean(classes, self.class_bank))
        return vector

    def image_logits(self, vectors: Tensor, bits: int) -> Tensor:
        """(B, width) -> (B, bits)."""
        logits: Tensor = self.heads(vectors, bits)
        return logits

    def text_logits(self, vectors: Tensor, bits: int) -> Tensor:
        """(B, width) -> (B, bits)."""
        logits: Tensor = self.heads(vectors, bits)
        return logits

    def _beside(self, features: Tensor, vector: Tensor | None) -> Tensor:
        if not self.predicts or vector is None:
            return features
        return torch.cat([features, vector], dim=1)


class Objective(protocol.Objective):
    """Losses over the training rows, on lone codes; labels and the fused teacher stay on this side."""

    image_guesses: Tensor  # (N, C) out-of-fold probabilities
    text_guesses: Tensor

    def __init__(self, config: Config, network: Network, train: Features) -> None:
        super().__init__()
        self.config = config
        self._borrowed = (network, train)  # in a tuple: neither is part of this module's state
        self.banks = CodeBanks(len(train), _lengths(config))
        if config.reconstruction:
            self.decoders = nn.ModuleDict({str(bits): _decoder(bits, config.auxiliary_bits) for bits in config.bits})
        if network.predicts and train.labels is not None:
            self.register_buffer("image_guesses", torch.zeros_like(train.labels))
            self.register_buffer("text_guesses", torch.zeros_like(train.labels))

    def begin(self) -> None:
        """Fit scalings and class predictors, then fill the banks with one pass."""
        config, (network, train) = self.config, self._borrowed
        if config.standardise_images:
            network.image_input.scaling.fit(train.images)
        if config.standardise_texts:
            network.text_input.scaling.fit(train.texts)
        if train.labels is not None and _has_class_prompts(config):
            network.prompt_scaling.fit(weighted_mean(train.labels, network.class_bank))
        if train.labels is not None and network.predicts:
            self.image_guesses.copy_(network.image_classes.fit(train.images, train.labels, seed=0))
            self.text_guesses.copy_(network.text_classes.fit(train.texts, train.labels, seed=1))
        with torch.no_grad():
            for start in range(0, len(train), protocol.READ):
                rows = torch.arange(start, min(start + protocol.READ, len(train)))
                self.banks.write(rows, self._codes(*self._read(rows)))

    def losses(self, rows: Tensor, generator: torch.Generator) -> dict[str, Tensor]:
        """Named terms for the training rows (B,), each a mean over the code lengths."""
        config, labels = self.config, self._borrowed[1].labels
        view = int(torch.randint(config.image_views, (), generator=generator))
        image, text = self._read(rows, view)
        codes = self._codes(image, text)
        self.banks.write(rows, codes)
        overlap = self._overlap(rows)
        terms = {"quantisation": config.quantisation * self.banks.quantisation(rows, codes)}
        if config.info_nce:
            terms["info_nce"] = config.info_nce * info_nce(image, text, config.feature_temperature)
        if config.pacl:
            terms["contrast"] = config.contrast * self._contrast(codes, overlap)
        if config.reconstruction:
            terms["reconstruction"] = config.reconstruction * self._reconstruction(rows, codes)
        if labels is None:
            return terms
        if config.inter or config.intra:
            terms |= self._likelihood(rows, codes, labels, generator)
        if config.local:
            terms["local"] = config.local * self._local((image, text), labels[rows], overlap)
        if config.teacher:
            terms |= self._teacher(rows, codes, labels[rows], overlap)
        return terms

    def _read(self, rows: Tensor, view: int = 0) -> tuple[Tensor, Tensor]:
        """Lone vectors (B, width) of images and texts, with out-of-fold predictions where predictions enter."""
        network, train = self._borrowed
        states, guessed = train.states, network.predicts
        if network.image_tail is None or states is None:
            images = train.images[rows]
        else:
            images = states.image_batch(rows.tolist(), view)
        image = shared(network.read_images)(images, self.image_guesses[rows] if guessed else None)
        guesses = self.text_guesses[rows] if guessed else None
        if network.text_tail is None or states is None:
            return image, shared(network.read_texts)(train.texts[rows], None, guesses)

        def read(states: Tensor, tokens: Tensor, owner: Tensor) -> Tensor:
            return network.read_texts(states, tokens, None if guesses is None else guesses[owner])

        return image, states.text_batch(rows.tolist()).vectors(shared(read))

    def _codes(self, image: Tensor, text: Tensor) -> Codes:
        network, _ = self._borrowed
        return {
            bits: (network.heads(image, bits).tanh(), network.heads(text, bits).tanh()) for bits in self.banks.lengths
        }

    def _overlap(self, rows: Tensor) -> Tensor:
        """(B, B): how alike items should be. An unlabelled one is like itself alone."""
        labels = self._borrowed[1].labels
        own = torch.eye(len(rows), device=rows.device)
        return own if labels is None else torch.maximum(label_overlap(labels[rows], labels[rows]), own)

    def _contrast(self, codes: Codes, overlap: Tensor) -> Tensor:
        """PACL on codes: across modalities, and within each at the weight ``within``."""
        tau, alike, terms = self.config.temperature, Attraction.of(overlap), []
        for image, text in codes.values():
            own = overlap_contrast(image, image, alike, tau) + overlap_contrast(text, text, alike, tau)
            terms.append(overlap_contrast(image, text, alike, tau) + self.config.within * own)
        return torch.stack(terms).mean()

    def _reconstruction(self, rows: Tensor, codes: Codes) -> Tensor:
        """Section 3.4: from each served code the signs of the auxiliary one."""
        target = self.banks.signs(rows, self.config.auxiliary_bits)
        terms = [
            quantisation(self.decoders[str(bits)](side), target) for bits in self.config.bits for side in codes[bits]
        ]
        return torch.stack(terms).mean()

    def _likelihood(self, rows: Tensor, codes: Codes, labels: Tensor, generator: torch.Generator) -> dict[str, Tensor]:
        """Section 3.1."""
        how = Likelihood(self.config.bank_rows, self.config.logit_range, self.config.max_positive_weight)
        found = self.banks.likelihood(rows, codes, labels, generator, how)
        if found is None:
            return {}
        return {"inter": self.config.inter * found[0], "intra": self.config.intra * found[1]}

    def _local(self, sides: tuple[Tensor, Tensor], labels: Tensor, overlap: Tensor) -> Tensor:
        """Section 3.3, local: features against the prompt of the true classes, which training items may know."""
        network, _ = self._borrowed
        prompt = network.mlp(network.prompt_input(network.class_vector(labels)))
        known = labels.any(1)
        alike, tau = Attraction.of(overlap[known][:, known]), self.config.feature_temperature
        terms = [overlap_contrast(side[known], prompt[known], alike, tau) for side in sides]
        return torch.stack(terms).mean()

    def _teacher(self, rows: Tensor, codes: Codes, labels: Tensor, overlap: Tensor) -> dict[str, Tensor]:
        """5.5, item 4: codes that saw both modalities and the true classes, and the lone codes' distance to them."""
        network, train = self._borrowed
        image, prompt = network.enter_image(train.images[rows], labels)
        if network.text_tail is None or train.states is None:
            text = network.enter_text(train.texts[rows], None, labels)
        else:
            batch = train.states.text_batch(rows.tolist())
            text = batch.vectors(lambda states, tokens, owner: network.enter_text(states, tokens, labels[owner]))
        fused = self._codes(
            network.mlp(network.lone.image(image, prompt, text)), network.mlp(network.lone.text(text, image))
        )
        terms = [
            quantisation(own, taught.detach())
            for bits in codes
            for own, taught in zip(codes[bits], fused[bits], strict=True)
        ]
        return {
            "teacher": self._contrast(fused, overlap),
            "distillation": self.config.teacher * torch.stack(terms).mean(),
        }


def _decoder(bits: int, auxiliary_bits: int) -> nn.Module:
    """Dec_K of section 2.5."""
    return nn.Sequential(
        nn.Linear(bits, auxiliary_bits), nn.ReLU(), nn.Linear(auxiliary_bits, auxiliary_bits), nn.Tanh()
    )


def _has_class_prompts(config: Config) -> bool:
    return config.predicted_prompt or config.teacher > 0 or config.local > 0


def _lengths(config: Config) -> tuple[int, ...]:
    return (*config.bits, config.auxiliary_bits) if config.auxiliary_bits else config.bits
