"""How backbones are named, and the licence of the weights that a name stands for. Imports nothing heavy.

``clip:ARCH:WEIGHTS`` with WEIGHTS one of ``TAG`` (a pretrained tag of open_clip), ``TAG=FILE`` (that tag's weights in a
local file), ``FILE`` (weights of your own) or ``random``. ``@head`` after any name reads a text's first chunk alone.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Self

from encoders.errors import BackboneNotFound

DEFAULT = "effnet-lite0+minilm"
HEAD = "@head"
PREFIX = "clip:"
RANDOM = "random"
SUFFIXES = (".safetensors", ".pt", ".pth", ".bin")


@dataclass(frozen=True, slots=True)
class Licence:
    """What the weights of a backbone may be used for."""

    name: str  # an SPDX identifier where there is one
    commercial: bool | None  # None: not known
    source: str  # who says so

    def __str__(self) -> str:
        return self.name if self.commercial is not False else f"{self.name} (no commercial use)"


UNKNOWN = Licence("unknown: ask whoever made these weights", None, "")
APACHE = Licence("Apache-2.0", True, "NOTICE of this package")
NOTHING_LEARNED = Licence("none: random weights", True, "")
OPENAI = Licence("MIT", True, "github.com/openai/CLIP")
LAION = Licence("MIT", True, "huggingface.co/laion")
METACLIP = Licence("CC-BY-NC-4.0", False, "github.com/facebookresearch/MetaCLIP")

# licences by the start of a tag: whoever trained them gave them all the same
TAGS = {"openai": OPENAI, "laion2b": LAION, "laion400m": LAION, "laion5b": LAION, "metaclip": METACLIP}

# backbones that have a name in documents and papers; any other architecture and tag of open_clip works too
PRESETS = {
    DEFAULT: "the default: offline, not CLIP",
    "clip:ViT-B-32:openai": "CLIP ViT-B/32",
    "clip:ViT-B-32:laion2b_s34b_b79k": "OpenCLIP ViT-B/32",
    "clip:ViT-B-16-quickgelu:metaclip_fullcc": "MetaCLIP B/16, of PromptHash and PGHMH",
    "clip:crossbit-tiny:random": "two small layers, for tests",
}


@dataclass(frozen=True, slots=True)
class ClipName:
    """The parts of a backbone's name."""

    arch: str
    tag: str  # a pretrained tag, RANDOM, or empty for weights of one's own
    file: str  # path of a checkpoint, or empty
    head: bool = False

    @classmethod
    def parse(cls, name: str) -> Self:
        """Take a name apart; an incomplete one has empty parts."""
        arch, _, weights = name.removesuffix(HEAD).removeprefix(PREFIX).partition(":")
        tag, equals, file = weights.partition("=")
        if not equals or "/" in tag:
            is_file = weights.endswith(SUFFIXES)
            tag, file = ("", weights) if is_file else (weights, "")
        return cls(arch, tag, file, name.endswith(HEAD))

    def __str__(self) -> str:
        weights = "=".join(part for part in (self.tag, self.file) if part)
        return f"{PREFIX}{self.arch}:{weights}{HEAD if self.head else ''}"

    @property
    def licence(self) -> Licence:
        """Of the tag; weights of one's own have an unknown one."""
        if self.tag == RANDOM:
            return NOTHING_LEARNED
        return next((licence for start, licence in TAGS.items() if self.tag.startswith(start)), UNKNOWN)


def licence_of(backbone: str) -> Licence:
    """The licence of a backbone's weights, by its name."""
    return ClipName.parse(backbone).licence if backbone.startswith(PREFIX) else APACHE


def with_file(backbone: str, path: Path) -> str:
    """The backbone's name with its weights in a local file.

    Raises:
        BackboneNotFound: the backbone is none that takes a file, or there is no such file.
    """
    name = ClipName.parse(backbone)
    if not backbone.startswith(PREFIX) or name.tag == RANDOM:
        raise BackboneNotFound(
            f"expected a backbone clip:ARCH:TAG or clip:ARCH to load {path} into, found {backbone!r}"
        )
    if not path.is_file() or path.suffix not in SUFFIXES:
        raise BackboneNotFound(f"expected a file that ends in {', '.join(SUFFIXES)}, found {path}")
    return str(ClipName(name.arch, name.tag, str(path.resolve()), name.head))
