"""``soda``: a teacher of images and label prompts, then a student of texts in the teacher's image Hamming space.

Paper: SODA (arXiv 2510.09664). Its structure is known, its formulas and constants are not: those here are of our
specification (section numbers are its own), so a model is SODA-style, and no figure of it is one of the paper's. Map:
label prompt -> ``label_prompts``; hash heads H_v, H_l, H_t (section 2) -> ``branches``; Theta and NLL (3) ->
``losses.agreement``, ``pair_likelihood``; teacher L_T (3.1) -> ``Objective._pair_terms``; student L_S (3.2) ->
``_student_terms`` over the exact ``TeacherBank``; order of one run (4) -> ``stages`` and ``begin_stage``.

Known deviations; the first was measured better on the default towers, the others suit them:
- contrast toward label overlap (Jaccard) on the codes of every length, in both stages (``contrast``), beside or in
  place of the likelihood (``w_x``, ``w_n``): a label space that the likelihood makes holds less of the labels;
- an input layer for each branch (scaling, linear, ReLU, dropout) leads into the residual block, without tanh before it;
- terms are means over the lengths, all of which one run trains; both stages share the run's epochs (``teacher_share``);
- where no item has labels there is no teacher: image and text learn jointly, and an item is like itself alone.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.functional import normalize

from encoders.protocol import Backbone
from model.branches import Branch, LabelBranch, Sizes
from model.errors import RecipeError
from model.label_prompts import (
    FORMS,
    LEARNED,
    TrainingPrompts,
    fitting_sentences,
    label_sentences,
    mean_prompt,
    sentence_features,
)
from model.likeness import Likeness
from model.losses import (
    Attraction,
    agreement,
    balance,
    info_nce,
    overlap_contrast,
    pair_likelihood,
    quantisation,
)
from model.methods import protocol
from model.methods.protocol import Features, ParameterGroup
from model.ranks import shared
from model.teacher_bank import Side, TeacherBank, signs

Term = Callable[[int], Tensor]  # of one code length
WEIGHTS = {  # term -> where the recipe has its weight
    "likelihood": "w_x",
    "within": "w_n",
    "gap": "w_g",
    "quantisation": "w_q",
    "balance": "w_b",
    "contrast": "contrast",
}
CHOICES = {
    "label_prompt": FORMS,
    "head": ("residual", "linear"),
    "theta": ("len", "half", "cos"),
    "similarity": ("binary", "jaccard"),
    "gap_at": ("code", "logit", "feature"),
    "bank": ("real", "binary", "both"),
}


@dataclass(frozen=True, slots=True)
class Config:
    """The ``[config]`` table of a recipe; names of the specification are kept."""

    bits: tuple[int, ...] = (16, 32, 64, 128)  # served code lengths
    auxiliary_bits: int = 0  # trained beside them, never served; 0 for none
    tuned_blocks: int = 0  # of each tower, the last ones; 0: frozen towers
    image_views: int = 1  # fixed crops and mirror images of each training image, where blocks are tuned
    tuned_rate: float = 0.01  # of the optimiser's, for tuned blocks
    label_prompt: str = "joined"  # or image_containing, bare, per_class, learned
    head: str = "residual"  # or linear: one linear map, factored through ``width``
    width: int = 512
    hidden: int = 1024  # of the residual block
    layers: int = 1
    dropout: float = 0.3
    standardise_images: bool = True
    standardise_texts: bool = True  # label prompts as well
    teacher: bool = True  # else image and text learn jointly, in one stage, without label prompts
    teacher_share: float = 0.5  # of the epochs, for stage 1
    shared_label_head: bool = False  # labels pass the text branch
    init_text_from_label: bool = True
    keywords: bool = True  # the label branch stays in the artifact and serves keyword queries
    image_rate: float = 0.0  # of the optimiser's, for the image branch in stage 2; 0: frozen
    label_bank: bool = False  # stage 2 also compares texts with the teacher's label codes
    keep_unlabelled: bool = False  # unlabelled items take part in the terms of stage 2 that need no labels
    similarity: str = "binary"  # S, or jaccard
    theta: str = "len"  # or half, cos
    gap_at: str = "code"  # or logit, feature
    bank: str = "real"  # student's target in X': f*; or binary, b*; or both
    bank_rows: int = 0  # drawn from the teacher's bank for each step; 0: all
    w_x: float = 1.0  # likelihood across branches
    w_n: float = 0.1  # likelihood within a branch
    w_g: float = 0.1  # gap of paired codes
    w_q: float = 0.1  # quantisation
    w_b: float = 0.01  # bit balance
    max_positive_weight: float = 1.0  # of similar pairs in the likelihood; 1: plain mean
    contrast: float = 0.0  # toward label overlap, on codes
    within: float = 0.5  # weight of the contrast within a branch
    temperature: float = 0.2  # of the contrast
    info_nce: float = 0.0  # own image and text, on features
    feature_temperature: float = 0.07

    @property
    def sizes(self) -> Sizes:
        """Of every branch."""
        return Sizes(_lengths(self), self.width, self.hidden, self.layers, self.dropout, self.head == "linear")

    def __post_init__(self) -> None:
        lengths = _lengths(self)
        if not self.bits or any(bits < 8 or bits % 8 for bits in lengths) or len(set(lengths)) != len(lengths):
            raise ValueError(f"bits and auxiliary_bits: expected different positive multiples of 8, found {lengths}")
        for name, known in CHOICES.items():
            if getattr(self, name) not in known:
                raise ValueError(f"{name}: expected one of {', '.join(known)}, found {getattr(self, name)!r}")
        if not 0 <= self.dropout < 1 or not 0 < self.teacher_share < 1:
            raise ValueError("expected 0 <= dropout < 1 and 0 < teacher_share < 1")
        if self.image_views < 1 or min(self.tuned_blocks, self.bank_rows) < 0 or self.max_positive_weight < 1:
            raise ValueError(
                "expected image_views and max_positive_weight of at least 1, tuned_blocks and bank_rows of at least 0"
            )
        if min(self.temperature, self.feature_temperature) <= 0:
            raise ValueError("temperature and feature_temperature: expected more than 0")
        if self.image_views > 1 and not self.tuned_blocks:
            raise ValueError("image_views: expected tuned_blocks, features of frozen towers have one view")
        if self.label_prompt == LEARNED and self.tuned_blocks:
            raise ValueError("label_prompt: learned vectors pass no tower; expected tuned_blocks=0 or another form")


class Network(protocol.ReadingNetwork, protocol.KeywordNetwork):
    """An image branch and a text branch; beside them the label branch, where keyword queries are served."""

    def __init__(self, config: Config, backbone: Backbone, names: Sequence[str]) -> None:
        super().__init__()
        self.config, self.lengths, self.vector_dim = config, config.bits, config.width
        self.image_tail = self.text_tail = config.tuned_blocks or None
        self.image_views = config.image_views
        self.names, self._borrowed = tuple(names), (backbone,)  # in a tuple: no part of this module
        image_blocks = backbone.image_tower.tail(config.tuned_blocks) if config.tuned_blocks else None
        self.image = Branch(backbone.image_dim, config.sizes, image_blocks)
        self.text = self._text_branch()
        self.label = None
        if config.keywords and config.teacher and names:
            self.keywords, self.label = self.names, self.label_branch()

    @classmethod
    def build(cls, config: Config, backbone: Backbone, classes: Sequence[str]) -> "Network":
        """As the constructor."""
        return cls(config, backbone, classes)

    @property
    def backbone(self) -> Backbone:
        """Frozen."""
        return self._borrowed[0]

    def label_branch(self) -> LabelBranch:
        """A new one, beside this network's branches."""
        learned = self.config.label_prompt == LEARNED
        classes = sentence_features(self.backbone, label_sentences(self.names, LEARNED)).cpu() if learned else None
        if self.config.shared_label_head:
            return LabelBranch(None, self.text, classes)
        return LabelBranch(self._text_branch(), None, classes)

    def _text_branch(self) -> Branch:
        blocks = self.backbone.text_tower.tail(self.config.tuned_blocks) if self.config.tuned_blocks else None
        return Branch(self.backbone.text_dim, self.config.sizes, blocks)

    def parameter_groups(self) -> list[ParameterGroup]:
        """Tuned blocks learn slowly; the image branch at a rate of its own in stage 2."""
        parts = [(self.image, (1.0, self.config.image_rate)), (self.text, ()), (self.label, ())]
        return [group for part, stages in parts if part is not None for group in _groups(part, self.config, stages)]

    def read_images(self, inputs: Tensor) -> Tensor:
        """(B, image_dim) or states -> (B, width)."""
        shared: Tensor = self.image(inputs)
        return shared

    def read_texts(self, inputs: Tensor, tokens: Tensor | None) -> Tensor:
        """(B, text_dim), or states and ids -> (B, width)."""
        shared: Tensor = self.text(inputs, tokens)
        return shared

    def image_logits(self, vectors: Tensor, bits: int) -> Tensor:
        """(B, width) -> (B, bits)."""
        logits: Tensor = self.image.heads(vectors, bits)
        return logits

    def text_logits(self, vectors: Tensor, bits: int) -> Tensor:
        """(B, width) -> (B, bits)."""
        logits: Tensor = self.text.heads(vectors, bits)
        return logits

    def keyword_sentences(self, names: Sequence[str]) -> Sequence[str]:
        """Those of the label prompt."""
        return fitting_sentences(self.backbone, names, self.config.label_prompt)

    def read_keywords(self, states: Tensor, tokens: Tensor) -> Tensor:
        """As the teacher read its label prompts."""
        return self._kept().leave(states, tokens)

    def keyword_vector(self, names: Sequence[str], features: Tensor) -> Tensor:
        """The mean of the sentences, or of the learned vectors of the classes."""
        learned = self._kept().classes
        if learned is None:
            return mean_prompt(features.new_ones(1, len(features)), features)
        return mean_prompt(learned.new_tensor([[float(name in names) for name in self.names]]), learned)

    def keyword_logits(self, vectors: Tensor, bits: int) -> Tensor:
        """(B, text_dim) -> (B, bits), by the teacher's label head."""
        branch = self._kept().branch
        logits: Tensor = branch.heads(branch.read(vectors), bits)
        return logits

    def _kept(self) -> LabelBranch:
        if self.label is None:
            raise ValueError("expected a network that kept its label branch; train it with config.keywords=true")
        return self.label


class Objective(protocol.Objective):
    """L_T, then L_S; label prompts, banks and, where it is not served, the label branch stay on this side."""

    stage: Tensor  # (), the stage that has begun

    def __init__(self, config: Config, network: Network, train: Features) -> None:
        super().__init__()
        self.config, self.lengths = config, _lengths(config)
        self._borrowed = (network, train)  # in a tuple: neither is part of this module's state
        self.alike = Likeness(train.labels)
        self.register_buffer("stage", torch.zeros((), dtype=torch.long))
        self.joint = not config.teacher or train.labels is None
        if train.labels is None or self.joint:
            return
        self.prompts = TrainingPrompts(
            network.backbone, network.names, train.labels, config.label_prompt, network.text_tail
        )
        if network.label is None:
            self.own_label = network.label_branch()
        self.images = TeacherBank(len(train), config.width, self.lengths)
        if config.label_bank:
            self.labels = TeacherBank(len(train), config.width, self.lengths)

    @property
    def label(self) -> LabelBranch:
        """The teacher's label branch."""
        kept = self._borrowed[0].label
        return self.own_label if kept is None else kept

    def stages(self, epochs: int) -> Sequence[int]:
        """Teacher and student, or one stage where there is no teacher."""
        if self.joint:
            return (epochs,)
        if epochs < 2:
            raise RecipeError(f"optimiser.epochs: expected at least 2, one for each stage, found {epochs}")
        first = min(max(1, round(epochs * self.config.teacher_share)), epochs - 1)
        return (first, epochs - first)

    def begin(self) -> None:
        """Fit the input scalings."""
        network, train = self._borrowed
        if self.config.standardise_images:
            network.image.input.scaling.fit(train.images)
        if self.config.standardise_texts:
            network.text.input.scaling.fit(train.texts)
        if self.config.standardise_texts and not self.joint and not self.config.shared_label_head:
            with torch.no_grad():
                known = self.alike.labelled(torch.arange(len(train), device=train.images.device))
                self.label.branch.input.scaling.fit(self.label.prompts(self.prompts, known))

    def begin_stage(self, stage: int) -> None:
        """Keep what the teacher makes of every training row, and let the text branch start from the label branch."""
        network, train = self._borrowed
        with torch.no_grad():
            for rows in torch.arange(len(train), device=train.images.device).split(protocol.READ):
                self.images.write(rows, self._images(rows))
                if self.config.label_bank:
                    self.labels.write(rows, self._labels(rows))
        if self.config.init_text_from_label and not self.config.shared_label_head:
            network.text.start_from(self.label.branch)
        self.stage.fill_(stage)

    def losses(self, rows: Tensor, generator: torch.Generator) -> dict[str, Tensor]:
        """Weighted, named terms for the training rows (B,), each a mean over the code lengths."""
        student = bool(self.stage) and not self.config.image_rate
        if not (student and self.config.keep_unlabelled):
            rows = self.alike.labelled(rows)
        terms = self._terms(rows, generator, student=student) if len(rows) else {}
        return terms or {"likelihood": 0 * self._learning().input.linear.weight.sum()}  # nothing to learn from

    def _terms(self, rows: Tensor, generator: torch.Generator, *, student: bool) -> dict[str, Tensor]:
        if student:
            return self._student_terms(rows, generator)
        view = int(torch.randint(self.config.image_views, (), generator=generator))
        other = self._texts(rows) if self.joint or self.stage else self._labels(rows)
        return self._pair_terms(self._images(rows, view), other, rows)

    def _pair_terms(self, a: Side, b: Side, rows: Tensor) -> dict[str, Tensor]:
        """3.1 on images and label prompts; the same on images and texts that learn together."""
        config, sides = self.config, (a, b)
        others, similar = rows[:, None] != rows, self._similar(rows, rows)
        alike, tau = Attraction.of(self.alike.overlap(rows, rows)), config.temperature

        def within(bits: int) -> Tensor:
            own = [self._likelihood(side.codes[bits], side.codes[bits], similar, others) for side in sides]
            return torch.stack(own).mean()

        def contrast(bits: int) -> Tensor:
            own = [overlap_contrast(s.codes[bits], s.codes[bits], alike, tau) for s in sides]
            across = overlap_contrast(a.codes[bits], b.codes[bits], alike, tau)
            return across + config.within * torch.stack(own).sum()

        def quantised(bits: int) -> Tensor:
            targets = signs(a.codes[bits] + b.codes[bits])
            return torch.stack([quantisation(side.codes[bits], targets) for side in sides]).mean()

        terms = {
            "likelihood": lambda bits: self._likelihood(a.codes[bits], b.codes[bits], similar),
            "within": within,
            "contrast": contrast,
            "gap": lambda bits: self._gap(a, b, bits),
            "quantisation": quantised,
            "balance": lambda bits: balance(a.codes[bits]) + balance(b.codes[bits]),
        }
        return self._weighted(terms) | self._instances(a, b)

    def _student_terms(self, rows: Tensor, generator: torch.Generator) -> dict[str, Tensor]:
        """3.2: texts against the bank of all training images; labels say what is similar, and nothing else."""
        config = self.config
        text, image, drawn = self._texts(rows), self.images.of(rows), self._drawn(generator)
        banks = [self.images.of(drawn), *([self.labels.of(drawn)] if config.label_bank else [])]
        some = self.alike.labelled(rows)
        known = torch.isin(rows, some)
        others, similar = some[:, None] != some, self._similar(drawn, some)
        alike, own_alike = (Attraction.of(self.alike.overlap(one, some)) for one in (drawn, some))

        def likelihood(bits: int) -> Tensor:
            targets = [target for bank in banks for target in self._targets(bank.codes[bits])]
            return torch.stack([self._likelihood(one, text.codes[bits][known], similar) for one in targets]).mean()

        def within(bits: int) -> Tensor:
            own = text.codes[bits][known]
            return self._likelihood(own, own, self._similar(some, some), others)

        def contrast(bits: int) -> Tensor:
            own = text.codes[bits][known]
            across = [overlap_contrast(bank.codes[bits], own, alike, config.temperature) for bank in banks]
            inside = overlap_contrast(own, own, own_alike, config.temperature)
            return torch.stack(across).mean() + config.within * inside

        terms = {
            "likelihood": likelihood,
            "within": within,
            "contrast": contrast,
            "gap": lambda bits: self._gap(text, image, bits),
            "quantisation": lambda bits: quantisation(text.codes[bits], signs(image.codes[bits])),
            "balance": lambda bits: balance(text.codes[bits]),
        }
        if not len(some):
            terms = {name: terms[name] for name in ("gap", "quantisation", "balance")}
        return self._weighted(terms) | self._instances(text, image)

    def _weighted(self, terms: Mapping[str, Term]) -> dict[str, Tensor]:
        """Those that count, each a mean over the code lengths."""
        found = {}
        for name, term in terms.items():
            weight = getattr(self.config, WEIGHTS[name])
            if weight:
                found[name] = weight * torch.stack([term(bits) for bits in self.lengths]).mean()
        return found

    def _instances(self, a: Side, b: Side) -> dict[str, Tensor]:
        """Own image and text among those of the batch, on features; in stage 1 image and label prompt have no such."""
        config = self.config
        if not config.info_nce or not (self.joint or self.stage):
            return {}
        return {"info_nce": config.info_nce * info_nce(a.reads, b.reads, config.feature_temperature)}

    def _likelihood(self, a: Tensor, b: Tensor, similar: Tensor, counted: Tensor | None = None) -> Tensor:
        logits = agreement(a, b, self.config.theta)
        return pair_likelihood(logits, similar, counted=counted, max_weight=self.config.max_positive_weight)

    def _gap(self, a: Side, b: Side, bits: int) -> Tensor:
        """Mean square over a paired code's bits, logits or, of unit length, features."""
        match self.config.gap_at:
            case "feature":
                return (normalize(a.reads, dim=1) - normalize(b.reads, dim=1)).square().sum(1).mean()
            case "logit":
                return quantisation(a.logits[bits], b.logits[bits])
            case _:
                return quantisation(a.codes[bits], b.codes[bits])

    def _targets(self, codes: Tensor) -> list[Tensor]:
        """f*, b* or both."""
        return {"real": [codes], "binary": [signs(codes)], "both": [codes, signs(codes)]}[self.config.bank]

    def _similar(self, a: Tensor, b: Tensor) -> Tensor:
        """S between two lists of rows, (A, B)."""
        return self.alike.overlap(a, b) if self.config.similarity == "jaccard" else self.alike.shared(a, b)

    def _drawn(self, generator: torch.Generator) -> Tensor:
        """Labelled rows of the bank for one step."""
        train = self._borrowed[1]
        rows = self.alike.labelled(torch.arange(len(train), device=train.images.device))
        limit = self.config.bank_rows
        return rows[torch.randperm(len(rows), generator=generator)[:limit].to(rows.device)] if limit else rows

    def _learning(self) -> Branch:
        """The branch that this stage is about."""
        network = self._borrowed[0]
        return network.text if self.stage else network.image

    def _images(self, rows: Tensor, view: int = 0) -> Side:
        network, train = self._borrowed
        inputs = protocol.image_inputs(network, train, rows.tolist(), view)
        return self._side(network.image, shared(network.image)(inputs))

    def _texts(self, rows: Tensor) -> Side:
        network, train = self._borrowed
        return self._side(network.text, network.text_vectors(train, rows.tolist()))

    def _labels(self, rows: Tensor) -> Side:
        branch = self.label.branch
        return self._side(branch, shared(branch.read)(self.label.prompts(self.prompts, rows)))

    def _side(self, branch: Branch, reads: Tensor) -> Side:
        return Side.of(reads, {bits: branch.heads(reads, bits) for bits in self.lengths})


def _groups(part: nn.Module, config: Config, stages: Sequence[float]) -> list[ParameterGroup]:
    """The parameters of one branch, tuned blocks apart."""
    named = [(".blocks." in f".{name}", one) for name, one in part.named_parameters()]
    rates = ((False, 1.0), (True, config.tuned_rate))
    groups = [([one for inside, one in named if inside is tuned], rate) for tuned, rate in rates]
    return [ParameterGroup(some, rate, stages=stages) for some, rate in groups if some]


def _lengths(config: Config) -> tuple[int, ...]:
    return (*config.bits, config.auxiliary_bits) if config.auxiliary_bits else config.bits
