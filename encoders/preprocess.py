"""From an RGB image to the pixels a tower sees."""

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

Channels = tuple[float, float, float]


@lru_cache
def _tables(mean: Channels, std: Channels) -> NDArray[np.float32]:
    """(3, 256): the value of each level of each channel, so that no pixel costs a division."""
    levels = np.arange(256, dtype=np.float32) / np.float32(255)
    tables: NDArray[np.float32] = (levels - np.array(mean, np.float32)[:, None]) / np.array(std, np.float32)[:, None]
    return tables


@dataclass(frozen=True, slots=True)
class Preprocessing:
    """How an image becomes pixels; part of every fingerprint."""

    image_size: int
    fit: str  # "pad": whole image on a white square; "crop": short side scaled, centre square; "squash": both sides
    mean: Channels  # of values in 0..1
    std: Channels
    resample: str = "bicubic"  # or "bilinear"

    def __call__(self, image: Image.Image) -> Tensor:
        """RGB image -> (3, image_size, image_size) float32."""
        square = {"pad": self._pad, "crop": self._crop, "squash": self._squash}[self.fit](image)
        levels = np.asarray(square)  # (H, W, 3) uint8
        planes = [table[levels[:, :, channel]] for channel, table in enumerate(_tables(self.mean, self.std))]
        return torch.from_numpy(np.stack(planes))

    def _pad(self, image: Image.Image) -> Image.Image:
        scale = self.image_size / max(image.size)
        size = (max(1, round(image.width * scale)), max(1, round(image.height * scale)))
        square = Image.new("RGB", (self.image_size, self.image_size), "white")
        corner = ((self.image_size - size[0]) // 2, (self.image_size - size[1]) // 2)
        square.paste(image.resize(size, self._filter), corner)
        return square

    def _crop(self, image: Image.Image) -> Image.Image:
        side = min(image.size)  # crop before scaling: a 20,000 x 1 image never grows
        left, top = (image.width - side) // 2, (image.height - side) // 2
        size = (self.image_size, self.image_size)
        return image.resize(size, self._filter, box=(left, top, left + side, top + side))

    def _squash(self, image: Image.Image) -> Image.Image:
        return image.resize((self.image_size, self.image_size), self._filter)

    @property
    def _filter(self) -> Image.Resampling:
        return Image.Resampling[self.resample.upper()]
