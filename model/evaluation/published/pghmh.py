"""``pghmh-published``: PGHMH as released: one code of an image, its text and its true labels.

Paper: PGHMH (Prompt-Guided Hierarchical Multi-modal Hashing; released code vindahi/PGHMH); section numbers are those of
its specification. For the ``oracle`` protocol alone: no service can reach it. Map: anchor tokens and text tower with
anchors (2.2, 2.4) -> ``Network.enter`` and ``prompthash.ReleasedPrompt``, which its parent method has alike; F in its
exact form (2.5) -> ``fusion.LengthOneFusion``; order of fusion and f (2.6) -> ``Network.joint``; residual MLP, in the
loss alone, and decoders (2.7) -> ``Objective``; heads -> ``heads``; levels, likelihood, reconstruction (3) ->
``Objective``.

Released behaviours that are kept: prompts of the true labels for queries and database, with literal braces and one of
four lead-ins; context that is never trained; a prompt transformer that starts at random; an anchor read at the
caption's end and not projected; padding that is looked at; attention over a sequence of one; one positive a row; raw
scales in the averages; a bank that starts at random, with targets refreshed once an epoch.

Known deviations: a label set keeps its lead-in for ever, where the release forgets it when its cache is full; on towers
that do not give raw vectors of the joint width, features are unit vectors; F has no query and key weights, which get no
gradient; the epoch is chosen on validation items, where the release takes the test figures; texts and prompts are
padded to ``positions``, and may be longer; frozen towers unless ``tuned_blocks``; ``prompts="none"`` withholds the
class names, which no release does.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from zlib import crc32

import torch
from torch import Tensor, nn
from torch.nn.functional import softplus

from encoders.protocol import Backbone
from model.anchors import LEAD_INS, spoken
from model.errors import ModalityError
from model.evaluation.published.entering import Entered, Entrance, LabelPrompts, labels_of
from model.evaluation.published.prompthash import ReleasedPrompt
from model.fusion import LengthOneFusion
from model.hasher import Modality
from model.heads import Decoders, MultiLengthHeads, ResidualMLP
from model.losses import info_nce, share_label
from model.methods import protocol
from model.methods.protocol import Features, ParameterGroup

LOGIT_LIMIT = 64.0


@dataclass(frozen=True, slots=True)
class Config:
    """The ``[config]`` table of a recipe; weights are the released defaults."""

    bits: tuple[int, ...] = (16, 32, 64, 128)
    auxiliary_bits: int = 128  # one of ``bits``, as published
    prompts: str = "labels"  # or none: a prompt without class names
    company: int = 128  # items of one joint forward where codes are made; padding alone could make one depend on it
    tuned_blocks: int = 0  # of each tower, the last ones; 0: frozen towers
    hidden: int = 2048  # of the residual MLP
    layers: int = 2
    dropout: float = 0.5
    positions: int = 77  # of a text and of its prompt, at least
    bank_rows: int = 0  # drawn from the bank for each step; 0: all of them, as released
    align: float = 5.0  # w_g
    anchor: float = 5.0  # w_l
    likelihood: float = 5.005  # w_c
    reconstruction: float = 0.005  # w_r
    auxiliary: float = 20.0  # mu
    temperature: float = 0.07
    tuned_rate: float = 0.01  # of the optimiser's: tuned blocks and prompt transformer; 0 leaves them as they start
    fusion_rate: float = 0.1  # of the optimiser's: F

    def __post_init__(self) -> None:
        if self.prompts not in ("labels", "none"):
            raise ValueError(f"prompts: expected labels or none, found {self.prompts!r}")
        if any(bits < 8 or bits % 8 for bits in self.bits) or self.auxiliary_bits not in self.bits:
            raise ValueError(f"bits: expected multiples of 8 with {self.auxiliary_bits} among them, found {self.bits}")
        if not 0 <= self.dropout < 1 or self.positions < 8 or self.bank_rows < 0 or self.company < 1:
            raise ValueError("expected 0 <= dropout < 1, positions >= 8, bank_rows >= 0 and company >= 1")


@dataclass(frozen=True, slots=True)
class Joint:
    """What one forward of a batch gives; (B, width) each."""

    fused: Tensor  # f
    image: Tensor  # vh
    text: Tensor  # th
    anchor: Tensor  # ph


class Network(protocol.Network):
    """A joint forward of images, texts and prompts: one vector and one code for a pair, none for anything else."""

    selects = ((Modality.PAIR, Modality.PAIR),)

    def __init__(self, config: Config, backbone: Backbone, names: Sequence[str]) -> None:
        super().__init__()
        width = backbone.joint_dim
        if backbone.text_tower.width != width:
            raise ValueError(f"expected a text tower of width {width}, found {backbone.text_tower.width}")
        self.config, self.lengths, self._width = config, config.bits, width
        self.image_tail, self.text_tail = config.tuned_blocks or None, config.tuned_blocks
        self._backbone = (backbone,)  # in a tuple: no part of this module
        told = config.prompts == "labels"
        self._prompts = LabelPrompts(backbone, names, _sentence, positions=config.positions, told=told)
        if config.tuned_blocks:
            self.image_blocks = backbone.image_tower.tail(config.tuned_blocks)
            self.text_blocks = backbone.text_tower.tail(config.tuned_blocks)
        self.prompt = ReleasedPrompt(backbone, config.positions)
        self.fusion = LengthOneFusion(width)
        self.heads = MultiLengthHeads(width, config.bits)

    @classmethod
    def build(cls, config: Config, backbone: Backbone, names: Sequence[str]) -> "Network":
        """As the constructor."""
        return cls(config, backbone, names)

    def parameter_groups(self) -> list[ParameterGroup]:
        """Section 4: tuned blocks and prompt transformer, F, everything else."""
        groups: dict[float, list[nn.Parameter]] = {}
        for name, parameter in self.named_parameters():
            slow = name.startswith(("image_blocks.", "text_blocks.", "prompt."))
            rate = self.config.tuned_rate if slow else self.config.fusion_rate if name.startswith("fusion.") else 1.0
            groups.setdefault(rate, []).append(parameter)
        return [ParameterGroup(group, rate) for rate, group in groups.items() if rate]

    def joint(self, image: Tensor, text: Tensor, anchor: Tensor) -> Joint:
        """Section 2.6."""
        first, fused_text = self.fusion(image, text)
        fused_image, fused_anchor = self.fusion(first, anchor)
        image, text = 0.5 * (image + fused_image), 0.5 * (text + fused_text)
        return Joint(image + text, image, text, 0.5 * (anchor + fused_anchor))

    def vectors(self, features: Features) -> dict[Modality, Tensor]:
        """f (N, width)."""
        company, rows = self.config.company, range(len(features))
        joint = [self.joint(*self.enter(features, rows[start : start + company])) for start in rows[::company]]
        return {Modality.PAIR: torch.cat([one.fused for one in joint])}

    def logits(self, modality: Modality, vectors: Tensor, bits: int) -> Tensor:
        """(B, width) of pairs -> (B, bits)."""
        if modality is not Modality.PAIR:
            raise ModalityError(f"expected a pair: as released there is no code of one side alone, found {modality}")
        logits: Tensor = self.heads(vectors, bits)
        return logits

    def image_logits(self, vectors: Tensor, bits: int) -> Tensor:
        """Always refused."""
        return self.logits(Modality.IMAGE, vectors, bits)

    def text_logits(self, vectors: Tensor, bits: int) -> Tensor:
        """Always refused."""
        return self.logits(Modality.TEXT, vectors, bits)

    @property
    def enters_alike(self) -> bool:
        """Whether nothing learns before the fusion."""
        return not self.config.tuned_rate

    def enter(self, features: Features, rows: Sequence[int]) -> Entered:
        """v, t and p (B, width), raw; the rows' labels are in their prompts (2.1, 2.2, 2.4)."""
        chosen, tower = list(rows), self._backbone[0].text_tower
        image = features.images[chosen][:, : self._width]
        if self.image_tail is not None:
            out = self.image_blocks(protocol.image_inputs(self, features, chosen))
            image = out.pooled if out.pooled.shape[1] == self._width else out.features[:, : self._width]

        def read(states: Tensor, tokens: Tensor, owner: Tensor) -> Tensor:
            inside = self.text_blocks.run(states, tower.attention(tokens)) if self.config.tuned_blocks else states
            prompts = self._prompts.ids(features, [chosen[row] for row in owner.tolist()])
            return torch.cat(self.prompt(inside, tokens, prompts), dim=1)

        text, anchor = protocol.states_of(features).text_batch(chosen).vectors(read).chunk(2, dim=1)
        return image, text, anchor


class Objective(protocol.Objective):
    """Section 3, with a bank of every training pair and targets that hold for an epoch."""

    seen: Tensor  # (N,) bool, since the target was refreshed
    target: Tensor  # (N, auxiliary_bits), G

    def __init__(self, config: Config, network: Network, train: Features) -> None:
        super().__init__()
        self.config = config
        self._borrowed = (network, train)  # in a tuple: neither is part of this module's state
        labels_of(train)
        self._entrance = Entrance(network, train)
        for bits in config.bits:
            self.register_buffer(f"bank_{bits}", torch.randn(len(train), bits))
        self.register_buffer("target", torch.zeros(len(train), config.auxiliary_bits))
        self.register_buffer("seen", torch.zeros(len(train), dtype=torch.bool))
        self.mlp = ResidualMLP(network.heads.width, config.hidden, config.layers, config.dropout)  # R
        self.decoders = Decoders(config.bits, config.auxiliary_bits)

    def begin(self) -> None:
        """The target from the bank as it is: signs of random numbers."""
        self._refresh()

    def losses(self, rows: Tensor, generator: torch.Generator) -> dict[str, Tensor]:
        """Named, weighted terms for the training rows (B,)."""
        network, train = self._borrowed
        if self.seen.sum() >= len(train) - 1:  # a last batch of one row is left out
            self._refresh()
        self.seen[rows] = True
        joint = network.joint(*self._entrance(rows))
        codes = {bits: network.heads(joint.fused, bits).tanh() for bits in self.config.bits}
        for bits, own in codes.items():
            self.get_buffer(f"bank_{bits}")[rows] = own.detach()
        tau = self.config.temperature
        return {
            "align": self.config.align * info_nce(joint.image, joint.text, tau),
            "anchor": self.config.anchor * info_nce(self.mlp(joint.fused), joint.anchor, tau),
            **self._hash(rows, codes, generator),
        }

    def _hash(self, rows: Tensor, codes: dict[int, Tensor], generator: torch.Generator) -> dict[str, Tensor]:
        """Level 3, summed over the lengths, the auxiliary one at the weight mu."""
        config, labels = self.config, labels_of(self._borrowed[1])
        limit = config.bank_rows or len(labels)
        sample = torch.randperm(len(labels), generator=generator)[:limit].to(labels.device)
        similar = share_label(labels[sample], labels[rows])
        likelihood, reconstruction = [], []
        for bits, own in codes.items():
            logits = 0.5 * (self.get_buffer(f"bank_{bits}")[sample] @ own.T).clamp(-LOGIT_LIMIT, LOGIT_LIMIT)
            weight = config.auxiliary if bits == config.auxiliary_bits else 1.0
            likelihood.append(weight * (softplus(logits) - similar * logits).mean())
            if bits in self.decoders.lengths:
                reconstruction.append((self.decoders(own, bits) - self.target[rows]).square().sum() / len(rows))
        terms = {"likelihood": config.likelihood * torch.stack(likelihood).sum()}
        if reconstruction:
            weight = config.auxiliary * config.reconstruction
            terms["reconstruction"] = weight * torch.stack(reconstruction).sum()
        return terms

    def _refresh(self) -> None:
        self.seen.zero_()
        self.target.copy_(torch.where(self.get_buffer(f"bank_{self.config.auxiliary_bits}") > 0, 1.0, -1.0))


def _sentence(label_set: bytes, names: list[str]) -> str:
    """Literal braces, and a lead-in that a label set keeps."""
    return " ".join([LEAD_INS[crc32(label_set) % len(LEAD_INS)], "{}", *([spoken(names)] if names else [])])
