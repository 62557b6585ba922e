"""What a pair of pretrained towers offers to every hashing method."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from torch import Tensor, device

from encoders.towers import TextTower, Tower

if TYPE_CHECKING:
    from PIL.Image import Image


@dataclass(frozen=True, slots=True)
class TokenChunks:
    """One text as token ids, cut into chunks that each fit the tower's context."""

    chunks: tuple[tuple[int, ...], ...]  # at least one chunk; special tokens included
    truncated: int  # tokens beyond the last chunk, which never reach the tower


class Pooling(Protocol):
    """What makes one feature vector of each input, and all that the encode path asks of a backbone."""

    @property
    def fingerprint(self) -> str:
        """SHA-256 (hex) over weights, preprocessing, tokenizer and encode path."""

    @property
    def device(self) -> device:
        """Where the towers live."""

    @property
    def image_dim(self) -> int:
        """Width of ``image_features``."""

    @property
    def text_dim(self) -> int:
        """Width of ``text_features``."""

    def preprocess(self, image: "Image") -> Tensor:
        """(3, H, W) float32 on the CPU, of one shape for every RGB image."""

    def tokenize(self, text: str) -> TokenChunks:
        """Token ids of a text that has at least one visible character.

        Raises:
            TextError: nothing to see in the text, or half of a surrogate pair.
        """

    def image_features(self, pixels: Tensor) -> Tensor:
        """(B, 3, H, W) -> (B, image_dim)."""

    def text_features(self, tokens: Tensor) -> Tensor:
        """(B, L) token ids, zero where padded -> (B, text_dim)."""


class Backbone(Pooling, Protocol):
    """Pretrained image tower + text tower + preprocessing + tokenizer, frozen, on one device.

    Features are float32. The first ``joint_dim`` columns of both features are unit vectors of one joint space, where
    cosine compares image and text; any further image columns are extra inputs that a method may use.
    """

    @property
    def name(self) -> str:
        """What ``load_backbone`` was given."""

    @property
    def licences(self) -> Mapping[str, str]:
        """Licence of each set of weights, by package or tag."""

    @property
    def config(self) -> Mapping[str, Any]:
        """JSON values that, with the weights, decide every feature."""

    @property
    def joint_dim(self) -> int:
        """Width of the joint space."""

    @property
    def image_tower(self) -> Tower:
        """Token states and split points of the image tower.

        Raises:
            NoTowerAccess: this architecture gives pooled features alone.
        """

    @property
    def text_tower(self) -> TextTower:
        """Token states, split points and word embeddings of the text tower.

        Raises:
            NoTowerAccess: this architecture gives pooled features alone.
        """
