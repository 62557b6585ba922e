"""``prompthash-published``: PromptHash as released: its codes saw the true labels, the other modality and a batch.

Paper: PromptHash (CVPR 2025, arXiv 2503.16064); released code CCRG-XJU/PromptHash, files that are missing there read in
the forks TriPAH and PGHMH. For the ``oracle`` protocol alone: no service can reach it. Map: prompt text ->
``prompts.class_prompt``; TAAP -> ``ReleasedPrompt``; AGSF -> ``fusion.GatedFusion(across="batch")``; order of fusion
and shared heads -> ``Network.joint``; affinity, quantisation, PACL, reconstruction, weights -> ``Objective``.

Released behaviours that are kept: prompts of the true labels for queries and database; scan and attention along the
batch; context that is never trained; a prompt transformer that starts at random; a prompt read at the caption's end
and not projected; padding that is looked at; one positive a row; the inert affinity temperature; raw scales in the
averages; banks that start at random, with targets refreshed once an epoch.

Known deviations: a non-finite term stops the run, where the release drops it; the epoch is chosen on validation items,
where the release takes the test figures; texts and prompts are padded to ``positions``, and may be longer; frozen
towers unless ``tuned_blocks``; ``prompts="none"`` withholds the class names, which no release does.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.functional import kl_div, normalize, pad, softplus

from encoders.protocol import Backbone
from encoders.towers import Tail
from model.evaluation.published.entering import Entered, Entrance, LabelPrompts, labels_of
from model.fusion import GatedFusion
from model.hasher import Modality
from model.heads import MultiLengthHeads, ResidualMLP
from model.losses import info_nce, quantisation, share_label
from model.methods import protocol
from model.methods.protocol import Features, ParameterGroup
from model.prompts import class_prompt

LOGIT_LIMIT = 64.0


@dataclass(frozen=True, slots=True)
class Config:
    """The ``[config]`` table of a recipe; weights are those of the released Flickr script."""

    bits: tuple[int, ...] = (16, 32, 64)
    auxiliary_bits: int = 256
    taap: bool = True
    agsf: bool = True
    pacl: bool = True
    prompts: str = "labels"  # or none: a prompt without class names
    company: int = 128  # consecutive items of one joint forward where codes are made; the training's batch, as released
    tuned_blocks: int = 0  # of each tower, the last ones; 0: frozen towers
    hidden: int = 2048  # of the residual MLP
    layers: int = 2
    dropout: float = 0.5
    positions: int = 77  # of a text and of its prompt, at least
    bank_rows: int = 0  # drawn from the banks for each step; 0: all of them, as released
    intra: float = 0.005
    inter: float = 5.0
    quantisation: float = 0.1
    reconstruction: float = 0.001
    overall: float = 5.0  # global image-text term
    local: float = 5.0  # image-prompt term of PACL
    auxiliary: float = 20.0  # mu: of the auxiliary length and of the reconstruction
    temperature: float = 0.07
    tuned_rate: float = 0.01  # of the optimiser's: tuned blocks and prompt transformer; 0 leaves them as they start
    fusion_rate: float = 0.1  # of the optimiser's: AGSF

    def __post_init__(self) -> None:
        if self.prompts not in ("labels", "none"):
            raise ValueError(f"prompts: expected labels or none, found {self.prompts!r}")
        if not self.bits or any(bits < 8 or bits % 8 for bits in (*self.bits, self.auxiliary_bits)):
            raise ValueError(f"bits: expected multiples of 8, found {self.bits} and {self.auxiliary_bits}")
        if not 0 <= self.dropout < 1 or self.positions < 8 or self.bank_rows < 0 or self.company < 1:
            raise ValueError("expected 0 <= dropout < 1, positions >= 8, bank_rows >= 0 and company >= 1")


@dataclass(frozen=True, slots=True)
class Joint:
    """What one forward of a batch gives; (B, width) each."""

    image: Tensor  # r_i
    text: Tensor
    prompt: Tensor | None  # None without TAAP


class ReleasedPrompt(nn.Module):
    """TAAP (sections 2.2 and 2.3): text states and the words of a prompt through two layers without a mask."""

    context: Tensor

    def __init__(self, backbone: Backbone, positions: int) -> None:
        super().__init__()
        self._tower = backbone.text_tower
        self.register_buffer("context", 0.02 * torch.randn(positions, self._tower.width))  # in no optimiser group
        self.transformer = _at_random(self._tower.tail(2))

    def forward(self, states: Tensor, tokens: Tensor, prompt: Tensor) -> tuple[Tensor, Tensor]:
        """States (B, L, W), ids (B, L) and prompt ids (B, P) -> t0 (B, D) and p0 (B, W)."""
        length = max(len(self.context), tokens.shape[1], prompt.shape[1])
        words, filler = self._tower.words(prompt), self._tower.words(prompt.new_zeros(1, 1))  # padding has a word, too
        states = pad(states, (0, 0, 0, length - tokens.shape[1]))
        tokens, prompt = (pad(ids, (0, length - ids.shape[1])) for ids in (tokens, prompt))
        beyond = max(0, length - len(self.context))  # of a text that is longer than any prompt
        words = torch.cat([words, filler.expand(len(words), length - words.shape[1], -1)], dim=1)
        words = words + pad(self.context, (0, 0, 0, beyond))[:length]
        both = torch.cat([states, words], dim=1)
        read = self._tower.tokens(self.transformer.run(both, self._tower.sees(torch.ones_like(both[..., 0]) > 0, both)))
        text, own = read.split(length, dim=1)
        # the prompt is read at the caption's end; a tower that reads a mean takes that of the prompt
        anchor = self._tower.read(own, torch.maximum((prompt != 0).to(tokens.dtype), tokens))
        return self._tower.project(self._tower.read(text, tokens) * anchor), anchor


class Network(protocol.Network):
    """A joint forward of images, texts and prompts; what it calls vectors have seen all three."""

    def __init__(self, config: Config, backbone: Backbone, names: Sequence[str]) -> None:
        super().__init__()
        width = backbone.joint_dim
        self.config, self.lengths, self._width = config, config.bits, width
        self.image_tail = config.tuned_blocks or None
        self.text_tail = config.tuned_blocks if config.taap or config.tuned_blocks else None
        self._backbone = (backbone,)  # in a tuple: no part of this module
        told = config.prompts == "labels"
        self._prompts = LabelPrompts(
            backbone, names, lambda _, own: class_prompt(own), positions=config.positions, told=told
        )
        if config.tuned_blocks:
            self.image_blocks = backbone.image_tower.tail(config.tuned_blocks)
            self.text_blocks = backbone.text_tower.tail(config.tuned_blocks)
        if config.taap:
            self.prompt = ReleasedPrompt(backbone, config.positions)
        if config.agsf:
            self.fusion = GatedFusion(width, across="batch")
        self.mlp = ResidualMLP(width, config.hidden, config.layers, config.dropout)
        self.heads = MultiLengthHeads(width, (*config.bits, config.auxiliary_bits))

    @classmethod
    def build(cls, config: Config, backbone: Backbone, names: Sequence[str]) -> "Network":
        """As the constructor."""
        return cls(config, backbone, names)

    def parameter_groups(self) -> list[ParameterGroup]:
        """Section 4: tuned blocks and prompt transformer, AGSF, everything else."""
        groups: dict[float, list[nn.Parameter]] = {}
        for name, parameter in self.named_parameters():
            slow = name.startswith(("image_blocks.", "text_blocks.", "prompt."))
            rate = self.config.tuned_rate if slow else self.config.fusion_rate if name.startswith("fusion.") else 1.0
            groups.setdefault(rate, []).append(parameter)
        return [ParameterGroup(group, rate) for rate, group in groups.items() if rate]

    def joint(self, image: Tensor, text: Tensor, prompt: Tensor | None = None) -> Joint:
        """Section 2.5 for items that are each other's company: i0, t0 and, with TAAP, p0 (B, width)."""
        if self.config.agsf:
            fused_image, fused_text = self.fusion(image, text)
            if prompt is not None:
                fused_image, fused_prompt = self.fusion(fused_image, prompt)
                prompt = 0.5 * (prompt + fused_prompt)
            image, text = 0.5 * (image + fused_image), 0.5 * (text + fused_text)
        return Joint(self.mlp(image), self.mlp(text), None if prompt is None else self.mlp(prompt))

    def vectors(self, features: Features) -> dict[Modality, Tensor]:
        """r of images and texts (N, width), in companies of consecutive rows."""
        company, rows = self.config.company, range(len(features))
        joint = [self.joint(*self.enter(features, rows[start : start + company])) for start in rows[::company]]
        images, texts = torch.cat([one.image for one in joint]), torch.cat([one.text for one in joint])
        return {Modality.IMAGE: images, Modality.TEXT: texts}

    def image_logits(self, vectors: Tensor, bits: int) -> Tensor:
        """(B, width) -> (B, bits)."""
        logits: Tensor = self.heads(vectors, bits)
        return logits

    def text_logits(self, vectors: Tensor, bits: int) -> Tensor:
        """(B, width) -> (B, bits)."""
        logits: Tensor = self.heads(vectors, bits)
        return logits

    @property
    def enters_alike(self) -> bool:
        """Whether nothing learns before the fusion."""
        return not self.config.tuned_rate or not (self.config.taap or self.config.tuned_blocks)

    def enter(self, features: Features, rows: Sequence[int]) -> Entered:
        """i0, t0 and, with TAAP, p0, (B, width) each, raw; the rows' labels are in their prompts."""
        chosen, tuned, states = list(rows), self.config.tuned_blocks, features.states
        image = features.images[chosen]
        if self.image_tail is not None and states is not None:
            image = self.image_blocks(states.image_batch(chosen)).features
        image = image[:, : self._width]
        if states is None or self.text_tail is None:
            return image, features.texts[chosen]
        tower = self._backbone[0].text_tower

        def read(inside: Tensor, tokens: Tensor, owner: Tensor) -> Tensor:
            if tuned:
                inside = self.text_blocks.run(inside, tower.attention(tokens))
            if not self.config.taap:
                return tower.leave(inside, tokens).features
            prompts = self._prompts.ids(features, [chosen[row] for row in owner.tolist()])
            return torch.cat(self.prompt(inside, tokens, prompts), dim=1)

        read_texts = states.text_batch(chosen).vectors(read)
        if not self.config.taap:
            return image, read_texts
        text, prompt = read_texts.split([self._width, read_texts.shape[1] - self._width], dim=1)
        return image, text, prompt


class Objective(protocol.Objective):
    """Section 3, with banks of every training row and targets that hold for an epoch."""

    seen: Tensor  # (N,) bool, since the targets were refreshed

    def __init__(self, config: Config, network: Network, train: Features) -> None:
        super().__init__()
        self.config = config
        self._borrowed = (network, train)  # in a tuple: neither is part of this module's state
        self._entrance = Entrance(network, train)
        self.lengths = (*config.bits, config.auxiliary_bits)
        for bits in self.lengths:
            self.register_buffer(f"image_{bits}", torch.randn(len(train), bits))
            self.register_buffer(f"text_{bits}", torch.randn(len(train), bits))
            self.register_buffer(f"target_{bits}", torch.zeros(len(train), bits))
        self.register_buffer("seen", torch.zeros(len(train), dtype=torch.bool))
        self.decoders = nn.ModuleDict({str(bits): _decoder(bits, config.auxiliary_bits) for bits in config.bits})

    def begin(self) -> None:
        """Targets from the banks as they are: signs of random numbers."""
        self._refresh()

    def losses(self, rows: Tensor, generator: torch.Generator) -> dict[str, Tensor]:
        """Named, weighted terms for the training rows (B,)."""
        network, train = self._borrowed
        labels = labels_of(train)
        if self.seen.sum() >= len(train) - 1:  # a last batch of one row is left out
            self._refresh()
        self.seen[rows] = True
        joint = network.joint(*self._entrance(rows))
        codes = {
            bits: (network.heads(joint.image, bits).tanh(), network.heads(joint.text, bits).tanh())
            for bits in self.lengths
        }
        for bits, sides in codes.items():
            for bank, side in zip(self._banks(bits), sides, strict=True):
                bank[rows] = side.detach()
        sample = self._sample(len(train), generator)
        similar = share_label(labels[sample], labels[rows])
        terms = self._hash(rows, codes, sample, similar)
        image, text = normalize(joint.image, dim=1), normalize(joint.text, dim=1)
        terms["global"] = self.config.overall * info_nce(image, text, self.config.temperature)
        if self.config.pacl and joint.prompt is not None:
            prompt = normalize(joint.prompt, dim=1)
            terms["local"] = self.config.local * info_nce(image, prompt, self._affinity_temperature(image, prompt))
        return terms

    def _hash(
        self, rows: Tensor, codes: dict[int, tuple[Tensor, Tensor]], sample: Tensor, similar: Tensor
    ) -> dict[str, Tensor]:
        """Sections 3.1, 3.2 and 3.4, summed over the lengths, the auxiliary one at the weight mu."""
        config = self.config
        long = self.get_buffer(f"target_{config.auxiliary_bits}")[rows]
        sums: dict[str, list[Tensor]] = {"inter": [], "intra": [], "quantisation": [], "reconstruction": []}
        for bits, (image, text) in codes.items():
            weight = config.auxiliary if bits == config.auxiliary_bits else 1.0
            images, texts = (bank[sample] for bank in self._banks(bits))
            target = self.get_buffer(f"target_{bits}")[rows]
            sums["intra"].append(weight * (_affinity(images, image, similar) + _affinity(texts, text, similar)))
            sums["inter"].append(weight * (_affinity(images, text, similar) + _affinity(texts, image, similar)))
            sums["quantisation"].append(weight * (quantisation(image, target) + quantisation(text, target)))
            if bits != config.auxiliary_bits:
                decoded = (self.decoders[str(bits)](side) for side in (image, text))
                sums["reconstruction"] += [(one - long).square().sum() / len(rows) for one in decoded]
        weights = {
            "inter": config.inter,
            "intra": config.intra,
            "quantisation": config.quantisation,
            "reconstruction": config.auxiliary * config.reconstruction,
        }
        return {name: weight * torch.stack(sums[name]).sum() for name, weight in weights.items()}

    def _affinity_temperature(self, image: Tensor, prompt: Tensor) -> float:
        """0.07 / (1 + J): unit vectors give nearly uniform softmaxes, so J is nearly nothing."""
        image, prompt = image.detach().softmax(1), prompt.detach().softmax(1)
        middle = (image + prompt) / 2
        divergence = sum(kl_div(side.log(), middle, reduction="batchmean") for side in (image, prompt)) / 2
        return self.config.temperature / (1 + float(divergence))

    def _sample(self, rows: int, generator: torch.Generator) -> Tensor:
        limit = self.config.bank_rows or rows
        return torch.randperm(rows, generator=generator)[:limit].to(self.seen.device)

    def _banks(self, bits: int) -> tuple[Tensor, Tensor]:
        return self.get_buffer(f"image_{bits}"), self.get_buffer(f"text_{bits}")

    def _refresh(self) -> None:
        self.seen.zero_()
        for bits in self.lengths:
            image, text = self._banks(bits)
            self.get_buffer(f"target_{bits}").copy_(torch.where(image + text > 0, 1.0, -1.0))


def _affinity(bank: Tensor, codes: Tensor, similar: Tensor) -> Tensor:
    """Section 3.1: mean of softplus(T) - S T with T half the clipped inner product."""
    logits = 0.5 * (bank @ codes.T).clamp(-LOGIT_LIMIT, LOGIT_LIMIT)
    return (softplus(logits) - similar * logits).mean()


def _decoder(bits: int, auxiliary_bits: int) -> nn.Module:
    return nn.Sequential(
        nn.Linear(bits, auxiliary_bits), nn.ReLU(), nn.Linear(auxiliary_bits, auxiliary_bits), nn.Tanh()
    )


def _at_random(tail: Tail) -> Tail:
    """Weights drawn anew: the release copies the tower's layers before its weights are loaded."""
    for parameter in tail.parameters():
        if parameter.dim() > 1:
            nn.init.normal_(parameter, std=parameter.shape[1] ** -0.5)
    return tail
